"""Read JSON bodies, bounded in size, time, values and memory.

Large ones are read in a thread, one at a time: while it counts and parses, the loop has its turn each few milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.dialects import openai
from gateway.http.body_reader import Large, read_body
from gateway.http.memory_budget import Held, size_when_read
from gateway.http.message import Request

_Result = TypeVar("_Result")


class Intake:
    """Reads bodies. One for each process; `close` ends its thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-bodies")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(
        self,
        request: Request,
        *,
        max_bytes: int,
        seconds: float,
        refused: tuple[str, ...] | None = None,
        before_large: Callable[[], Awaitable[None]] | None = None,
    ) -> openai.RequestBody:
        """Read the request's body.

        `refused`: the fields of `routing.refuse_fields`, if it is to be relayed; then it has its `mentions`.
        `before_large`: asked before a large one is taken in; what it raises refuses the request.

        Raises BodyTooLarge, ClientTooSlow, InvalidJson, FieldNotAllowed, InvalidRequest, or Overloaded where memory has
        no room for it.
        """
        large = Large(openai.LARGE_BYTES, before_large) if before_large is not None else None
        raw = await read_body(request, max_bytes=max_bytes, seconds=seconds, large=large)
        return await self.parsed(raw, request.held, refused)

    async def parsed(self, raw: bytes, held: Held | None, refused: tuple[str, ...] | None) -> openai.RequestBody:
        """Parse a body that has been read. Raises as `read` does."""
        if len(raw) < openai.LARGE_BYTES:
            if held is not None:
                held.grow_by_json(raw, is_held=True)
            return _examined(raw, None, refused)
        size, size_in_memory = await self.do(lambda: _measured(raw))
        if held is not None:
            held.grow(size_in_memory)
        return await self.do(lambda: _examined(raw, size, refused))

    async def do(self, work: Callable[[], _Result]) -> _Result:
        """Does what would take the loop too long, in the thread."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # What it holds is given back once it has let go of it.
            with contextlib.suppress(Exception):
                await future
            raise

    def __repr__(self) -> str:
        return "<Intake>"


def _measured(raw: bytes) -> tuple[openai.Size, int]:
    size = openai.size_of(raw)
    return size, size_when_read(raw, size.values)


def _examined(raw: bytes, size: openai.Size | None, refused: tuple[str, ...] | None) -> openai.RequestBody:
    body = openai.read_body(raw, size)
    if refused is not None:
        rules = openai.allowed_fields(refused)
        if not rules.harmless.issuperset(body.fields):
            body.mentions = rules.examine(body.fields)
        if size is not None:
            body.prepare()
    return body
