# SPDX-License-Identifier: BSL-1.0
"""Takes connections that are pushed to it: python3 receiver.py PATH. With the standard library alone.

Greets on each connection, and sends back whatever comes. include/rejoin/handoff/README.md has the protocol.
"""
import base64
import json
import os
import socket
import struct
import sys
import threading


def serve(connection, unread, note):
    connection.setblocking(True)  # whether it blocks is shared with the sender, and it is ours now
    with connection:
        connection.sendall(b"hello from Python, %s\n" % note.encode() + unread)
        while data := connection.recv(65536):
            connection.sendall(data)


def channel(sock):
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != os.getuid():
        return
    buffer, descriptors, accepted = b"", [], {}
    while True:
        data, fds, flags, _ = socket.recv_fds(sock, 65536, 1)
        descriptors += fds
        if not data:
            break
        buffer += data
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            message = json.loads(line)
            if message.get("cmd") == "NODE_HANDLE":  # OFFER: touched only when it is committed
                msg = message["msg"]
                accepted[msg["id"]] = (socket.socket(fileno=descriptors.pop(0)), msg)
                sock.sendall(b'{"cmd":"NODE_HANDLE_ACK"}\n')
            elif message.get("rejoin") == "commit":
                take(*accepted.pop(message["id"]))
            elif message.get("rejoin") == "withdraw":
                accepted.pop(message["id"])[0].close()
    for offer in accepted.values():  # the sender died, and took nothing back
        take(*offer)


def take(connection, msg):
    unread = base64.b64decode(msg.get("unread", ""))
    threading.Thread(target=serve, args=(connection, unread, msg.get("note", ""))).start()


def main():
    listener = socket.socket(socket.AF_UNIX)
    path = sys.argv[1]
    listener.bind("\0" + path[1:] if path[0] == "@" else path)
    listener.listen()
    print("listening", flush=True)
    while True:
        threading.Thread(target=channel, args=(listener.accept()[0],)).start()


main()
