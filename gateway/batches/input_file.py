"""A batch's input: judged line by line, then rewritten.

All of its lines are for one path and one model. Both passes read the spooled file piece by piece in a thread, so that
neither memory nor the loop feels how long it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from gateway.access.companions import Companion, companions
from gateway.access.resolve import Named as NamedModel
from gateway.access.resolve import named_model, resolve
from gateway.batches.batch_lines import OPERATIONS, Line, LineCutter, at_line, read_line
from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.errors import ClientFault, InvalidBatch
from gateway.http.memory_budget import Held, size_when_read
from gateway.limits import reserved_usage
from gateway.proxy.books.reserving import Extent, dearest_nano, extent_of
from gateway.proxy.keeping.pins import Named, named_by
from gateway.store.base import Catalogue
from gateway.types import Access, Caller, id_text

_Result = TypeVar("_Result")
Do = Callable[[Callable[[], _Result]], Awaitable[_Result]]
_Line = tuple[int, bytes]


class Rules(NamedTuple):
    """Whose file it is, and what its lines may be."""

    caller: Caller
    catalogue: Catalogue
    refused: tuple[str, ...]  # fields
    unknown_is_assigned: bool
    most_bytes: int  # of a line


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a file: its lines, summed up."""

    url: str
    model: str
    lines: int
    prompt_tokens: int
    completion_tokens: int
    cost_nano: int  # the most that they may cost, at the batch price

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.url]


class Judge:
    """Judge lines in order. What it raises names the line."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.access: Access | None = None
        self.companions: dict[str, Companion] = {}  # other models that lines name, by id
        self._url: str | None = None
        self._lines = self._prompt = self._completion = self._nano = 0
        self._unnamed: Line | None = None  # the first without a model, before one had named it
        self._waiting: Extent | None = None  # of such lines

    def take(self, lines: Iterable[_Line]) -> list[tuple[int, Named]]:
        """Judge some lines; return the objects that they name. Raises InvalidBatch."""
        found = []
        for number, raw in lines:
            line = read_line(number, raw, self._rules.refused)
            self._take(line)
            named = named_by(line.operation, {}, line.body.fields, line.body.raw)
            if named:
                found.append((number, named))
        return found

    def _take(self, line: Line) -> None:
        if self._url is None:
            self._url = line.url
        elif line.url != self._url:
            raise at_line(line.number, f"its `url` is {line.url}, where the lines before it have {self._url}")
        try:
            self._judge_models(line)
        except ClientFault as fault:
            raise fault if isinstance(fault, InvalidBatch) else at_line(line.number, fault.message) from None
        self._lines += 1
        wanted = reserved_usage(line.body.fields, line.body.size, line.operation)
        self._prompt += wanted.prompt_tokens
        self._completion += wanted.completion_tokens
        extent = extent_of(line.operation, line.body, wanted)
        if self.access is None:
            self._unnamed = self._unnamed or line
            self._waiting = extent if self._waiting is None else self._waiting + extent
        else:
            self._nano += self._nano_of(line, self.access, extent)

    def _judge_models(self, line: Line) -> None:
        rules, named = self._rules, named_model(line.body.fields)
        if named.model_id is not None or named.name_given:
            access = self._resolved(line, named)
            if self.access is None:
                self.access = access
            elif access.model is not self.access.model:
                name = openai.printable(self.access.model.name)
                raise at_line(line.number, f"it is for another model than `{name}`, which the lines before it name")
        for each in companions(rules.caller, rules.catalogue, line.body.mentions):
            self.companions.setdefault(id_text(each.model.id), each)

    def _resolved(self, line: Line, named: NamedModel) -> Access:
        rules, operation = self._rules, line.operation
        return resolve(
            rules.caller,
            rules.catalogue,
            named,
            unknown_is_assigned=operation.is_text and rules.unknown_is_assigned,
            kind=operation.kind,
            is_text=operation.is_text,
        )

    def _nano_of(self, line: Line, access: Access, extent: Extent) -> int:
        return dearest_nano(access.model, self._rules.catalogue, line.operation, extent, is_batch=True)

    def end(self) -> tuple[Access, Input]:
        """All lines were judged. Raises InvalidBatch."""
        if self._url is None:
            raise InvalidBatch("The batch's file has no lines.")
        first = self._unnamed
        if self.access is None and first is not None:
            try:
                self.access = self._resolved(first, NamedModel(None, None, False))
            except ClientFault as fault:
                raise at_line(first.number, fault.message) from None
        access = self.access
        assert access is not None  # noqa: S101 - each line has named one, or was the first that did not
        if first is not None and self._waiting is not None:
            self._nano += self._nano_of(first, access, self._waiting)
        summed = Input(
            url=self._url,
            model=id_text(access.model.id),
            lines=self._lines,
            prompt_tokens=self._prompt,
            completion_tokens=self._completion,
            cost_nano=self._nano,
        )
        return access, summed


async def judged(
    pieces: AsyncIterator[bytes],
    judge: Judge,
    rules: Rules,
    do: Do[list[tuple[int, Named]]],
    on_named: Callable[[int, Named], Awaitable[None]],
    held: Held | None,
) -> None:
    """Judge a file. `on_named` is asked about objects that a line names."""
    cutter = LineCutter(rules.most_bytes)
    async for piece in pieces:
        lines = list(cutter.feed(piece))
        for number, named in await _in_memory(lines, held, partial(do, partial(judge.take, lines))):
            await on_named(number, named)
    last = list(cutter.end())
    for number, named in await do(partial(judge.take, last)):
        await on_named(number, named)


async def rewritten(
    pieces: AsyncIterator[bytes], rules: Rules, model: str, others: Mapping[str, str], do: Do[bytes]
) -> AsyncIterator[bytes]:
    """Yield a judged file's lines for an endpoint.

    `model`: its provider's name of their model; `others`: of those that lines name besides, by id.
    """

    def rewrite(lines: list[_Line]) -> bytes:
        return b"".join(_rewritten(read_line(*line, rules.refused), rules, model, others) for line in lines)

    cutter = LineCutter(rules.most_bytes)
    async for piece in pieces:
        lines = list(cutter.feed(piece))
        if lines:
            yield await do(partial(rewrite, lines))
    last = list(cutter.end())
    if last:
        yield await do(partial(rewrite, last))


def _rewritten(line: Line, rules: Rules, model: str, others: Mapping[str, str]) -> bytes:
    body = line.body
    named = [others[id_text(each.model.id)] for each in companions(rules.caller, rules.catalogue, body.mentions)]
    return line.with_body(body.rewritten(model, named))


async def _in_memory(
    lines: list[_Line], held: Held | None, work: Callable[[], Awaitable[list[tuple[int, Named]]]]
) -> list[tuple[int, Named]]:
    """Hold what large lines take while they are read. Raises Overloaded."""
    large = [raw for _, raw in lines if len(raw) >= openai.LARGE_BYTES]
    if held is None or not large:
        return await work()
    size = sum(size_when_read(raw, raw.count(b",") + raw.count(b"{") + raw.count(b"[")) for raw in large)
    held.grow(size)
    try:
        return await work()
    finally:
        held.shrink(size)
