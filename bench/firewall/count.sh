#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# System calls that it takes to let a port in: by netlink, and by nft(8), which lists the ruleset and is told. What both spend on being started
# is taken off. count.sh WORK
set -euo pipefail
command -v strace >/dev/null || { echo "skipped: no strace"; exit 0; }
[ -n "${inside:-}" ] || exec env inside=1 unshare -n "$0" "$(realpath "$1")"
nft -f - <<'RULES'
table inet filter {
    set blocked { type ipv4_addr; elements = { 192.0.2.1 }; }
    chain input {
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state established,related accept
        ip saddr @blocked drop
        tcp dport { 22, 80, 443 } accept
    }
}
RULES
calls() { strace -f -o /dev/stdout "$@" 2>/dev/null | grep -cE '^[0-9]+ +[a-z_0-9]+\('; }
work=$(($(calls "$1") - $(calls "$1" none)))
list=$(calls nft -a list ruleset)
add=$(calls nft add rule inet filter input tcp dport 7001 accept)
nft=$((list + add - 2 * $(calls nft --version)))
awk -v a="$work" -v b="$nft" -v c="$((list + add))" 'BEGIN {
    printf "system calls to let a port in: %d by netlink, %d by nft, besides being started (%d with that): %.2f times (bar: at most 0.10) %s\n",
           a, b, c, a / b, a <= b / 10 ? "held" : "MISSED" }'
