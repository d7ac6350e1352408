# SPDX-License-Identifier: BSL-1.0
"""letin on real firewalls, each in namespaces of its own, with a second host that tries: letin_test.py WAY LETIN"""
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

HOST, HOST6, PEER = "10.77.0.1", "fd77::1", "10.77.0.2"
way, letin = sys.argv[1], sys.argv[2]


def run(command, **more):
    return subprocess.run(command, shell=isinstance(command, str), check=True, capture_output=True, text=True, **more).stdout


# ---- The prober, in the other host's namespace.

def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def scan_tcp():
    """The ports of which the host says anything itself: a program's answer, or that there is none."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    raw.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    source = random.randrange(20000, 30000)
    ends = socket.inet_aton(PEER) + socket.inet_aton(HOST)
    answered = set()

    def drain(wait):
        while select.select([raw], [], [], wait)[0]:
            packet = raw.recv(2048)
            tcp = packet[(packet[0] & 15) * 4:]
            if packet[12:16] == socket.inet_aton(HOST) and struct.unpack("!H", tcp[2:4])[0] == source:
                answered.add(struct.unpack("!H", tcp[:2])[0])

    for _ in range(2):
        for port in range(1, 65536):
            if port in answered:
                continue
            header = struct.pack("!HHLLBBHHH", source, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
            sum_of = checksum(ends + struct.pack("!BBH", 0, 6, len(header)) + header)
            raw.sendto(header[:16] + struct.pack("!H", sum_of) + header[18:], (HOST, 0))
            if port % 64 == 0:
                drain(0)
        drain(0.2)
    return sorted(answered)


def reaches(host, port, protocol):
    """Whether a program there answers."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) as s:
        s.settimeout(0.3)
        try:
            s.connect((host, port))
            s.send(b"?")
            return s.recv(1) == b"?"
        except OSError:
            return False


if way == "--probe":
    print(json.dumps(scan_tcp() if letin == "scan" else reaches(letin, int(sys.argv[3]), sys.argv[4])))
    sys.exit(0)

# ---- The laboratory: this process is in the first host's namespace, of network, mounts and processes.

if "LETIN_LAB" not in os.environ:
    tools = {"nft": ["nft"], "several": ["nft", "iptables", "iptables-legacy"], "iptables": ["nft", "iptables"], "legacy": ["nft", "iptables-legacy"],
             "firewalld": ["nft", "firewalld", "dbus-daemon"], "ufw": ["nft", "ufw"], "router": ["nft", "miniupnpd"]}[way]
    missing = [tool for tool in tools if shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None]
    works = subprocess.run(["unshare", "-n", "-m", "-p", "-f", "--mount-proc", "true"], capture_output=True).returncode == 0
    if missing or not works:
        print("skipped:", "no " + missing[0] if missing else "no namespaces can be made")
        sys.exit(77)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    sys.exit(subprocess.run(["unshare", "-n", "-m", "-p", "-f", "--mount-proc", sys.executable, __file__, way, letin],
                            env=dict(os.environ, LETIN_LAB="1")).returncode)

os.makedirs("/var/lib/rejoin", exist_ok=True)
run("mount -t tmpfs none /var/lib/rejoin && mount -t tmpfs none /run")
for folder in ["/etc/ufw", "/var/lib/ufw", "/lib/ufw", "/etc/firewalld", "/etc/default"]:
    if os.path.isdir(folder):  # what is written there is seen here alone
        run(f"mkdir -p /run/over/{folder} && cp -a {folder}/. /run/over/{folder} && mount --bind /run/over/{folder} {folder}")
