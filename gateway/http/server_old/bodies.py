"""Request bodies: read whole, bounded in size and time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import StreamReader

from gateway.errors import BodyTooLarge, ClientTooSlow, InvalidHttp
from gateway.http.server_old.replies import Request

# An upload slower than this, beyond its first `body` seconds, is taken for an attack (compare Apache's MinRate).
MIN_UPLOAD_BYTES_PER_SECOND = 16 * 1024

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Large(NamedTuple):
    """What is asked before more than `size` bytes of a body are taken in; what it raises refuses the request."""

    size: int
    ask: Callable[[], Awaitable[None]]


class Arriving:
    """The rest of a body that the parser does not see. `owed`: bytes that are still to come."""

    __slots__ = ("content", "owed")

    def __init__(self, content: StreamReader, owed: int) -> None:
        self.content = content
        self.owed = owed

    def take(self, data: bytes) -> bytes:
        """Takes in what belongs to the body; returns what follows it."""
        part, rest = data[: self.owed], data[self.owed :]
        if part:
            self.content.feed_data(part)
            self.owed -= len(part)
            if self.owed == 0:
                self.content.feed_eof()
        return rest


async def read_body(request: Request, *, max_bytes: int, seconds: float, large: Large | None = None) -> bytes:
    """The request's whole body. Where it is `large`, that is asked once: on the head, if its length is declared.

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
    held = request.held
    if request.body is not None:
        if held is not None:
            held.grow(len(request.body))
        return request.body
    if request.head.awaits_continue:
        _ask_for_body(request)
    content = request.content
    if content.is_eof():
        here = content.read_nowait(-1)
        if held is not None:
            held.grow(len(here))
        if large is not None and len(here) >= large.size:
            await large.ask()
        return here
    if request.connection.half_closed:
        request.connection.give_up_on_body()
        raise unfinished()
    whole = bytearray()  # it grows in place, and a large one has a mapping of its own: pieces would leave holes
    started = asyncio.get_running_loop().time()
    if held is not None:
        held.begin_upload()
    try:
        async with asyncio.timeout_at(started + seconds) as patience:
            while part := await content.readany():
                if held is not None:
                    held.grow(len(part))
                if large is not None and len(whole) + len(part) >= large.size:
                    await large.ask()
                    large = None
                if not whole and content.is_eof():
                    return part
                whole += part
                if len(whole) > max_bytes:
                    raise _too_large(max_bytes)
                patience.reschedule(started + seconds + len(whole) / MIN_UPLOAD_BYTES_PER_SECOND)
    except TimeoutError:
        request.connection.give_up_on_body()
        raise ClientTooSlow("The request's body did not arrive in time.", headers=(("connection", "close"),)) from None
    finally:
        if held is not None:
            held.end_upload()
    if held is not None:  # for a moment it is there twice
        held.grow(len(whole))
        held.shrink(len(whole))
    return bytes(whole)


def _ask_for_body(request: Request) -> None:
    transport = request.connection.transport
    if transport is not None and not transport.is_closing():
        with contextlib.suppress(RuntimeError):
            transport.write(_CONTINUE)


def unfinished() -> InvalidHttp:
    """What is said of a body after which a FIN came too early."""
    return InvalidHttp("The request's body ended before it was whole.", headers=(("connection", "close"),))


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request's body is larger than this gateway takes ({max_bytes // 2**20} MiB).",
        headers=(("connection", "close"),),
    )
