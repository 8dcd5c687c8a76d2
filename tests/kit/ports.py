"""Ports of servers that are told theirs before they start."""

from __future__ import annotations

import secrets
import socket

_FIRST, _COUNT = 10_000, 20_000


def free_port() -> int:
    """Below those that the kernel gives to connections: nobody has taken it by the time the server listens.

    A node of a Redis Cluster takes the port 10,000 above as well.
    """
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
