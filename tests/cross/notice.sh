#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# In a network namespace of its own: an address added to it is told by netwatch under Wine, sooner than it would be looked for.
set -euo pipefail
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip address add 192.0.2.7/24 dev v0
$wine "$dir/netwatch.exe" --json --for 60s >"$dir/netwatch.log" &
for ((i = 0; i < 600; ++i)); do grep -q '"state"' "$dir/netwatch.log" && break; sleep 0.1; done
sleep 1 # so that its notices are in place
before=$(date +%s%N)
ip address add 198.51.100.7/24 dev v0
for ((i = 0; i < 600; ++i)); do grep -q '"change":"address_added".*198.51.100.7' "$dir/netwatch.log" && break; sleep 0.1; done
after=$(date +%s%N)
/usr/lib/wine/wineserver64 -k || true
wait || true
((after - before < 5000000000)) || { cat "$dir/netwatch.log"; echo "told after $(((after - before) / 1000000)) ms"; exit 1; }
