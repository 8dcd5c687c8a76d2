"""Reads the published corpus (tests/corpus) and plays an input of it over a raw socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from kit import DEADLINE_SECONDS, Reply, Wire

CORPUS = Path(__file__).parent.parent / "corpus"
INPUTS = CORPUS / "inputs"
KEY = "sk-corpus-0123456789abcdefghij"
CHAT = "/v1/chat/completions"
UNLESS_TOLD_SECONDS = 1.0


@dataclass(frozen=True)
class Input:
    """A row of the table; its README tells what the columns mean."""

    file: str
    what: str
    status: int
    then: Literal["open", "closed", "lingers"]
    type: str | None = None
    code: str | None = None
    param: str | None = None
    flat: bool = False
    bodiless: bool = False
    end: Literal["FIN"] | None = None
    before: tuple[int, ...] = ()
    whole: bool = False
    seconds: float = UNLESS_TOLD_SECONDS

    @property
    def is_paced(self) -> bool:
        """Whether how it is sent is a part of it, so that it cannot be cut up otherwise."""
        return self.file.startswith("slow-")

    def patient(self) -> Input:
        """The same, with time for a machine that plays many at once."""
        return replace(self, seconds=DEADLINE_SECONDS)


def table() -> list[Input]:
    """Every row, in the table's order. Raises TypeError for a column that nobody knows."""
    rows = tomllib.loads((CORPUS / "table.toml").read_text())["input"]
    return [Input(**{name: tuple(value) if name == "before" else value for name, value in row.items()}) for row in rows]


@dataclass(frozen=True)
class Sent:
    """The bytes of an input, and how they go out: `at_once`, then `data`, bytewise where there is a pace."""

    data: bytes
    at_once: bytes = b""
    every_seconds: float | None = None

    def cut(self, dice: random.Random, cuts: int) -> list[bytes]:
        """The same bytes in `cuts + 1` pieces or fewer."""
        places = {dice.randrange(1, len(self.data)) for _ in range(cuts)} if len(self.data) > 1 else set()
        return [self.data[start:end] for start, end in pairwise(sorted({0, len(self.data)} | places))]


def read(file: str) -> Sent:
    """A raw file's bytes, or what a description says."""
    path = INPUTS / file
    if path.suffix == ".http":
        return Sent(path.read_bytes())
    told = tomllib.loads(path.read_text())
    every, at_once = told.get("every_seconds"), told.get("at_once", "").encode("latin-1")
    data = b"".join(_repeated(told["raw"])) if "raw" in told else _post(told)
    return Sent(data, at_once, every)


def _post(told: dict[str, Any]) -> bytes:
    body = b"".join(_repeated(told["body"]))
    size: int | None = told.get("chunk_bytes")
    framing = "transfer-encoding: chunked" if size else f"content-length: {len(body)}"
    lines = [
        f"POST {told.get('path', CHAT)} HTTP/1.1",
        "host: gateway.example",
        f"authorization: Bearer {KEY}",
        framing,
    ]
    head = "\r\n".join([*lines, "", ""])
    if not size:
        return head.encode() + body
    chunks = (body[start : start + size] for start in range(0, len(body), size))
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"


def _repeated(pieces: list[tuple[str, int]]) -> Iterator[bytes]:
    for text, times in pieces:
        if "{n}" in text:
            yield from (text.replace("{n}", str(number)).encode("latin-1") for number in range(times))
        else:
            yield text.encode("latin-1") * times


async def play(wire: Wire, sent: Sent, one: Input, pieces: list[bytes] | None = None) -> list[Reply]:
    """Sends it as a client does that does not listen meanwhile; the answers, one for each that the row tells of.

    Raises TimeoutError where they are not there within the row's bound.
    """
    async with _sending(wire, sent, one, pieces or [sent.data]), asyncio.timeout(one.seconds):
        before = [await wire.reply() for _ in one.before]
        if not one.status:
            assert await wire.ended() == b"", "bytes where there was nothing to answer"
            return before
        return [*before, await wire.reply(bodiless=one.bodiless)]


@contextlib.asynccontextmanager
async def _sending(wire: Wire, sent: Sent, one: Input, pieces: list[bytes]) -> AsyncIterator[None]:
    async def send() -> None:
        with contextlib.suppress(ConnectionError):  # refused before all of it was sent, as it may be
            if sent.at_once:
                await wire.send(sent.at_once)
            for piece in _bytewise(sent.data) if sent.every_seconds else pieces:
                await wire.send(piece)
                await asyncio.sleep(sent.every_seconds or 0)  # the pace is the attack; else the next write is another
            if one.end == "FIN":
                wire.half_close()

    task = asyncio.create_task(send())
    try:
        yield
        if not one.is_paced:
            await task  # what is left of it comes before whatever is sent next
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _bytewise(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def told_of(reply: Reply) -> tuple[int, str | None, str | None, str | None]:
    """Status, type, code and param; None where the answer is no error or, on our own routes, has no such thing."""
    if reply.status < 400 or not reply.body:
        return reply.status, None, None, None
    error = json.loads(reply.body)["error"]
    if isinstance(error, str):
        return reply.status, None, error, None
    return reply.status, error["type"], error["code"], error["param"]


async def is_closed(wire: Wire) -> bytes:
    """Waits until the gateway ends the connection; whatever it still said."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await wire.ended()
