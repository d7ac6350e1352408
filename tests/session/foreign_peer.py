#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""A second client of the session protocol, written from include/rejoin/session/README.md with Python's standard library alone.

    foreign_peer.py SERVER       talks to that test server: opens sessions, cuts connections in the middle of frames, resumes, ends in order
    foreign_peer.py --readme F   checks that the worked example in that README is what this implementation computes
    foreign_peer.py --seeds D    writes the seeds of the session's fuzz targets to folders in D
"""
import hashlib
import hmac
import os
import random
import re
import socket
import struct
import subprocess
import sys

HELLO, WELCOME, RESUME, RESUMED, CONFIRM, REFUSED = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
DATA, ACK, PING, PONG, FIN, GOODBYE, ABORT = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
MAGIC = b"RJN\x01"
WINDOW = 65536


class Refused(Exception):
    pass


class Closed(Exception):
    pass


def frame(kind, payload=b""):
    return bytes([kind]) + len(payload).to_bytes(3, "big") + payload


def mac(key, *pieces):
    return hmac.new(key, b"".join(pieces), hashlib.sha256).digest()


def pre_shared_key(secret):
    return hashlib.sha256(secret).digest()


def hello_payload(nonce, window=WINDOW, flags=0):
    return MAGIC + struct.pack(">II", flags, window) + nonce


def resume_payload(session_id, epoch, nonce, window=WINDOW):
    return MAGIC + struct.pack(">I", window) + session_id + struct.pack(">Q", epoch) + nonce


def confirm_payload(key, request, body, received, going_on_from):
    offsets = struct.pack(">QQ", received, going_on_from)
    return offsets + mac(key, b"rejoin proof C", request, body, offsets)


class Connection:
    """Frames over one TCP connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)  # a time that only a failure takes
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, n):
        data = b""
        while len(data) < n:
            try:
                piece = self.socket.recv(n - len(data))
            except ConnectionResetError:
                raise Closed from None
            if not piece:
                raise Closed
            data += piece
        return data

    def read_frame(self):
        header = self.read(4)
        return header[0], self.read(int.from_bytes(header[1:], "big"))

    def write(self, data):
        self.socket.sendall(data)

    def close(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def answer(self, kind, size):
        got, payload = self.read_frame()
        if got == REFUSED:
            raise Refused(payload[0])
        assert (got, len(payload)) == (kind, size), (got, payload)
        return payload


class Client:
    """One session."""

    def __init__(self, port, psk=None):
        self.port, self.psk = port, psk
        self.epoch = 0
        self.sent = b""  # all of our stream
        self.acknowledged = 0  # the server has everything before this offset
        self.received = 0  # the next offset of the server's stream
        self.echo = b""
        self.pongs = []
        self.peer_finished = self.finished = self.goodbye = False
        connection = Connection(port)
        request = hello_payload(os.urandom(16), flags=0 if psk is None else 1)
        connection.write(frame(HELLO, request))
        payload = connection.answer(WELCOME, 100)
        body, key, proof = payload[:36], payload[36:68], payload[68:]
        self.session_id = body[4:20]
        if psk is not None:
            assert key == bytes(32)
            key = mac(psk, b"rejoin key ", request, body)
        assert hmac.compare_digest(proof, mac(key, b"rejoin proof S", request, body))
        self.key = key
        connection.write(frame(CONFIRM, confirm_payload(key, request, body, 0, 0)))
        self.connection, self.position = connection, 0

    def ask(self):
        """The first half of a resume."""
        self.epoch += 1
        connection = Connection(self.port)
        request = resume_payload(self.session_id, self.epoch, os.urandom(16))
        connection.write(frame(RESUME, request))
        payload = connection.answer(RESUMED, 60)
        body, proof = payload[:28], payload[28:]
        assert hmac.compare_digest(proof, mac(self.key, b"rejoin proof S", request, body))
        return connection, request, body

    def resume(self, asked=None):
        connection, request, body = asked or self.ask()
        there = struct.unpack(">Q", body[4:12])[0]
        assert there <= len(self.sent) + self.finished
        self.position = max(there, self.acknowledged)
        self.acknowledged = self.position
        connection.write(frame(CONFIRM, confirm_payload(self.key, request, body, self.received, self.position)))
        self.connection = connection
        rest = self.sent[self.position :]
        if rest:
            self.write_data(rest)
        if self.finished and self.position == len(self.sent):
            self.position += 1
            self.connection.write(frame(FIN))

    def write_data(self, data):
        self.connection.write(frame(DATA, data))
        self.position += len(data)

    def send(self, data):
        self.sent += data
        self.write_data(data)

    def send_cut(self, data, at):
        """A data frame of which only the first `at` bytes, header included, are written."""
        self.sent += data
        self.connection.write(frame(DATA, data)[:at])

    def finish(self):
        self.finished = True
        self.position += 1
        self.connection.write(frame(FIN))

    def take(self):
        """Reads one frame and does what it asks for."""
        kind, payload = self.connection.read_frame()
        if kind == DATA:
            assert payload and not self.peer_finished
            self.echo += payload
            self.received += len(payload)
            self.connection.write(frame(ACK, struct.pack(">Q", self.received)))
        elif kind == ACK:
            offset = struct.unpack(">Q", payload)[0]
            assert offset <= self.position
            self.acknowledged = max(self.acknowledged, offset)
        elif kind == PING:
            self.connection.write(frame(PONG, payload))
        elif kind == PONG:
            self.pongs.append(payload)
        elif kind == FIN:
            assert not payload and not self.peer_finished
            self.peer_finished = True
            self.received += 1
            self.connection.write(frame(ACK, struct.pack(">Q", self.received)))
        elif kind == GOODBYE:
            assert not payload and self.peer_finished and self.finished
            self.goodbye = True
        else:
            raise AssertionError(f"frame {kind:#x} {payload.hex()}")

    def take_cut(self, rng):
        """Reads a part of a data frame, as far as it is there to be delivered."""
        kind, length = struct.unpack(">B3s", self.connection.read(4))
        length = int.from_bytes(length, "big")
        part = self.connection.read(rng.randrange(length + 1))
        if kind == DATA:
            self.echo += part
            self.received += len(part)


def refusal(f):
    try:
        f()
    except Refused as refused:
        return refused.args[0]
    return None


def until_closed(connection):
    data = b""
    try:
        while True:
            data += connection.read(1)
    except Closed:
        return data


class Server:
    def __init__(self, program, secret=None):
        arguments = [program] + ([secret.hex()] if secret else [])
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def heard(self):
        """What the next session to end had received: how much, and its SHA-256."""
        return self.process.stdout.readline().split()


def cuts(port, psk, seed, server):
    """One session over many connections."""
    rng = random.Random(seed)
    client = Client(port, psk)
    for round_ in range(30):
        client.send(rng.randbytes(rng.randrange(1, 5000)))
        how = rng.randrange(4)
        if how == 0:  # in the middle of a frame that is being sent
            data = rng.randbytes(rng.randrange(1, 3000))
            client.send_cut(data, rng.randrange(len(data) + 4))
        elif how == 1:  # in the middle of one that is being received
            client.take_cut(rng)
        elif how == 2:  # the old connection goes on delivering, and acknowledging, after the server was asked
            asked = client.ask()
            more = rng.randbytes(rng.randrange(1, 3000))
            client.send(more)
            while len(client.echo) < len(client.sent) or client.acknowledged < len(client.sent):
                client.take()
            old = client.connection
            client.resume(asked)
            until_closed(old)  # fenced
            continue
        else:
            client.take()
        client.connection.close(reset=rng.randrange(2) == 0)
        client.resume()
    client.connection.write(frame(PING, b"whatever"))
    while len(client.echo) < len(client.sent) or not client.pongs:
        client.take()
    assert client.pongs == [b"whatever"]

    client.finish()
    if rng.randrange(2) == 0:  # the end survives a cut too
        client.connection.close()
        client.resume()
    while not client.goodbye:
        client.take()
    client.connection.close()
    assert client.echo == client.sent, "bytes were lost, repeated or reordered"
    client.ask()[0].close()  # the server keeps it a little longer, for a client that missed GOODBYE
    assert server.heard() == [str(len(client.sent)), hashlib.sha256(client.sent).hexdigest()]


def refusals(port, psk):
    """Whatever is not a session's own client is told so, or hung up on, and changes nothing."""
    client = Client(port, psk)
    client.send(b"before")
    while client.echo != b"before":
        client.take()

    def ask(payload, kind=RESUME, size=60):
        connection = Connection(port)
        connection.write(frame(kind, payload))
        connection.answer(kind + 1, size)

    nonce = os.urandom(16)
    assert refusal(lambda: ask(b"RJN\x02" + bytes(40), HELLO)) == 1
    assert refusal(lambda: ask(b"RJN\x02" + bytes(10))) == 1
    assert refusal(lambda: ask(resume_payload(os.urandom(16), 1, nonce))) == 2
    assert refusal(lambda: ask(hello_payload(nonce, flags=0 if psk else 1), HELLO, 100)) == 4
    for bad in (b"HTTP", frame(0x10, b"x"), frame(HELLO), frame(HELLO, bytes(28)), frame(RESUME, bytes(101)), bytes(4),
                frame(HELLO, hello_payload(nonce, window=4095)), frame(HELLO, hello_payload(nonce, window=2**30 + 1)),
                frame(HELLO, hello_payload(nonce, flags=2)), frame(RESUME, resume_payload(client.session_id, 0, nonce))):
        connection = Connection(port)
        connection.write(bad + bytes(8 if bad == b"HTTP" else 0))
        assert until_closed(connection) == b"", bad
    # A proof that is not one; a claim that cannot be.
    for spoil in (lambda key, *rest: confirm_payload(bytes(32), *rest),
                  lambda key, request, body, received, start: confirm_payload(key, request, body, received + 1, start),
                  lambda key, request, body, received, start: confirm_payload(key, request, body, received, start + 1)):
        connection, request, body = client.ask()
        there = struct.unpack(">Q", body[4:12])[0]
        connection.write(frame(CONFIRM, spoil(client.key, request, body, client.received, there)) + frame(DATA, b"evil"))
        assert until_closed(connection) == b""
    # None of it touched the session, and its epoch is still the client's own.
    client.send(b", after")
    while client.echo != b"before, after":
        client.take()
    client.resume()
    assert refusal(lambda: ask(resume_payload(client.session_id, client.epoch, nonce))) == 5
    client.finish()
    while not client.goodbye:
        client.take()


EXAMPLE = {
    "client nonce": bytes(range(0x00, 0x10)),
    "server nonce": bytes(range(0x10, 0x20)),
    "session id": bytes(range(0x20, 0x30)),
    "session key": bytes(range(0x30, 0x50)),
    "secret": b"correct horse battery staple",
}


def example():
    """The frames of the worked example, in order, by name."""
    nonce, answer_nonce, session_id = EXAMPLE["client nonce"], EXAMPLE["server nonce"], EXAMPLE["session id"]
    out = {}
    for name, psk in (("new", None), ("new, pre-shared", pre_shared_key(EXAMPLE["secret"]))):
        request = hello_payload(nonce, 0x100000, 0 if psk is None else 1)
        body = struct.pack(">I", 0x10000) + session_id + answer_nonce
        key = EXAMPLE["session key"] if psk is None else mac(psk, b"rejoin key ", request, body)
        out[f"{name}: HELLO"] = frame(HELLO, request)
        sent_key = key if psk is None else bytes(32)
        out[f"{name}: WELCOME"] = frame(WELCOME, body + sent_key + mac(key, b"rejoin proof S", request, body))
        out[f"{name}: CONFIRM"] = frame(CONFIRM, confirm_payload(key, request, body, 0, 0))
    out["stream: DATA"] = frame(DATA, b"hello")
    out["stream: ACK"] = frame(ACK, struct.pack(">Q", 5))
    out["stream: PING"] = frame(PING, struct.pack(">Q", 1000))
    out["stream: PONG"] = frame(PONG, struct.pack(">Q", 1000))
    request = resume_payload(session_id, 1, nonce, 0x100000)
    body = struct.pack(">IQ", 0x10000, 5) + answer_nonce
    key = EXAMPLE["session key"]
    out["resume: RESUME"] = frame(RESUME, request)
    out["resume: RESUMED"] = frame(RESUMED, body + mac(key, b"rejoin proof S", request, body))
    out["resume: CONFIRM"] = frame(CONFIRM, confirm_payload(key, request, body, 3, 5))
    out["refuse: REFUSED"] = frame(REFUSED, b"\x02")
    out["end: FIN"] = frame(FIN)
    out["end: ACK"] = frame(ACK, struct.pack(">Q", 6))
    out["end: GOODBYE"] = frame(GOODBYE)
    out["end: ABORT"] = frame(ABORT, b"\x00")
    return out


def check_readme(path):
    """Each frame of the example stands in the README under its name, in hexadecimal, over one line or several."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    written = {}
    for block in re.findall(r"^```hex\n(.*?)^```", text, re.M | re.S):
        name = None
        for line in block.splitlines():
            match = re.match(r"([a-z, -]+: [A-Z]+) +(.*)", line)
            if match:
                name, line = match.groups()
                assert name not in written, name
                written[name] = ""
            written[name] += re.sub(r"[^0-9a-f]", "", line)
    computed = {name: data.hex() for name, data in example().items()}
    assert written.keys() == computed.keys(), written.keys() ^ computed.keys()
    for name, data in computed.items():
        assert written[name] == data, f"{name}: README has {written[name]}, computed {data}"
    print(f"{len(computed)} frames of the worked example are right")


def write_seeds(folder):
    """What the fuzz targets read, see there: a byte that says who hears it, then pieces with their lengths."""
    frames = example()

    def write(target, name, first, pieces):
        os.makedirs(os.path.join(folder, target), exist_ok=True)
        with open(os.path.join(folder, target, name), "wb") as file:
            file.write(bytes([first]) + b"".join(bytes([len(piece)]) + piece for piece in pieces))

    for who, name in enumerate(("new", "new, pre-shared", "resume")):
        answer = "RESUMED" if name == "resume" else "WELCOME"
        write("session_handshake", f"client_{who}", who, [frames[f"{name}: {answer}"]])
        ask = "RESUME" if name == "resume" else "HELLO"
        both = [frames[f"{name}: {ask}"], frames[f"{name}: CONFIRM"] + frames["stream: DATA"]]
        write("session_handshake", f"server_{who}", 4 if who == 1 else 3, both)
    write("session_handshake", "refused", 2, [frames["refuse: REFUSED"]])
    write("session_handshake", "other_version", 3, [frame(HELLO, b"RJN\x02" + bytes(24))])

    def ack(n):
        return frame(ACK, struct.pack(">Q", n))

    data, ping, pong = frames["stream: DATA"], frames["stream: PING"], frame(PONG, struct.pack(">Q", 1000 * 10**9))
    # First byte: 1 accepted, 2 finishes, 4 writes at once, 8 a hundred bytes queued.
    write("session_frames", "client_stream", 0x0C, [data, ack(50), ping, ack(100), data])
    write("session_frames", "client_end", 0x0E, [ack(101), data, frame(FIN), frame(GOODBYE)])
    write("session_frames", "server_end", 0x0F, [data, frame(FIN), ack(100), ack(101)])
    write("session_frames", "server_split", 0x0D, [data[:2], data[2:6], data[6:] + ack(100)[:5], ack(100)[5:], pong])
    write("session_frames", "abort", 0x04, [frame(ABORT, b"\x00")])
    with open(os.path.join(folder, "session_frames", "server_again"), "wb") as file:  # a new connection repeats what is known
        file.write(b"\x0d\x09" + data + b"\xa9" + frame(DATA, b"ello!") + b"\x64" + frame(FIN) + b"\xab" + frame(FIN) + ack(100)[:7])
    with open(os.path.join(folder, "session_frames", "server_holds"), "wb") as file:
        file.write(b"\x0d\xc9" + data + b"\x09" + data + b"\x04" + frame(FIN) + b"\xe0\x60")


def main():
    if sys.argv[1] == "--example":
        for name, data in example().items():
            print(name, data.hex())
    elif sys.argv[1] == "--seeds":
        write_seeds(sys.argv[2])
    elif sys.argv[1] == "--readme":
        check_readme(sys.argv[2])
    else:
        seed = int(os.environ.get("REJOIN_SEED", random.SystemRandom().randrange(2**32)))
        print("seed", seed, flush=True)
        for secret in (None, b"a secret of sixteen bytes or more"):
            psk = None if secret is None else pre_shared_key(secret)
            with Server(sys.argv[1], secret) as server:
                for i in range(5):
                    cuts(server.port, psk, seed + i, server)
                refusals(server.port, psk)
        print("every byte arrived once and in order, over 10 sessions of 30 and more connections")


if __name__ == "__main__":
    main()
