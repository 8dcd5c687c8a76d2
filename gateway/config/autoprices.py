"""Look up the prices that gateway.yaml leaves to genai-prices (`price: auto`).

Each endpoint gets the price of its own host and provider model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.config.problems import Place, Problems
from gateway.config.schema import EndpointShape, GatewayFile, ModelShape
from gateway.pricing.lookup import Found, look_up
from gateway.pricing.price import Price


class _Wish(NamedTuple):
    endpoint: EndpointShape
    place: Place  # of the word `auto`
    url: str
    model: str


def set_auto_prices(file: GatewayFile, problems: Problems) -> tuple[str, ...]:
    """Set the prices that are looked up; return in words what was found.

    Not found, or the extra missing: a problem, so that nothing is free in silence.
    """
    wishes = [wish for model in file.models for wish in _wishes(model)]
    if not wishes:
        return ()
    wanted = sorted({(wish.url, wish.model) for wish in wishes})
    found = dict(zip(wanted, look_up(wanted), strict=True))
    return tuple([text for wish in wishes if (text := _set(wish, found, problems))])


def _wishes(model: ModelShape) -> Iterator[_Wish]:
    for endpoint in model.endpoints:
        price = model.price if endpoint.price is None else endpoint.price
        if price == "auto" and endpoint.url:
            holder = model if endpoint.price is None else endpoint
            name = endpoint.provider_model or model.provider_model or model.name
            yield _Wish(endpoint, holder.place.inside("price"), endpoint.url, name)


def _set(wish: _Wish, found: Mapping[tuple[str, str], Found], problems: Problems) -> str:
    result = found[wish.url, wish.model]
    host, model = urlsplit(wish.url).hostname or "", problems.quoted(wish.model)
    if result.price is None:
        problems.add_at(wish.place, f"{model} at {host}: {result.error}")
        return ""
    wish.endpoint.price = result.price
    no_slot = f"; without a slot here: {', '.join(result.no_slot)}" if result.no_slot else ""
    return f"line {wish.place.line}: {model} at {host} is {result.name}: {_words(result.price)}{no_slot}"


def _words(price: Price) -> str:
    fields = msgspec.to_builtins(price)
    return ", ".join(f"{name} {_word(value)}" for name, value in fields.items())


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else msgspec.json.encode(value).decode()
