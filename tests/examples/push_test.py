# SPDX-License-Identifier: BSL-1.0
"""push, with each program that takes a connection: push_test.py PUSH RELAY RECEIVERS WAY [TOOL], where TOOL runs or compiles the receiver."""
import os
import socket
import subprocess
import sys
import tempfile
import threading

push, relay, receivers, way = sys.argv[1:5]
tool = sys.argv[5] if len(sys.argv) > 5 else ""
if way not in ("io", "fds", "errors") and (not tool or tool.endswith("NOTFOUND")):
    print(f"skipped: nothing here runs the receiver for {way}")
    sys.exit(77)

listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(60)
port = listener.getsockname()[1]
temporary = tempfile.TemporaryDirectory()  # which nobody else can enter; gone at the end
folder = temporary.name
path = os.path.join(folder, "channel")


def line(stream):
    text = b""
    while not text.endswith(b"\n"):
        piece = stream.recv(1)
        assert piece, text
        text += piece
    return text


def conversation(greeting, early=b"early\n"):
    """What the server sees: its first words, sent before anybody can have listened, come back too."""
    server, _ = listener.accept()
    server.settimeout(60)
    server.sendall(early)
    assert line(server) == greeting, greeting
    assert line(server) == early
    big = b"".join(b"%d\n" % i for i in range(200000))
    sender = threading.Thread(target=server.sendall, args=(big,))
    sender.start()
    back = b""
    while len(back) < len(big):
        back += server.recv(65536)
    assert back == big
    sender.join()
    server.shutdown(socket.SHUT_WR)
    assert server.recv(10) == b""
    server.close()


def run(*arguments):
    return subprocess.Popen([push, *arguments])


def receiver():
    """Starts who listens at `path`."""
    if way == "python":
        command = [tool, os.path.join(receivers, "receiver.py"), path]
    elif way == "c":
        subprocess.run([tool, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", folder + "/receiver",
                        os.path.join(receivers, "receiver.c")], check=True)
        command = [folder + "/receiver", path]
    else:
        subprocess.run([tool, "build", "-o", folder + "/receiver", os.path.join(receivers, "receiver.go")], check=True,
                       env={**os.environ, "GOCACHE": folder + "/cache", "GO111MODULE": "off"})
        command = [folder + "/receiver", path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"listening\n"
    return process


there = f"127.0.0.1:{port}"
if way == "errors":
    for wrong in ([], ["host"], ["host:x"], ["host:0", "cat"], ["host:99999", "cat"], [there], ["--channel"], ["--channel", path],
                  ["--channel", path, there, "cat"], ["--nonsense", there, "cat"]):
        refused = subprocess.run([push, *wrong], capture_output=True, text=True)
        assert refused.returncode == 2 and refused.stderr.startswith("usage: push"), (wrong, refused)
    nowhere = subprocess.run([push, "--channel", path, there], capture_output=True, text=True)
    assert nowhere.returncode == 1 and path in nowhere.stderr, nowhere
    missing = subprocess.run([push, there, "/nonexistent/program"], capture_output=True, text=True)
    assert missing.returncode == 1 and "/nonexistent/program" in missing.stderr, missing
    status = subprocess.run([push, there, "sh", "-c", "exit 7"])
    assert status.returncode == 7, status
elif way == "io":
    pushing = run(there, "sh", "-c", "echo hello from sh; exec cat")
    conversation(b"hello from sh\n")
    assert pushing.wait() == 0
elif way == "fds":
    pushing = run("--listen-fds", there, "sh", "-c", 'echo "hello from $LISTEN_FDS $LISTEN_FDNAMES" >&3; exec cat <&3 >&3')
    conversation(b"hello from 1 connection\n")
    assert pushing.wait() == 0
elif way == "node":
    pushing = run("--node", there, tool, os.path.join(receivers, "receiver.js"))
    conversation(f"hello from Node, connected to {there}\n".encode())
    assert pushing.wait() == 0
else:
    name = {"python": "Python", "c": "C", "go": "Go"}[way]
    process = receiver()
    for _ in range(3):
        pushing = run("--channel", path, there)
        conversation(f"hello from {name}, connected to {there}\n".encode())
        assert pushing.wait() == 0
    # With a session behind it.
    resumable = subprocess.Popen([relay, "server", "127.0.0.1:0", there], stderr=subprocess.PIPE, text=True)
    at = resumable.stderr.readline().split()[-1]
    pushing = run("--resume", "--channel", path, at)
    conversation(f"hello from {name}, connected to {at}\n".encode())
    assert pushing.wait(60) == 0
    resumable.kill()
    process.kill()
