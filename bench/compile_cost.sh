#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# What the library costs its user before anything runs: the time to compile README's first program, against an empty main that includes
# <thread>, in one job; the stripped size of that program; the same for the smallest program that publishes over MQTT; the symbols that a
# unit emits which only includes the header.
# Usage: compile_cost.sh [--include DIR] [--at-most RATIO BYTES FUNCTIONS]. The exit status says whether the bars hold; with --at-most, whether
# these bounds do, so that a change for the worse is noticed while a bar is still missed. The ratio is one machine's, and may be a tenth higher
# on the next; how many functions README's program has at -O0, which is what takes the time, is not.
set -euo pipefail
cd "$(dirname "$0")/.."
include=include ratio_bound=1.0 size_bound=60000 functions_bound=0
while (($#)); do
    case $1 in
        --include) include=$2; shift 2 ;;
        --at-most) ratio_bound=$2 size_bound=$3 functions_bound=$4; shift 4 ;;
        *) sed -n '6,9s/^# //p' "$0"; exit 2 ;;
    esac
done
cxx=${CXX:-g++} work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <thread>\nint main() {}\n' >"$work/thread.cpp"
printf '#include <rejoin.hpp>\nint main() {}\n' >"$work/include_only.cpp"
cp examples/hello.cpp "$work/hello.cpp"
cat >"$work/publish.cpp" <<'END'
#include INCLUDE
int main() {
    using namespace rejoin;
    Loop loop;
    mqtt::Client<NoEvents, Tcp, FailFast> client{loop};
    client.on_delivery([&](mqtt::Token, Error, mqtt::Reason) { client.close(); });
    client.on_state([&](mqtt::ClientState state, const mqtt::Trouble&) { if (state == mqtt::ClientState::closed) loop.stop(); });
    client.connect({"127.0.0.1", 1883}, {});
    client.publish("hello", "world", mqtt::Qos::at_least_once);
    loop.run();
}
END
[ "$include" = include ] && publish=rejoin/mqtt_client.hpp || publish=rejoin/signal.hpp
sed -i "s|INCLUDE|<$publish>|" "$work/publish.cpp"

seconds() {  # of processor time, user and system
    local TIMEFORMAT='%U %S'
    { time "$cxx" -std=c++20 -O0 -I"$include" -c "$1" -o "$work/out.o"; } 2>&1 | awk '{print $1 + $2}'
}
for i in 1 2 3 4 5 6 7 8 9; do  # taken in turns, so that what else the machine does meets all alike
    for unit in thread include_only hello publish; do seconds "$work/$unit.cpp" >>"$work/$unit.times"; done
done
median() { sort -n "$work/$1.times" | sed -n 5p; }
ratio=$(awk "BEGIN {printf \"%.2f\", $(median hello) / $(median thread)}")
"$cxx" -std=c++20 -O2 -s -I"$include" "$work/hello.cpp" -o "$work/hello"
size=$(stat -c %s "$work/hello")
"$cxx" -std=c++20 -O0 -I"$include" -c "$work/include_only.cpp" -o "$work/include_only.o"
"$cxx" -std=c++20 -O0 -I"$include" -c "$work/hello.cpp" -o "$work/hello.o"
functions=$(nm --defined-only "$work/hello.o" | grep -ic ' [tw] ')
symbols=$(nm --defined-only "$work/include_only.o" | awk '{print $3}' | paste -sd' ')

held() { awk "BEGIN {exit !($1 <= $2)}" && echo held || echo MISSED; }
printf 'compile, -O0, processor seconds, medians of 9: README program %s, only the include %s, <thread> %s\n' \
    "$(median hello)" "$(median include_only)" "$(median thread)"
printf '  README program against <thread>: %s times (bar: at most 1.0) %s\n' "$ratio" "$(held "$ratio" 1.0)"
printf '  functions in it: %s\n' "$functions"
printf 'stripped size, -O2: %s bytes (bar: at most 60000) %s\n' "$size" "$(held "$size" 60000)"
"$cxx" -std=c++20 -O2 -s -I"$include" "$work/publish.cpp" -o "$work/publish"
publish_size=$(stat -c %s "$work/publish")
printf 'smallest publishing program: %s s (bar: under 1) %s, stripped %s bytes (bar: under 60000) %s\n' "$(median publish)" \
    "$(held "$(median publish)" 1)" "$publish_size" "$(held "$publish_size" 60000)"
printf 'symbols of an include-only unit: %s (bar: main alone) %s\n' "$symbols" "$([ "$symbols" = main ] && echo held || echo MISSED)"
[ "$symbols" = main ] && awk "BEGIN {exit !($ratio <= $ratio_bound && $size <= $size_bound && \
    ($functions_bound == 0 || $functions <= $functions_bound))}"
