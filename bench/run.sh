#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Runs every benchmark, and the two long counts of what outages cost (the demo's and the simulation's), one at a time, on a machine that
# should do nothing else meanwhile. Root is needed for those on real links.
# Usage: run.sh BUILD. The exit status is that of the worst: 0 when every bar is held.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd) build=${1:?usage: run.sh BUILD} status=0
bench=$build/bench
for run in "$build/examples/demo --cuts 1000" "$build/tests/sim_test" "$bench/stream_bench" "$bench/memory_bench" "$bench/network_bench" \
    "$bench/outage_bench" "$bench/outages" "$bench/handoff_bench" "$bench/session_push_bench" "$bench/mqtt_bench" \
    "$bench/broker_bench" "$bench/signal_bench" "$here/firewall/count.sh $bench/firewall_work" \
    "$here/takeover.sh $build" "$here/pingpong/pingpong.sh $bench/pingpong_rejoin $bench/pingpong_epoll" "$here/compile_cost.sh"; do
    printf '\n== %s\n' "$(basename "${run%% *}")"
    $run || status=1
done
exit $status
