#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# User instructions (callgrind) and system calls (strace) of one round trip of 64 bytes: rejoin against epoll by hand.
# Usage: pingpong.sh REJOIN_PROGRAM EPOLL_PROGRAM. Exit status: whether the bars hold.
set -euo pipefail
rejoin=$1 epoll=$2 work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

instructions() {  # of the difference between two lengths, so that starting up is not counted
    local n
    for n in 1000 11000; do
        valgrind --tool=callgrind --callgrind-out-file="$work/out.$n" --trace-children=no "$1" $n >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    done
    awk '/^summary:/ {print $2}' "$work/out.1000" "$work/out.11000" | awk 'NR==1 {a=$1} NR==2 {printf "%.1f\n", ($1-a)/10000}'
}
calls() {
    local n
    for n in 1000 11000; do strace -qq -c -U calls,name -o "$work/calls.$n" "$1" $n; done
    awk '$2 == "total" {print $1}' "$work/calls.1000" "$work/calls.11000" | awk 'NR==1 {a=$1} NR==2 {printf "%.2f\n", ($1-a)/10000}'
}

ri=$(instructions "$rejoin") ei=$(instructions "$epoll") rc=$(calls "$rejoin") ec=$(calls "$epoll")
printf 'ping-pong of 64 bytes, a round trip      rejoin     by hand    ratio      bar\n'
printf '  user instructions (callgrind)      %10s  %10s   %6.2f  <= 1.25\n' "$ri" "$ei" "$(awk "BEGIN {print $ri/$ei}")"
printf '  system calls (strace)              %10s  %10s   %6.2f   = 1.00\n' "$rc" "$ec" "$(awk "BEGIN {print $rc/$ec}")"
awk "BEGIN {exit !($ri <= 1.25*$ei && $rc <= 1.005*$ec)}"
