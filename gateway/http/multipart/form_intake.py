"""Read forms into a spool, bounded in size, time, parts and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from gateway.dialects import openai
from gateway.errors import BodyTooLarge, ClientTooSlow, InvalidMultipart
from gateway.http.message import Request
from gateway.http.multipart.form_body import FormBody
from gateway.http.multipart.form_parser import FormParser, boundary_of
from gateway.http.multipart.part import Part
from gateway.http.multipart.spool import Spool, Spools

# Texts are looked at, contents of files are not: so much of all of them together is kept in memory.
MAX_TEXT_BYTES = 2**20
_CLOSE = (("connection", "close"),)


class FormIntake:
    """Reads forms. `spools`: where their contents wait for an endpoint."""

    def __init__(self, spools: Spools) -> None:
        self.spools = spools

    async def read(
        self,
        request: Request,
        *,
        max_bytes: int,
        seconds: float,
        refused: tuple[str, ...],
        before_large: Callable[[], Awaitable[None]],
        adds_model: bool = True,
    ) -> FormBody:
        """Read the request's form; the caller closes it.

        `seconds`: how long the client may send nothing. `refused`: the fields of `routing.refuse_fields`.
        `before_large`: asked before a large one is taken in; what it raises refuses the request.

        Raises InvalidMultipart, FieldNotAllowed, BodyTooLarge, ClientTooSlow, InvalidHttp, or Overloaded where neither
        memory nor disk has room for it.
        """
        boundary = boundary_of(request.headers.get("content-type", ""))
        if request.length is not None:
            if request.length > max_bytes:
                raise _too_large(max_bytes)
            if request.length >= openai.LARGE_BYTES:
                await before_large()
            self.spools.require_room(request.length)
        spool = self.spools.open(request.held)
        reading = _Reading(FormParser(boundary), spool, refused)
        held = request.held
        try:
            if held is not None:
                held.begin_upload()
            async for piece in _pieces(request, max_bytes, seconds, before_large):
                await reading.take(piece)
            await reading.end()
            if spool.is_in_memory and held is not None:
                held.grow(spool.size)  # it goes up as a copy
        except BaseException:
            spool.close()
            raise
        finally:
            if held is not None:
                held.end_upload()
        return FormBody(reading.parts, reading.fields, spool, adds_model=adds_model)

    def __repr__(self) -> str:
        return f"<FormIntake {self.spools!r}>"


class _Reading:
    """One form as it is read."""

    def __init__(self, parser: FormParser, spool: Spool, refused: tuple[str, ...]) -> None:
        self.parts: list[Part] = []
        self.fields: dict[str, Any] = {}
        self._parser = parser
        self._spool = spool
        self._rules = openai.form_fields(refused)
        self._names: set[str] = set()
        self._text: bytearray | None = None  # of the present part, where it is one
        self._text_left = MAX_TEXT_BYTES

    async def take(self, data: bytes) -> None:
        for found in self._parser.feed(data):
            if isinstance(found, Part):
                self._end_part()
                self._begin(found)
                continue
            self.parts[-1].size += len(found)
            if self._text is not None:
                self._add_text(found)
            await self._spool.write(found)

    async def end(self) -> None:
        self._parser.end()
        self._end_part()
        self._rules.refuse(self._names)
        await self._spool.finish()

    def _begin(self, part: Part) -> None:
        self._rules.judge(part.name, self._names, is_file=part.is_file)
        self._names.add(part.name)
        part.at = self._spool.size
        self.parts.append(part)
        self._text = None if part.is_file else bytearray()

    def _add_text(self, found: bytes) -> None:
        if self._text is not None:
            self._text_left -= len(found)
            if self._text_left < 0:
                raise InvalidMultipart(f"The form has more than {MAX_TEXT_BYTES:,} bytes of text that is no file.")
            self._text += found

    def _end_part(self) -> None:
        text, self._text = self._text, None
        if text is None:
            return
        name = self.parts[-1].name
        try:
            value = openai.form_value(name, text.decode())
        except UnicodeDecodeError:
            raise InvalidMultipart("A field of the form is not UTF-8.") from None
        # A list, where a field may come several times, is a prompt's for the estimate as well.
        before = self.fields.get(name)
        if before is None:
            self.fields[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            self.fields[name] = [before, value]


async def _pieces(
    request: Request, max_bytes: int, seconds: float, before_large: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """Yield the body's pieces as they come. Raises BodyTooLarge and ClientTooSlow."""
    if request.body is not None:
        yield request.body
        return
    if request.head.awaits_continue:
        request.connection.ask_for_body()
    size, is_asked = 0, request.length is not None
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await request.content.read()
        except TimeoutError:
            request.connection.give_up_on_body()
            raise ClientTooSlow("The request's body did not arrive in time.", headers=_CLOSE) from None
        if not piece:
            return
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not is_asked and size >= openai.LARGE_BYTES:
            is_asked = True
            await before_large()
        yield piece


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The upload is larger than this gateway takes ({max_bytes // 2**20} MiB).", headers=_CLOSE)
