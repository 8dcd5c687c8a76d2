"""Notify systemd, by datagrams of NAME=VALUE lines."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


def notify_service_manager(environ: Mapping[str, str], **words: str | int) -> None:
    """Send e.g. `READY=1` to the service manager, if there is one."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    text = "\n".join(f"{name}={value}" for name, value in words.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # A name that begins with @ is one of Linux' abstract names, which begin with a zero byte.
        sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
