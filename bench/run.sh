#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Runs every benchmark, one at a time, on a machine that should do nothing else meanwhile. Root is needed for those on real links.
# Usage: run.sh BUILD/bench. The exit status is that of the worst: 0 when every bar is held.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd) build=${1:?usage: run.sh BUILD/bench} status=0
for run in "$build/stream_bench" "$build/memory_bench" "$build/network_bench" "$build/outage_bench" \
    "$here/pingpong/pingpong.sh $build/pingpong_rejoin $build/pingpong_epoll" "$here/compile_cost.sh"; do
    printf '\n== %s\n' "$(basename "${run%% *}")"
    $run || status=1
done
exit $status
