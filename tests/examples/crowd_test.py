# SPDX-License-Identifier: BSL-1.0
"""A crowd of clients, while its server is taken over or its workers are killed: crowd_test.py takeover|workers|errors CROWD SERVER."""
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading

way, crowd, server = sys.argv[1:4]


class Crowd:
    def __init__(self, at, *options):
        self.process = subprocess.Popen([crowd, *options, at], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def notes(self):
        """What was noticed so far."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return {name: float(n) for name, n in (word.split("=") for word in self.process.stdout.readline().split())}

    def until(self, done):
        """Asks again until that is so."""
        while True:
            notes = self.notes()
            if done(notes):
                return notes

    def more(self, n=2):
        """So many more answers for each session, on average."""
        start = self.notes()["answered"]
        return self.until(lambda notes: notes["answered"] > start + n * notes["talking"])

    def finish(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


def start(*arguments):
    return subprocess.Popen([server, *arguments], stdout=subprocess.PIPE, text=True)


def address(line):
    return re.search(r"serving at (\S+:\d+)", line).group(1)


if way == "takeover":
    sessions = 1000
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "server")
        running = start(path, "127.0.0.1:0")
        at = address(running.stdout.readline())
        talkers = Crowd(at, "--sessions", str(sessions), "--every", "100")
        for _ in range(3):
            successor = start(path, at)
            said = successor.stdout.readline()
            assert address(said) == at and int(re.search(r"(\d+) sessions", said).group(1)) == sessions, said
            assert running.wait() == 0
            running = successor
            notes = talkers.more()
            print(notes)
            assert notes["wrong"] == notes["refused"] == notes["broken"] == notes["lost"] == 0, notes
        # One that dies when it has taken the first: the one that runs goes on with what was not taken.
        broken = subprocess.Popen([sys.executable, "-c", f"""
import array, os, socket
channel = socket.socket(socket.AF_UNIX)
channel.connect({path!r})
channel.recvmsg(100, socket.CMSG_LEN(4))
os._exit(0)
"""])
        assert broken.wait() == 0
        assert address(running.stdout.readline()) == at
        notes = talkers.more()
        assert notes["wrong"] == notes["broken"] == notes["lost"] == 0, notes
        talkers.finish()
        running.kill()
elif way == "workers":
    supervisor = start("--workers", "3", "127.0.0.1:0")
    at = address(supervisor.stdout.readline())
    processes = [int(supervisor.stdout.readline().split()[-1]) for _ in range(3)]
    # Connections break, and come back to whichever worker is the first to take them.
    talkers = Crowd(at, "--sessions", "60", "--cut", "10")
    notes = talkers.until(lambda notes: notes["resumed"] >= 200)
    assert notes["wrong"] == notes["lost"] == 0, notes
    # Killed and started anew under load: only what the dead one held is lost, and begins again.
    for round in range(6):
        before = talkers.notes()
        os.kill(processes[round % 3], signal.SIGKILL)
        place, process = re.search(r"worker (\d+) is process (\d+)", supervisor.stdout.readline()).groups()
        assert int(place) == round % 3
        processes[int(place)] = int(process)
        notes = talkers.until(lambda notes: notes["talking"] == 60 and notes["resumed"] > before["resumed"] + 30)
        print(notes)
        assert notes["wrong"] == 0, notes
    talkers.finish()
    supervisor.kill()
    supervisor.wait()
    for process in processes:  # they end with their supervisor
        while os.path.exists(f"/proc/{process}") and open(f"/proc/{process}/stat").read().split()[2] != "Z":
            threading.Event().wait(0.01)
else:
    for arguments in ([], ["x"], ["--workers", "0", "127.0.0.1:0"], ["--workers", "x", "127.0.0.1:0"], ["name", "127.0.0.1:x"]):
        refused = subprocess.run([server, *arguments], capture_output=True, text=True)
        assert refused.returncode == 2 and refused.stderr.startswith("usage: "), (arguments, refused)
    for arguments in ([], ["x"], ["--sessions", "0", "127.0.0.1:1"], ["--sessions", "x", "127.0.0.1:1"], ["--x", "1", "127.0.0.1:1"]):
        refused = subprocess.run([crowd, *arguments], capture_output=True, text=True)
        assert refused.returncode == 2 and refused.stderr.startswith("usage: crowd"), (arguments, refused)
