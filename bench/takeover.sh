#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# A server with 1,000 live sessions, each of which asks again 50 ms after an answer, is taken over ten times: what the clients notice. The same
# crowd, left alone, beside it.
# Usage: takeover.sh BUILD
set -euo pipefail
examples=${1:?usage: takeover.sh BUILD}/examples
folder=$(mktemp -d)
mkfifo "$folder/ask" "$folder/said"
trap 'kill $(jobs -p) 2>/dev/null; rm -r "$folder"' EXIT

crowd() {
    "$examples/crowd" --sessions 1000 --every 50 "$at" <"$folder/ask" >"$folder/said" &
    exec 3>"$folder/ask" 4<"$folder/said"
    read -r -u 4  # ready
}
notes() {
    echo >&3
    read -r -u 4 line
    echo "$line"
}
server() {
    coproc serving { exec "$examples/takeover" "$folder/server" "${at:-127.0.0.1:0}"; }
    read -r line <&"${serving[0]}"
    at=$(grep -o '127.0.0.1:[0-9]*' <<<"$line")
}

server
crowd
sleep 5
alone=$(notes)
exec 3>&- 4<&-
crowd
for _ in {1..10}; do
    server 2>/dev/null
    sleep 0.5
done
taken_over=$(notes)
printf 'alone:      %s\ntaken over: %s\n' "$alone" "$taken_over"
for nothing in wrong refused broken lost; do
    grep -q " $nothing=0 " <<<"$taken_over" || { echo "MISSED: $nothing"; exit 1; }
done
longest=$(grep -o 'longest_ms=[0-9]*' <<<"$taken_over" | cut -d= -f2)
((longest < 100)) && echo "longest silence under 100 ms: held" || { echo "longest silence under 100 ms: MISSED"; exit 1; }
