"""Reserve what a request may cost at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.limits import EstimatedUsage, repeats, reserved_usage
from gateway.pricing import RateCard, Rates
from gateway.proxy.ask import Ask, Reserved
from gateway.types import Model, Usage

_BROUGHT_ALONG = ("previous_response_id", "conversation")  # input that the body does not show
_UNBOUNDED = 10**15


def reserved_by(ask: Ask) -> Reserved:
    """Return what a request may use at most."""
    if ask.reserved is not None:
        return ask.reserved
    wanted = reserved_usage(ask.body.fields, ask.body.size, ask.operation)
    # A cost that nothing limits is asked for where work may go on, and its end never be heard of.
    nano = dearest_nano(ask, wanted) if ask.terms.limits_cost or ask.keeper is not None else 0
    return Reserved(1, wanted.prompt_tokens, wanted.completion_tokens, nano)


def dearest_nano(ask: Ask, wanted: EstimatedUsage, *, is_batch: bool = False) -> int:
    """Return the most that the request may cost, in billionths.

    At whichever endpoint of its model and fallbacks, by whichever of its prices. `is_batch`: as a line of one.
    """
    cards = list(_cards(ask))
    if not cards:
        return 0
    fields = ask.body.fields
    known = max(ask.body.size, wanted.prompt_tokens)  # no token is shorter than a byte
    brings_more = isinstance(fields.get("prompt"), dict) or any(fields.get(name) for name in _BROUGHT_ALONG)
    most_input = _UNBOUNDED if brings_more else known
    images, characters = repeats(fields, ("n",)), characters_of(fields)
    return max(
        card.dearest_nano(
            wanted.prompt_tokens,
            wanted.completion_tokens,
            most_input,
            images=images,
            characters=characters,
            is_batch=is_batch,
        )
        for card in cards
    )


def _cards(ask: Ask) -> Iterator[RateCard]:
    """Yield the prices of all endpoints, shared ones once in a row."""
    last: RateCard | None = None
    for model in _models(ask):
        for endpoint in model.endpoints:
            if endpoint.card is not None and endpoint.card is not last:
                last = endpoint.card
                yield last


def _models(ask: Ask) -> Iterator[Model]:
    model = ask.access.model
    yield model
    if ask.operation.has_fallbacks:
        for reference in model.fallbacks:
            fallback = ask.catalogue.by_id(reference)
            if fallback is not None:
                yield fallback


def requests_paid(rates: Rates, usage: Usage, cost_nano: int) -> int:
    """Whether `request` is in a cost that is booked."""
    return int(rates.cost_nano(usage, requests=0) != cost_nano)


def characters_of(fields: Mapping[str, Any]) -> int:
    """Count the characters of the request's `input`."""
    given = fields.get("input")
    texts = given if isinstance(given, list) else [given]
    return sum(len(text) for text in texts if isinstance(text, str))
