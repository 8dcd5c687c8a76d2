"""Words for the service manager: systemd's notification protocol, a datagram of NAME=VALUE lines."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


def tell_service_manager(environ: Mapping[str, str], **words: str | int) -> None:
    """Sends e.g. `READY=1`. Does nothing where no service manager listens, or where it has gone."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    text = "\n".join(f"{name}={value}" for name, value in words.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # A name that begins with @ is one of Linux' abstract names, which begin with a zero byte.
        sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
