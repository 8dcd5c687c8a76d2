"""Pass chunks of text events on as they came, framing and all.

Nearly every read of a stream is one whole chunk of whole events that say nothing but text. Such a read needs no new
framing and no look into it before it is passed on: this is the short way from the upstream's socket to the client's,
one function that runs for each of them, and so written without a call that it can do without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.proxy.stream.live import WAITING_BYTES, Live, has_usage

_THREE_DIGITS = (
    0x100 + 7
)  # the shortest read that is one chunk whose size has three digits; of one or four, they are rare
_USAGE = b'"usage"'


class Clocked(Protocol):
    """Whose stream it is: told when something of it came."""

    last_read: float  # on the loop's clock


def chunk_passage(
    stream: Clocked, live: Live, transport: asyncio.WriteTransport, now: Callable[[], float]
) -> Callable[[bytes], bool]:
    """Return what passes a read on that is one chunk of text.

    It returns False for any other, untouched, and for chunks of 4 KiB and more. To be asked between chunks only.
    `transport`: the client's, on which answers are chunked.
    """
    write, is_closing, waiting, (sign, *further_signs) = (
        transport.write,
        transport.is_closing,
        live.waiting,
        live.end_signs,
    )

    def take(read: bytes) -> bool:
        size = len(read)
        start = 4 if size < _THREE_DIGITS else 5
        size -= start + 2
        if (
            read[:start].lower() != b"%x\r\n" % size
            or not read.endswith(b"\n\n\r\n")
            or not live.is_between
            or read.find(sign) >= 0
            or (read.find(_USAGE) >= 0 and has_usage(read))
            or is_closing()
            or (further_signs and any(map(read.__contains__, further_signs)))
        ):
            return False
        stream.last_read = now()
        write(read)
        waiting.append(read[start:-2])
        live.waiting_bytes = held = live.waiting_bytes + size
        if held > WAITING_BYTES:
            live.catch_up()
        return True

    return take
