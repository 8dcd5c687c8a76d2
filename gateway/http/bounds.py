"""What clients are bounded by under one configuration."""

from __future__ import annotations

from typing import NamedTuple


class ClientBounds(NamedTuple):
    """Bounds of clients' connections.

    A connection takes them anew with each request that it begins.
    """

    connections: int  # how many clients may be connected
    head_seconds: float
    write_seconds: float
    keepalive_seconds: float
    memory_bytes: int  # what all requests may hold together
