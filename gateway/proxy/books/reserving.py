"""Reserve what a request may cost at most."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.dialects.base import Operation
from gateway.dialects.openai import RequestBody
from gateway.http.multipart import FormBody
from gateway.limits import EstimatedUsage, reserved_usage
from gateway.pricing import Besides, RateCard
from gateway.proxy.ask import Ask, Reserved
from gateway.proxy.books.besides import besides_of
from gateway.store.base import Catalogue
from gateway.types import Model

_BROUGHT_ALONG = ("previous_response_id", "conversation")  # input that the body does not show
_UNBOUNDED = 10**15


class Extent(msgspec.Struct, frozen=True, gc=False):
    """What some requests may use at most.

    `most_input`: none of them has more input tokens.
    """

    prompt_tokens: int
    completion_tokens: int
    most_input: int
    besides: Besides
    requests: int = 1

    def __add__(self, other: Extent) -> Extent:
        return Extent(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            max(self.most_input, other.most_input),
            self.besides + other.besides,
            self.requests + other.requests,
        )


def reserved_by(ask: Ask) -> Reserved:
    """Return what a request may use at most."""
    if ask.reserved is not None:
        return ask.reserved
    wanted = reserved_usage(ask.body.fields, ask.body.size, ask.operation)
    # A cost that nothing limits is asked for where work may go on, and its end never be heard of.
    if not (ask.terms.limits_cost or ask.keeper is not None):
        return Reserved(1, wanted.prompt_tokens, wanted.completion_tokens, 0)
    model, catalogue, operation = ask.access.model, ask.catalogue, ask.operation
    nano = 0
    if next(_cards(model, catalogue, operation), None) is not None:
        nano = dearest_nano(model, catalogue, operation, extent_of(operation, ask.body, wanted))
    return Reserved(1, wanted.prompt_tokens, wanted.completion_tokens, nano)


def extent_of(operation: Operation, body: RequestBody | FormBody, wanted: EstimatedUsage) -> Extent:
    """Return the most that one request may use, by its body.

    `wanted`: in tokens.
    """
    fields = body.fields
    known = max(body.size, wanted.prompt_tokens)  # no token is shorter than a byte
    brings_more = isinstance(fields.get("prompt"), dict) or any(fields.get(name) for name in _BROUGHT_ALONG)
    return Extent(
        wanted.prompt_tokens,
        wanted.completion_tokens,
        _UNBOUNDED if brings_more else known,
        besides_of(operation, body),
    )


def dearest_nano(
    model: Model, catalogue: Catalogue, operation: Operation, extent: Extent, *, is_batch: bool = False
) -> int:
    """Return the most that so much may cost, in billionths.

    At whichever endpoint of the model and its fallbacks, by whichever of its prices. `is_batch`: as lines of one.
    """
    return max(
        (
            card.dearest_nano(
                extent.prompt_tokens,
                extent.completion_tokens,
                extent.most_input,
                extent.besides,
                requests=extent.requests,
                is_batch=is_batch,
            )
            for card in _cards(model, catalogue, operation)
        ),
        default=0,
    )


def _cards(model: Model, catalogue: Catalogue, operation: Operation) -> Iterator[RateCard]:
    """Yield the prices of all endpoints, shared ones once in a row."""
    last: RateCard | None = None
    for each in _models(model, catalogue, operation):
        for endpoint in each.endpoints:
            if endpoint.card is not None and endpoint.card is not last:
                last = endpoint.card
                yield last


def _models(model: Model, catalogue: Catalogue, operation: Operation) -> Iterator[Model]:
    yield model
    if operation.has_fallbacks:
        for reference in model.fallbacks:
            fallback = catalogue.by_id(reference)
            if fallback is not None:
                yield fallback
