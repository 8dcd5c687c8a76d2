"""Sum up what the answers in a batch's output used."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec

from gateway.batches.batch_lines import LineCutter
from gateway.dialects.base import Operation
from gateway.limits import estimated_tokens
from gateway.pricing import RateCard
from gateway.types import Usage, UsageDetails

MOST_LINE_BYTES = 32 * 2**20
_NOTHING = UsageDetails()


class OutputSum:
    """Take an output file piece by piece; nothing of it is kept.

    Each answer is priced by itself, for steps and tiers of a price are of single requests. `prompt_tokens`: of one
    line, where its answer reports nothing. `on_answer` is given each good answer's body.
    """

    def __init__(
        self,
        operation: Operation,
        card: RateCard | None,
        prompt_tokens: int,
        on_answer: Callable[[bytes], None] | None = None,
    ) -> None:
        self._on_answer = on_answer
        self.answers = 0
        self.is_estimated = False  # some of them reported nothing
        self.usage = Usage()
        self._cost = Fraction()
        self._operation = operation
        self._card = card
        self._prompt_tokens = prompt_tokens
        self._cutter = LineCutter(MOST_LINE_BYTES)

    @property
    def nano(self) -> int | None:
        """The cost in billionths, rounded once; None without a price."""
        return None if self._card is None else round(self._cost)

    def feed(self, data: bytes) -> None:
        """Raise InvalidBatch for what no batch writes."""
        for _, line in self._cutter.feed(data):
            self._take(line)

    def end(self) -> None:
        for _, line in self._cutter.end():
            self._take(line)

    def _take(self, line: bytes) -> None:
        body = _body_of(line)
        if body is None:
            return
        contents = self._operation.usage.contents(body)
        if contents is None or contents.failed:
            return
        if self._on_answer is not None:
            self._on_answer(body)
        usage = contents.usage
        if usage is None:
            self.is_estimated = True
            completion = estimated_tokens(contents.whole_text_bytes) if contents.whole_text_bytes else 0
            usage = Usage(self._prompt_tokens, completion, self._prompt_tokens + completion)
        self.answers += 1
        if self._card is not None:
            parts = self._card.rates(usage).parts(usage, requests=1, is_batch=True)
            self._cost += sum(parts.values(), Fraction())
        self.usage = summed(self.usage, usage)


def summed(one: Usage, other: Usage) -> Usage:
    """Add two usages up, kind by kind."""
    details = None
    if one.details is not None or other.details is not None:
        first, second = one.details or _NOTHING, other.details or _NOTHING
        sums: dict[str, Any] = {
            name: getattr(first, name) + getattr(second, name)
            for name in UsageDetails.__struct_fields__
            if name != "service_tier"
        }
        details = UsageDetails(**sums, service_tier=first.service_tier or second.service_tier)
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.total_tokens + other.total_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        details,
    )


class _Response(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw()


class _OutputLine(msgspec.Struct):
    response: _Response | None = None


_decoder = msgspec.json.Decoder(_OutputLine)


def _body_of(line: bytes) -> bytes | None:
    """Return the body of a good answer, or None."""
    try:
        response = _decoder.decode(line).response
    except msgspec.DecodeError:
        return None
    if response is None or not 200 <= response.status_code < 300:
        return None
    return bytes(response.body)