peer = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
while os.readlink(f"/proc/{peer.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
    time.sleep(0.01)
at_peer = ["nsenter", "-t", str(peer.pid), "-n"]
run(f"""ip link set lo up; ip link add inside type veth peer name outside
ip link set outside netns {peer.pid}; ip link set inside up; ip addr add {HOST}/24 dev inside; ip -6 addr add {HOST6}/64 dev inside nodad
echo 0 >/proc/sys/net/ipv4/icmp_ratelimit""")
run(at_peer + ["sh", "-c", f"ip link set lo up; ip link set outside up; ip addr add {PEER}/24 dev outside; ip -6 addr add fd77::2/64 dev outside nodad"])

if way == "router":
    # The host is behind a router, which is this namespace; the other host is on the internet. Documentation's addresses would not do: the router
    # maps nothing where it has no address of the internet's.
    host = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
    while os.readlink(f"/proc/{host.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    at_host = ["nsenter", "-t", str(host.pid), "-n"]
    run(f"""ip addr flush dev inside; ip addr add 45.45.45.1/24 dev inside; echo 1 >/proc/sys/net/ipv4/ip_forward
ip link add lan type veth peer name eth0; ip link set eth0 netns {host.pid}; ip addr add 192.168.7.1/24 dev lan; ip link set lan up
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; ip -6 addr add 2a00:45::1/64 dev inside nodad
ip -6 addr add 2a00:46::1/64 dev lan nodad; ip -6 addr add fe80::1/64 dev lan nodad""")
    run(at_peer + ["sh", "-c", "ip addr flush dev outside; ip addr add 45.45.45.9/24 dev outside; ip -6 addr add 2a00:45::9/64 dev outside nodad;"
                   "ip -6 route add default via 2a00:45::1"])
    run(at_host + ["sh", "-c", "ip link set lo up; ip addr add 192.168.7.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.168.7.1;"
                   "ip -6 addr add 2a00:46::2/64 dev eth0 nodad; ip -6 route add default via fe80::1 dev eth0"])
    run(["nft", "-f", "-"], input="""table inet miniupnpd {
chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; ip6 nexthdr icmpv6 accept; jump miniupnpd; }
chain miniupnpd { }
chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
chain prerouting_miniupnpd { }
chain postrouting { type nat hook postrouting priority 100; oifname "inside" masquerade; jump postrouting_miniupnpd; }
chain postrouting_miniupnpd { }
chain input { type filter hook input priority -10; }
}
""".replace("; }", ";\n}"))
    with open("/run/miniupnpd.conf", "w") as conf:
        conf.write("ext_ifname=inside\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\nupnp_table_name=miniupnpd\n"
                   "upnp_nat_table_name=miniupnpd\nupnp_forward_chain=miniupnpd\nupnp_nat_chain=prerouting_miniupnpd\n"
                   "upnp_nat_postrouting_chain=postrouting_miniupnpd\nallow 1024-65535 192.168.7.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n")
    echo = """
import socket
s = socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("::", 7000)); s.listen(9)
print("ready", flush=True)
while True:
    c, _ = s.accept(); c.send(c.recv(9)); c.close()
"""
    server = subprocess.Popen(at_host + [sys.executable, "-c", echo], stdout=subprocess.PIPE)
    server.stdout.readline()

    def start():
        global began
        began = time.monotonic()
        daemon = subprocess.Popen(["miniupnpd", "-d", "-f", "/run/miniupnpd.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while ":5351" not in run("ss -Hlun"):
            assert daemon.poll() is None
        return daemon

    def reached(external):
        address, port = external.rsplit(":", 1)
        return json.loads(run(at_peer + [sys.executable, __file__, "--probe", address.strip("[]"), port, "tcp"]))

    def until(condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end

    def told(letting, family):
        """What it says next of that family, but that it is not mapped."""
        while True:
            line = letting.stdout.readline()
            assert line, "it ended"
            said = json.loads(line)
            if said["family"] == family and said["external"]:
                return said

    def mapped(family, external, method, before="", meanwhile=lambda letting: None):
        """By a user without privilege, from the start until a third host has been answered through it; and not any more once it is closed."""
        run("nft flush chain inet miniupnpd input; " + before)
        assert not reached(external)
        untouched = run("nft list ruleset")
        started = time.monotonic()
        letting = subprocess.Popen(at_host + ["setpriv", "--reuid", "65534", "--clear-groups", letin, "map", "7000/tcp", "--json"],
                                   stdout=subprocess.PIPE, text=True)  # which takes no privilege
        said = told(letting, family)
        took = time.monotonic() - started
        assert said == {"family": family, "external": external, "method": method, "error": 0}, said
        until(lambda: reached(external))
        print(f"{family}, {method}: mapped {took * 1000:.0f} ms after the program was started")
        meanwhile(letting)
        letting.send_signal(signal.SIGTERM)
        letting.stdout.read()
        assert letting.wait() == 0
        until(lambda: not reached(external))
        assert meanwhile == moved or run("nft list ruleset") == untouched

    def restarted(letting):
        """A router that has lost everything says so when it is back."""
        global daemon
        until(lambda: time.monotonic() - began > 4)  # a clock that has hardly begun does not show that it begins anew
        daemon.kill()
        daemon.wait()
        run("nft flush chain inet miniupnpd miniupnpd; nft flush chain inet miniupnpd prerouting_miniupnpd")
        assert not reached("45.45.45.1:7000")
        daemon = start()
        until(lambda: reached("45.45.45.1:7000"))

    def moved(letting):
        """The host has another address: what is mapped leads there."""
        run(at_host + ["sh", "-c", "ip addr del 192.168.7.2/24 dev eth0; ip addr add 192.168.7.3/24 dev eth0; ip route add default via 192.168.7.1"])
        # At 7000 the router keeps what nobody can take back, for as long as it was granted.
        while (external := told(letting, "IPv4")["external"]) == "45.45.45.1:7000":
            pass
        until(lambda: reached(external))

    # Of PCP, the version is dropped, so that it has to be NAT-PMP; of both, the port; and of these, that nobody is there.
    input_chain = "nft add rule inet miniupnpd input iifname lan udp dport 5351 "
    daemon = start()
    mapped("IPv4", "45.45.45.1:7000", "PCP")
    mapped("IPv4", "45.45.45.1:7000", "PCP", meanwhile=restarted)
    mapped("IPv4", "45.45.45.1:7000", "NAT-PMP", input_chain + "@th,64,8 2 drop")
    mapped("IPv4", "45.45.45.1:7000", "NAT-PMP", input_chain + "@th,64,8 2 drop", restarted)
    mapped("IPv4", "45.45.45.1:7000", "UPnP", input_chain + "drop")
    mapped("IPv4", "45.45.45.1:7000", "UPnP", input_chain + "reject")
    mapped("IPv6", "[2a00:46::2]:7000", "PCP")
    mapped("IPv6", "[2a00:46::2]:7000", "UPnP", input_chain + "drop")
    mapped("IPv4", "45.45.45.1:7000", "PCP", meanwhile=moved)
    print("ok")
    sys.exit(0)

SERVERS = """
import select, socket
all = []
for port in (22, 7000, 7001, 7002, 7005):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_INET6, kind); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("::", port)); all.append(s)
        if kind == socket.SOCK_STREAM: s.listen(64)
print("ready", flush=True)
while True:
    for s in select.select(all, [], [])[0]:
        try:
            if s.type == socket.SOCK_DGRAM: data, who = s.recvfrom(99); s.sendto(data, who)
            elif s.getsockname()[1:3] and s in all and s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN): all.append(s.accept()[0])
            else:
                data = s.recv(99)
                if data: s.send(data)
                else: all.remove(s); s.close()
        except OSError:
            if s in all: all.remove(s)
"""
servers = subprocess.Popen([sys.executable, "-c", SERVERS], stdout=subprocess.PIPE)
servers.stdout.readline()


def probe(*what):
    return json.loads(run(at_peer + [sys.executable, __file__, "--probe", *map(str, what)]))


def once(port, protocol="tcp", host=HOST):
    return probe(host, port, protocol)


def reached(port, protocol="tcp", host=HOST):
    """What is expected to be reached may take its time on a busy machine; what is not is tried once."""
    until = time.monotonic() + 30
    while not once(port, protocol, host):
        if time.monotonic() > until:
            return False
    return True


def tool(*words, by=[], before=None):
    done = subprocess.run([*by, letin, *words, "--json"], capture_output=True, text=True, preexec_fn=before)
    assert not done.stderr, done.stderr
    return json.loads(done.stdout), done.returncode


# ---- The firewalls.

NFT = """
table inet filter {
    set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
    chain input {
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        ip saddr @blocked drop
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        tcp dport { 22, 80, 8000-8003 } accept
        jump more
        reject
    }
    chain more { tcp dport 7005 counter drop; }
}
"""
if way in ("nft", "several"):
    run(["nft", "-f", "-"], input=NFT)
if way == "several":
    run(["nft", "-f", "-"], input="table ip other {\n chain early {\n type filter hook prerouting priority -100; tcp dport 6990-7010 drop;\n }\n}\n")
if way in ("iptables", "several"):
    for program in ("iptables", "ip6tables"):
        run(f"{program} -P INPUT DROP; {program} -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; {program} -A INPUT -i lo -j ACCEPT;"
            f"{program} -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT; {program} -A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT;"
            f"{program} -N TAIL; {program} -A INPUT -j TAIL; {program} -A TAIL -m comment --comment 'the \"rest\"' -j REJECT")
    run("ip6tables -I INPUT -p ipv6-icmp -j ACCEPT")
if way in ("legacy", "several"):
    run("iptables-legacy -P INPUT DROP; iptables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT;"
        "iptables-legacy -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT; iptables-legacy -A INPUT -s 192.0.2.0/24 -j DROP;"
        "ip6tables-legacy -P INPUT DROP; ip6tables-legacy -A INPUT -p ipv6-icmp -j ACCEPT; ip6tables-legacy -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT;"
        "ip6tables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
if way == "firewalld":
    os.makedirs("/run/dbus")
    run(["dbus-daemon", "--system", "--fork", "--nopidfile"])
    daemon = subprocess.Popen(["firewalld", "--nopid", "--nofork"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while subprocess.run(["firewall-cmd", "--state"], capture_output=True).returncode != 0:
        assert daemon.poll() is None
    # Two interfaces, in two zones: one of them lets 7005 in already.
    run("ip link add spare type veth peer name spare2; ip link set spare up; ip addr add 10.78.0.1/24 dev spare; firewall-cmd --zone=work --change-interface=spare;"
        "firewall-cmd --zone=work --add-port=7005/tcp")
if way == "ufw":
    run("ufw --force enable; ufw allow 22/tcp comment 'ssh'; ufw deny 7005/tcp")
    run("ufw allow 9999/tcp; ufw delete allow 9999/tcp")  # ufw itself adds rules of its own the first time it deletes one


def snapshot():
    """All rules there are, as their own tools print them."""
    if way in ("iptables", "several"):  # of whose comments nft prints nothing
        text = run("iptables-save; ip6tables-save")
        if way == "several":
            text += run("nft list table inet filter; nft list table ip other")
    else:
        text = run("nft list ruleset")
    if way in ("legacy", "several"):
        text += run("iptables-legacy-save; ip6tables-legacy-save")
    text = re.sub(r"packets \d+ bytes \d+|\[\d+:\d+\]|^#.*\n| expires \w+", "", text, flags=re.M)
    if way == "ufw":
        text += run("cd /etc/ufw && grep -r '' . | sort")
    if way == "firewalld":
        text += run("firewall-cmd --list-all-zones; firewall-cmd --permanent --list-all-zones")
    return text


def without_ours(text):
    """What others have made. Of what firewalld and ufw make of a rule, not every line carries its tag."""
    text = re.sub(r"\tset rejoin/.*?\n\t}\n\n", "", text, flags=re.S)
    ours = re.compile("rejoin" + (r"|dport (7000|7002) .*accept|applications.d|\.rules:$" if way in ("firewalld", "ufw") else ""))
    return [line for line in text.splitlines() if not ours.search(line)]


untouched = snapshot()
closed = probe("scan")
assert 22 in closed and 7000 not in closed and not once(7000) and reached(22), closed

# Looking changes nothing, and says what is in the way.
status, _ = tool("status")
assert status["gates"] and status["opened"] == [], status
report, code = tool("explain", "7000/tcp")
assert code == 0 and not report["let_in"] and [g for g in report["gates"] if g["stance"] == "blocks"], report
assert tool("explain", "22/tcp")[0]["let_in"]
assert snapshot() == untouched
expected = {"nft": {"nftables"}, "several": {"nftables", "iptables"}, "iptables": {"iptables"}, "legacy": {"iptables"}, "firewalld": {"firewalld"},
            "ufw": {"ufw"}}[way]
assert {g["system"] for g in report["gates"]} == expected, report

if way == "firewalld":
    assert {(g["where"], g["stance"]) for g in report["gates"]} == {("zone public", "blocks"), ("zone work", "blocks")}, report
    assert {(g["where"], g["stance"]) for g in tool("explain", "7005/tcp")[0]["gates"]} == {("zone public", "blocks"), ("zone work", "allows")}
    assert [g["where"] for g in tool("explain", "7000/tcp", "--interface", "inside")[0]["gates"]] == ["zone public"]

# Nobody without privilege changes anything, or is asked for a password: they are told what an administrator could type.
def as_nobody(*words):
    return tool(*words, by=["setpriv", "--reuid", "65534", "--clear-groups"])


started = time.monotonic()
told, code = as_nobody("explain", "7000/tcp")
print(f"explain without privilege: {(time.monotonic() - started) * 1000:.0f} ms")
assert code == 0 and not told["let_in"] and all(g["stance"] == "unknown" and g["command"] and g["inverse"] for g in told["gates"]), told
again, code = as_nobody("open", "7000/tcp")
assert code == 1 and not again["let_in"] and not again["changed"] and [g["command"] for g in again["gates"]] == [g["command"] for g in told["gates"]], again
assert as_nobody("close", "7000/tcp")[1] == 0
assert as_nobody("status")[0]["opened"] == [], as_nobody("status")
assert subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", letin, "clear"]).returncode == 0
assert snapshot() == untouched
tool("open", "7000/tcp")
wanted = snapshot()
tool("close", "7000/tcp")
for gate in told["gates"]:
    run(gate["command"].replace("sudo letin", letin))
assert snapshot() == wanted and reached(7000)
assert not as_nobody("close", "7000/tcp")[0]["changed"] and snapshot() == wanted
for gate in told["gates"]:
    run(gate["inverse"].replace("sudo letin", letin))
assert snapshot() == untouched

# On a kernel that knows no nf_tables, what there is of the older kind is seen all the same.
if way == "legacy" and os.uname().machine == "x86_64":
    def no_nf_tables():
        """Has the kernel refuse sockets of NETLINK_NETFILTER with EPROTONOSUPPORT (seccomp(2))."""
        import ctypes
        program = [(0x20, 0, 0, 0), (0x15, 0, 5, 41), (0x20, 0, 0, 16), (0x15, 0, 3, 16), (0x20, 0, 0, 32), (0x15, 0, 1, 12), (0x06, 0, 0, 0x50000 | 93),
                   (0x06, 0, 0, 0x7FFF0000)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
        class Program(ctypes.Structure):
            _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
        filter = Program(len(program), ctypes.addressof(code))
        assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(filter), 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

    old, code = tool("explain", "7000/tcp", before=no_nf_tables)
    assert [(g["where"], g["stance"], g["command"]) for g in old["gates"]] == [(g["where"], g["stance"], g["command"]) for g in report["gates"]], old

# Opened: that, and nothing else. Once more changes nothing.
report, code = tool("open", "7000/tcp")
assert code == 0 and report["let_in"] and report["changed"] and "unverified" in report["summary"], report
opened = snapshot()
assert reached(7000) and reached(7000, host=HOST6)
now = probe("scan")
assert set(now) - set(closed) == {7000} and not set(closed) - set(now), (now, closed)
assert without_ours(opened) == without_ours(untouched)
report, code = tool("open", "7000/tcp")
assert code == 0 and report["let_in"] and not report["changed"], report
assert snapshot() == opened
status, _ = tool("status")
assert [o["tag"] for o in status["opened"]] == ["rejoin:letin:tcp/7000"], status
tool("close", "7000/tcp")
assert snapshot() == untouched and not once(7000)

# What is denied in so many words, and what comes over UDP.
for what in ("7005/tcp", "7000-7002/udp"):
    report, code = tool("open", what)
    assert code == 0, report
    assert reached(7005) if what == "7005/tcp" else reached(7000, "udp") and reached(7002, "udp", HOST6)
    tool("close", what)
    assert snapshot() == untouched

# The commands that are printed do what `open` does, and take it back.
for how in ([], ["--for", "1h"], ["--interface", "inside"]):
    report, _ = tool("explain", "7000/tcp", *how)
    tool("open", "7000/tcp", *how)
    wanted = snapshot()
    tool("close", "7000/tcp")
    if how == ["--for", "1h"] and way in ("iptables", "legacy", "ufw"):
        assert "expires" not in wanted
    blocking = [g for g in report["gates"] if g["stance"] == "blocks"]
    for gate in blocking:
        run(gate["command"])
    assert snapshot() == wanted, (report, snapshot(), wanted)
    assert reached(7000)
    for gate in blocking:
        run(gate["inverse"])
    assert snapshot() == untouched, report

# For a time: the firewall closes it itself where it can, else the next start does.
report, code = tool("open", "7001/tcp", "--for", "5s")
assert code == 0 and reached(7001)
tool("open", "7001/tcp", "--for", "5s")  # and again for as long
until = time.monotonic() + 60
if way in ("nft", "firewalld"):
    while once(7001):
        assert time.monotonic() < until
else:
    while time.time() < tool("status")[0]["opened"][0]["until"]:
        assert time.monotonic() < until
tool_clear = subprocess.run([letin, "clear"], capture_output=True, text=True)
assert tool_clear.returncode == 0, tool_clear.stderr
assert snapshot() == untouched and not once(7001)

# Nobody noted it: the next start finds it by its tag. That of another program stays.
tool("open", "7000/tcp")
tool("open", "7001/tcp", "--app", "other")
os.unlink("/var/lib/rejoin/openings")
assert subprocess.run([letin, "clear"], capture_output=True).returncode == 0
assert not once(7000) and reached(7001)
tool("close", "7001/tcp", "--app", "other")
assert snapshot() == untouched

# Of what ufw has made for both families one half is left, as when it was killed: ufw alone would not take it away.
if way == "ufw":
    for rules in ("user.rules", "user6.rules"):
        tool("open", "7002/tcp", "--for", "1h")
        with open("/etc/ufw/" + rules) as file:
            half = re.sub(r"### tuple ### allow tcp 7002 .*\n-A .*\n\n?", "", file.read())
        with open("/etc/ufw/" + rules, "w") as file:
            file.write(half)
        os.unlink("/etc/ufw/applications.d/rejoin-letin-tcp-7002")
        os.unlink("/var/lib/rejoin/openings")
        run("ufw --force reload")
        assert snapshot() != untouched
        assert subprocess.run([letin, "clear"], capture_output=True).returncode == 0
        assert snapshot() == untouched, rules

# Killed at any point: what others have made is as it was, and the next start clears the rest.
random.seed(1)
started = time.monotonic()
tool("open", "7002/tcp", "--for", "1h")
whole = time.monotonic() - started
tool("close", "7002/tcp")
for round in range(12):
    for what in ("open", "close"):
        victim = subprocess.Popen([letin, what, "7002/tcp", *(["--for", "1h"] if what == "open" else [])], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(random.random() * whole)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        if way != "ufw":  # whose own program is killed with it, between what it writes and what it loads
            assert without_ours(snapshot()) == without_ours(untouched), what
if os.path.exists("/var/lib/rejoin/openings"):
    os.unlink("/var/lib/rejoin/openings")
if way == "ufw":  # whose own program was killed while it changed its files, or loaded them
    run("ufw --force reload")
assert subprocess.run([letin, "clear"], capture_output=True).returncode == 0
if way == "firewalld":
    tool("close", "7002/tcp")
# Where ufw is killed while it looks what iptables can do, chains stay that it makes for that: nothing jumps there.
rest = re.sub(r"\tchain ufw6?-caps-test\w+ {\n(\t\t.*\n)*\t}\n\n?", "", snapshot())
assert rest.split() == untouched.split(), (rest, untouched)
assert probe("scan") == closed
if way == "iptables":  # what another of its tables drops is opened there
    for program in ("iptables", "ip6tables"):
        run(f"{program} -t mangle -A PREROUTING -p tcp -m tcp --dport 7000 -j DROP")
    untouched = snapshot()
    report, code = tool("open", "7000/tcp")
    assert code == 0 and {g["where"] for g in report["gates"] if g["changed"]} == {
        "ip filter INPUT", "ip6 filter INPUT", "ip mangle PREROUTING", "ip6 mangle PREROUTING"}, report
    assert reached(7000) and reached(7000, host=HOST6)
    tool("close", "7000/tcp")
    assert snapshot() == untouched and not once(7000)
print("ok")
