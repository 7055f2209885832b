"""Lets a program that sits in a network of its own be reached from outside, and nothing more.

    python -I -S relay.py DESCRIPTOR PORT -- COMMAND [ARG]...

DESCRIPTOR is a socket that listens outside: a socket stays in the network in which it was made. Each connection to
it is handed on to PORT of the loopback in here. COMMAND takes this process's place and does not get the socket.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

_CHUNK_BYTES = 1 << 16


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
    except OSError:
        pass
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _hand_on(outside: socket.socket, port: int) -> None:
    with outside:
        try:
            inside = socket.create_connection(("127.0.0.1", port))
        except OSError:
            return  # nobody listens yet: to close is to say so
        with inside:
            back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
            back.start()
            _pump(outside, inside)
            back.join()


def _serve(listener: socket.socket, port: int) -> None:
    while True:
        outside, _ = listener.accept()
        threading.Thread(target=_hand_on, args=(outside, port), daemon=True).start()


def main(arguments: list[str]) -> None:
    descriptor, port = int(arguments[0]), int(arguments[1])
    command = arguments[3:]
    if os.fork() == 0:
        _serve(socket.socket(fileno=descriptor), port)
    os.close(descriptor)
    os.execv(command[0], command)  # noqa: S606 (an argument list)


if __name__ == "__main__":
    main(sys.argv[1:])
