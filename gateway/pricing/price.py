"""Prices as gateway.yaml writes them, in currency units.

None: not written, so that it takes the price behind its arrow (`rates`). Tokens are priced by the million.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Money = Annotated[float, Meta(ge=0, le=1e9)]
Factor = Annotated[float, Meta(ge=0, le=1e6)]
Threshold = Annotated[int, Meta(ge=0, le=10**12)]


class ToolPrices(msgspec.Struct, frozen=True, omit_defaults=True):
    """The price of each call of a provider's tool."""

    web_search: Annotated[Money | None, Meta(description="Each search of the web.")] = None
    file_search: Annotated[Money | None, Meta(description="Each search in files.")] = None
    code_interpreter: Annotated[Money | None, Meta(description="Each run of code.")] = None
    web_fetch: Annotated[Money | None, Meta(description="Each page fetched.")] = None


class Components(msgspec.Struct, frozen=True, omit_defaults=True):
    """The components of a price; tokens by the million."""

    input: Annotated[Money | None, Meta(description="A million prompt tokens; default 0.")] = None
    output: Annotated[Money | None, Meta(description="A million completion tokens; default 0.")] = None
    cached_input: Annotated[Money | None, Meta(description="Read from the cache; default: input.")] = None
    cached_audio_input: Annotated[Money | None, Meta(description="Audio read from it; default: cached_input.")] = None
    cached_image_input: Annotated[Money | None, Meta(description="Images read from it; default: cached_input.")] = None
    cache_write: Annotated[Money | None, Meta(description="Written to the cache; default: input.")] = None
    cache_write_1h: Annotated[Money | None, Meta(description="Kept for an hour; default: cache_write.")] = None
    cache_write_12h: Annotated[Money | None, Meta(description="Kept for twelve hours; default: cache_write.")] = None
    audio_input: Annotated[Money | None, Meta(description="Audio of the prompt; default: input.")] = None
    image_input: Annotated[Money | None, Meta(description="Images of the prompt; default: input.")] = None
    reasoning: Annotated[Money | None, Meta(description="Reasoning of the completion; default: output.")] = None
    audio_output: Annotated[Money | None, Meta(description="Audio of the completion; default: output.")] = None
    image_output: Annotated[Money | None, Meta(description="Images of the completion; default: output.")] = None
    request: Annotated[Money | None, Meta(description="Each request that was answered.")] = None
    image: Annotated[Money | None, Meta(description="Each image made.")] = None
    audio_minute: Annotated[Money | None, Meta(description="A minute of audio, by reported seconds.")] = None
    characters: Annotated[
        Money | None, Meta(description="A million characters of `input`, where no tokens are reported.")
    ] = None
    tools: Annotated[ToolPrices | None, Meta(description="Each call of a provider's tool.")] = None
    batch: Annotated[Factor | None, Meta(description="A factor on the cost of batches; default 1.")] = None


class PriceStep(Components, frozen=True, omit_defaults=True, kw_only=True):
    """Prices of requests with more input than that."""

    input_tokens: Annotated[Threshold, Meta(description="Holds for requests with strictly more input tokens.")]


class TierPrice(Components, frozen=True, omit_defaults=True):
    """Prices of a service tier, laid over the model's."""

    above: Annotated[tuple[PriceStep, ...], Meta(description="Prices of larger requests, laid over these.")] = ()


class Price(TierPrice, frozen=True, omit_defaults=True):
    """A price; what is left out takes another's place or is free."""

    service_tiers: Annotated[
        dict[Annotated[str, Meta(min_length=1)], Factor | TierPrice],
        Meta(description="By the answer's service tier: a factor on the whole cost, or prices laid over these."),
    ] = {}


COMPONENTS: tuple[str, ...] = Components.__struct_fields__


def laid_over(*layers: Components | None) -> Components:
    """Lay records over one another as written; the last holds.

    Tools are laid over one by one.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        if layer is None:
            continue
        for name in COMPONENTS:
            value = getattr(layer, name)
            if name == "tools" and value is not None and values.get(name) is not None:
                written = {tool: each for tool in value.__struct_fields__ if (each := getattr(value, tool)) is not None}
                value = msgspec.structs.replace(values[name], **written)
            if value is not None:
                values[name] = value
    return Components(**values)
