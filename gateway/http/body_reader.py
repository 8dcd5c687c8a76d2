"""Request bodies: read whole, bounded in size and time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.errors import BodyTooLarge, ClientTooSlow
from gateway.http.memory_budget import Held, Memory
from gateway.http.message import Request

# An upload slower than this, beyond its first `body` seconds, is taken for an attack (compare Apache's MinRate).
MIN_UPLOAD_BYTES_PER_SECOND = 16 * 1024


class Large(NamedTuple):
    """What to call before taking in more than `size` bytes.

    What it raises refuses the request.
    """

    size: int
    ask: Callable[[], Awaitable[None]]


async def read_body(request: Request, *, max_bytes: int, seconds: float, large: Large | None = None) -> bytes:
    """Read the request's whole body.

    Where it is `large`, that is asked once: on the head, if its length is declared.

    Raises BodyTooLarge (from the declared length already, before a byte of it is read or asked for), Overloaded where
    there is no room for it, ClientTooSlow where it does not arrive in `seconds` plus the time that its size allows at a
    modest rate.
    """
    if request.length is not None and request.length > max_bytes:
        raise _too_large(max_bytes)
    if large is not None and request.length is not None:
        if request.length >= large.size:
            await large.ask()
        large = None
    held = request.held or Memory(lambda: sys.maxsize).hold()
    if request.body is not None:
        held.grow(len(request.body))
        return request.body
    if request.head.awaits_continue:
        request.connection.ask_for_body()
    try:
        return await _receive(request, held, max_bytes, seconds, large)
    except TimeoutError:
        request.connection.give_up_on_body()
        raise ClientTooSlow("The request's body did not arrive in time.", headers=(("connection", "close"),)) from None


async def _receive(request: Request, held: Held, max_bytes: int, seconds: float, large: Large | None) -> bytes:
    """Collect the body as it arrives. Raises TimeoutError."""
    content = request.content
    whole = bytearray()  # it grows in place, and a large one has a mapping of its own: pieces would leave holes
    started = asyncio.get_running_loop().time()
    held.begin_upload()
    try:
        async with asyncio.timeout_at(started + seconds) as patience:
            while part := await content.read():
                held.grow(len(part))
                if large is not None and len(whole) + len(part) >= large.size:
                    await large.ask()
                    large = None
                if not whole and content.at_end and len(part) <= max_bytes:
                    return part
                whole += part
                if len(whole) > max_bytes:
                    raise _too_large(max_bytes)
                patience.reschedule(started + seconds + len(whole) / MIN_UPLOAD_BYTES_PER_SECOND)
    finally:
        held.end_upload()
    held.grow(len(whole))  # for a moment it is there twice
    held.shrink(len(whole))
    return bytes(whole)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request's body is larger than this gateway takes ({max_bytes // 2**20} MiB).",
        headers=(("connection", "close"),),
    )
