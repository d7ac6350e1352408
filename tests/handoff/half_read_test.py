# SPDX-License-Identifier: BSL-1.0
"""A conversation with a real server, begun in one process and finished in another: half_read_test.py HALF_READ http|redis [SERVER]."""
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time

half_read, way = sys.argv[1:3]


def talk(port, request, sent, read):
    return subprocess.run([half_read, str(port), str(sent), str(read)], input=request, stdout=subprocess.PIPE, check=True).stdout


if way == "http":
    content = random.Random(1).randbytes(3_000_000)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "file"), "wb") as file:
            file.write(content)
        server = subprocess.Popen([sys.executable, "-u", "-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "127.0.0.1", "--directory",
                                   folder, "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = int(re.search(r"port (\d+)", server.stdout.readline()).group(1))
        asked = b"GET /file HTTP/1.1\r\nHost: here\r\n\r\n"
        last = b"GET /file HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        # Half of the first answer is read here, the rest and a second one there.
        for read in (1, 100, 1_500_001, 2_999_999):
            answers = talk(port, asked + last, len(asked), read)
            for left in range(2):
                head, answers = answers.split(b"\r\n\r\n", 1)
                assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
                assert answers[:len(content)] == content
                answers = answers[len(content):]
            assert answers == b""
        server.kill()
else:
    if len(sys.argv) < 4 or sys.argv[3].endswith("NOTFOUND"):
        print("skipped: no redis-server here")
        sys.exit(77)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.argv[3], "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", "/tmp"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            assert server.poll() is None
            time.sleep(0.01)
    # A pipeline of commands: some of them are sent there, and some answers are half read here.
    commands = 20_000
    for sent, read in ((8 * 12_345, 50_001), (8 * 20_000, 1), (8, 3)):
        answers = talk(port, b"SET n 0\r\n" + b"INCR n\r\n" * commands + b"QUIT\r\n", 9 + sent, read)
        expected = b"+OK\r\n" + b"".join(b":%d\r\n" % (n + 1) for n in range(commands)) + b"+OK\r\n"
        assert answers == expected, (len(answers), len(expected))
    server.kill()
