# SPDX-License-Identifier: BSL-1.0
"""netwatch on a host of its own: what it says in JSON is what happens, and what it cannot understand it refuses."""
import ctypes
import json
import os
import subprocess
import sys

netwatch = sys.argv[1]

# ---- Arguments: refused with the usage, on the error channel.
for wrong in (["--nonsense"], ["--for"], ["--for", "0s"], ["--for", "10"], ["--for", "-1s"], ["--stun"], ["--stun", "host:0"],
              ["--stun", "host:99999"], ["--stun", ""], ["--stun", "a b"], ["--once", "extra"]):
    refused = subprocess.run([netwatch, *wrong], capture_output=True, text=True)
    assert refused.returncode == 2 and not refused.stdout and refused.stderr.startswith("usage: netwatch"), (wrong, refused)
short = subprocess.run([netwatch, "--for", "10ms"], capture_output=True, text=True)
assert short.returncode == 0 and "name servers" in short.stdout and "\033" not in short.stdout, short

# ---- A host of its own.
if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:  # CLONE_NEWNET
    print("skipped: needs root, to make a network namespace")
    sys.exit(77)


def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True)


ip("link set lo up")
ip("link add v0 type veth peer name v1")
for link in ("v0", "v1"):
    ip(f"link set {link} addrgenmode none")
    ip(f"link set {link} up")
ip("address add 192.0.2.7/24 dev v0")
ip("route add default via 192.0.2.1")

watch = subprocess.Popen([netwatch, "--json", "--for", "100s"], stdout=subprocess.PIPE, text=True)


def line():
    """The next line, as the object that it has to be."""
    said = json.loads(watch.stdout.readline())
    assert said["time"].endswith("Z"), said
    return said


def wait_for(change, **fields):
    while True:
        said = line()
        if said["change"] == change and all(said.get(key) == value for key, value in fields.items()):
            assert said["text"].endswith(".") and isinstance(said["major"], bool), said
            return said


state = line()["state"]
v0 = next(i for i in state["interfaces"] if i["name"] == "v0")
assert v0["up"] and v0["carrier"] and v0["addresses"][0]["address"] == "192.0.2.7" and v0["addresses"][0]["prefix_length"] == 24
assert state["routes"] == [{"family": "IPv4", "interface_index": v0["index"], "gateway": "192.0.2.1", "source": "192.0.2.7"}], state
assert isinstance(state["name_servers"], list) and state["external"] == []

ip("address add 192.0.2.8/24 dev v0")
wait_for("address_added", interface="v0", address="192.0.2.8", family="IPv4")
wait_for("address_usable", address="192.0.2.8")
ip("route replace default via 192.0.2.2")
assert wait_for("route_changed", gateway="192.0.2.2")["major"]
ip("link set v1 down")
assert wait_for("carrier_down", interface="v0")["major"]
wait_for("connectivity_lost")
ip("link set v1 up")
wait_for("carrier_up", interface="v0")
odd = 'q"\\\u00e4\xff'.encode("latin-1")  # quotes, a backslash, and bytes that are no UTF-8
subprocess.run([b"ip", b"link", b"add", b"name", odd, b"type", b"veth", b"peer", b"name", b"p"], check=True)
wait_for("interface_added", interface='q"\\\ufffd\ufffd')
watch.kill()
watch.wait()
print("netwatch said what happened")
