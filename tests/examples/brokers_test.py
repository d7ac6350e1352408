# SPDX-License-Identifier: BSL-1.0
"""The tools that go over MQTT, with Mosquittos: brokers_test.py tools MQTT_PUB MQTT_SUB | signal SIGNAL | meet MEET"""
import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
if mosquitto is None:
    print("skipped: there is no mosquitto")
    sys.exit(77)


subprocesses = []


@atexit.register
def end():
    for process in subprocesses:
        process.kill()


class Broker:
    def __init__(self):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.conf = tempfile.NamedTemporaryFile("w", suffix=".conf")
        self.conf.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n")
        self.conf.flush()
        self.start()

    def start(self):
        self.process = subprocess.Popen([mosquitto, "-c", self.conf.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocesses.append(self.process)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()


class Tool:
    """A program whose lines are awaited."""

    def __init__(self, *arguments, cwd=None):
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd)
        subprocesses.append(self.process)

    def type(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def until(self, *parts):
        for line in self.process.stdout:
            if all(part in line for part in parts):
                return line
        raise AssertionError(f"ended without {parts}")

    def finish(self):
        self.process.stdin.close()
        for _ in self.process.stdout:
            pass
        assert self.process.wait() == 0


def tools(pub, sub):
    broker = Broker()
    there = ["-h", "127.0.0.1", "-p", str(broker.port)]
    for version in ["5", "311"]:
        for qos in ["0", "1", "2"]:
            a, how = f"a{version}{qos}", ["-V", version, "-q", qos]
            with subprocess.Popen([sub, *there, *how, "-t", f"{a}/+", "-v", "-C", "4"], stdout=subprocess.PIPE, text=True) as listener:
                # Retained: whichever of the two is there first.
                subprocess.run([pub, *there, *how, "-t", f"{a}/b", "-m", "kept", "-r"], check=True)
                assert listener.stdout.readline() == f"{a}/b kept\n"
                subprocess.run([pub, *there, *how, "-t", f"{a}/c", "-l"], input="one\n\nthree\n", text=True, check=True)
                assert listener.stdout.read() == f"{a}/c one\n{a}/c \n{a}/c three\n"
            assert listener.returncode == 0
    many = "".join(f"{i:01000}\n" for i in range(5000))  # more than is queued at a time
    with subprocess.Popen([sub, *there, "-q", "1", "-t", "many", "-C", "5001"], stdout=subprocess.PIPE, text=True) as listener:
        subprocess.run([pub, *there, "-q", "1", "-t", "many", "-m", "begin", "-r"], check=True)
        assert listener.stdout.readline() == "begin\n"
        subprocess.run([pub, *there, "-q", "1", "-t", "many", "-l"], input=many, text=True, check=True)
        assert listener.stdout.read() == many
    # What may not be is said.
    assert subprocess.run([pub, *there], stderr=subprocess.DEVNULL).returncode == 2
    assert subprocess.run([pub, *there, "-t", "a/#", "-m", "x"], stderr=subprocess.DEVNULL).returncode == 2
    assert subprocess.run([sub, *there, "-t", "a/#/b"], stderr=subprocess.DEVNULL).returncode == 2
    broker.kill()


def chat(program):
    brokers = [Broker() for _ in range(3)]
    at = [f"127.0.0.1:{broker.port}" for broker in brokers]
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = os.path.join(folder, "ours"), os.path.join(folder, "theirs")
        os.mkdir(ours), os.mkdir(theirs)
        content = os.urandom(3_000_000)
        with open(os.path.join(ours, "photo"), "wb") as file:
            file.write(content)
        alice = Tool(program, "--key", "what both were told", "alice", "bob", *at, cwd=ours)
        bob = Tool(program, "--key", "what both were told", "bob", "alice", *at, cwd=theirs)
        alice.type("hello")
        bob.until("alice: hello")
        for victim in range(3):
            brokers[victim].kill()
            for peer in (alice, bob):
                peer.until(at[victim], "is gone")
            alice.type(f"without {victim}")
            bob.until(f"alice: without {victim}")
            alice.type(f"/file {os.path.join(ours, 'photo')}")
            bob.until("photo", "has arrived")
            with open(os.path.join(theirs, "photo" if victim == 0 else f"photo.{victim}"), "rb") as file:
                assert file.read() == content
            brokers[victim].start()
            for peer in (alice, bob):
                peer.until(at[victim], "is there")
        alice.type("/brokers")
        for _ in range(3):
            alice.until("alive")
        alice.finish()
        bob.finish()
    assert subprocess.run([program, "alice", "bob"], stderr=subprocess.DEVNULL).returncode == 2
    assert subprocess.run([program, "a/b", "bob", at[0]], stderr=subprocess.DEVNULL).returncode == 2
    for broker in brokers:
        broker.kill()


def meet(program):
    brokers = [Broker(), Broker()]
    at = [f"127.0.0.1:{broker.port}" for broker in brokers]
    brokers[0].kill()
    # Not into a pipe, which a C library fills before anything is seen: onto a terminal, as people do.
    lines = {}
    for me, peer in [("alice", "bob"), ("bob", "alice")]:
        ours, theirs = os.openpty()
        subprocesses.append(subprocess.Popen([program, me, peer, *at], stdout=theirs))
        os.close(theirs)
        lines[me] = os.fdopen(ours)
    for me in lines:
        assert {lines[me].readline().strip(), lines[me].readline().strip()} == {"here I am", "arrived"}
    brokers[1].kill()


signal.signal(signal.SIGALRM, lambda *_: sys.exit("too late"))
signal.alarm(200)
{"tools": tools, "signal": chat, "meet": meet}[sys.argv[1]](*sys.argv[2:])
