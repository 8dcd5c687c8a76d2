"""Compile prices into whole numbers, and count costs by them.

A rate is billionths of the currency's unit, for one token, call, image or second, times a common denominator; so that
a cost is a sum of products, rounded once at the end, half to even. One `Rates` for each tier and step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import msgspec

from gateway.pricing.kinds import NOTHING_BESIDES, Besides, Usage, UsageDetails
from gateway.pricing.price import Components, Price, PriceStep, TierPrice, ToolPrices, laid_over

NANO = 1_000_000_000
_PER_MILLION = NANO // 1_000_000
_SECONDS = 60
# Behind its arrow: what a component takes where it is not written.
_ARROWS = {
    "cached_input": "input",
    "cached_audio_input": "cached_input",
    "cached_image_input": "cached_input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "cache_write_12h": "cache_write",
    "audio_input": "input",
    "image_input": "input",
    "reasoning": "output",
    "audio_output": "output",
    "image_output": "output",
}
_TOKENS = ("input", "output", *_ARROWS)
_INPUTS = tuple(name for name in _TOKENS if name not in ("output", "reasoning", "audio_output", "image_output"))
_OUTPUTS = ("output", "reasoning", "audio_output", "image_output")
_OF_DETAILS = (
    ("image", "images"),
    ("characters", "characters"),
    ("web_search", "web_search"),
    ("file_search", "file_search"),
    ("code_interpreter", "code_interpreter"),
    ("web_fetch", "web_fetch"),
)
_NO_DETAILS = UsageDetails()
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Price).decode


class Record(Components, frozen=True, omit_defaults=True, kw_only=True):
    """The price that a request was given, as the ledger keeps it."""

    tier: str | None = None
    factor: float | None = None  # of the tier
    above: int | None = None


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What one tier costs at one step, compiled.

    `record`: its JSON, by which the cost can be counted again.
    """

    denominator: int
    input: int
    output: int
    cached_input: int
    reasoning: int
    request: int
    others: dict[str, int]  # all that few requests use, by component
    batch: tuple[int, int]  # numerator and denominator
    dearest_input: int
    dearest_output: int
    record: str

    def cost_nano(self, usage: Usage, *, requests: int = 1, is_batch: bool = False) -> int:
        """Count the cost in billionths, rounded once, half to even.

        `requests`: 0 where `request` is not to be paid.
        """
        if usage.details is None and not is_batch:
            scaled = usage.prompt_tokens * self.input + usage.completion_tokens * self.output
            if requests:
                scaled += requests * self.request
            if usage.cached_tokens or usage.reasoning_tokens:
                scaled += usage.cached_tokens * (self.cached_input - self.input)
                scaled += usage.reasoning_tokens * (self.reasoning - self.output)
            return scaled if self.denominator == 1 else _rounded(scaled, self.denominator)
        return round(sum(self.parts(usage, requests=requests, is_batch=is_batch).values(), Fraction()))

    def parts(self, usage: Usage, *, requests: int = 1, is_batch: bool = False) -> dict[str, Fraction]:
        """The cost by component, in billionths, exact."""
        scale = Fraction(*self.batch) / self.denominator if is_batch else Fraction(1, self.denominator)
        return {
            name: amount * rate * scale
            for name, amount in quantities(usage, requests).items()
            if (rate := self._rate(name)) and amount
        }

    def requests_paid(self, usage: Usage, cost_nano: int, *, is_batch: bool = False) -> int:
        """Count the requests that are in a cost which was booked."""
        more = cost_nano - self.cost_nano(usage, requests=0, is_batch=is_batch)
        if not is_batch:
            return int(more != 0)
        each = self.request * Fraction(*self.batch) / self.denominator
        return max(0, round(more / each)) if each else 0

    def dearest_nano(
        self, prompt: int, completion: int, besides: Besides, *, requests: int = 1, is_batch: bool = False
    ) -> int:
        """The most that so much may cost, tokens of whichever kinds."""
        others = self.others
        scaled = prompt * self.dearest_input + (completion + besides.made_tokens) * self.dearest_output
        scaled += requests * self.request + besides.images * others["image"]
        scaled += besides.characters * others["characters"] + besides.audio_seconds * others["audio_minute"]
        scaled += self._dearest_calls(besides) if besides.calls else 0
        numerator, denominator = self.batch if is_batch else (1, 1)
        return -(-scaled * numerator // (self.denominator * denominator))

    def _dearest_calls(self, besides: Besides) -> int:
        """Price the dearest tools first, until no call is left."""
        scaled, left = 0, besides.most_calls
        for rate, most in sorted(((self.others[name], most) for name, most in besides.calls.items()), reverse=True):
            scaled += min(most, left) * rate
            left -= min(most, left)
        return scaled

    def _rate(self, name: str) -> int:
        found: int = self.others[name] if name in self.others else getattr(self, name)
        return found


class Schedule(msgspec.Struct, frozen=True):
    """The rates of one tier; of its steps the highest threshold first."""

    base: Rates
    steps: tuple[tuple[int, Rates], ...]

    def at(self, input_tokens: int) -> Rates:
        """The highest step that is strictly exceeded, else the base."""
        for threshold, rates in self.steps:
            if input_tokens > threshold:
                return rates
        return self.base


class RateCard(msgspec.Struct, frozen=True):
    """A price, compiled: its rates by tier and step."""

    usual: Schedule
    tiers: dict[str, Schedule]

    def rates(self, usage: Usage) -> Rates:
        """Choose the rates by the usage's tier and input.

        A tier without a price is booked at base.
        """
        if usage.details is not None and usage.details.service_tier is not None:
            return self.tiers.get(usage.details.service_tier, self.usual).at(usage.prompt_tokens)
        return self.usual.at(usage.prompt_tokens) if self.usual.steps else self.usual.base

    @property
    def is_by_request(self) -> bool:
        """Whether the sum of several requests has another price than they have."""
        return bool(self.tiers) or bool(self.usual.steps)

    def is_unpriced(self, usage: Usage) -> bool:
        tier = usage.details.service_tier if usage.details is not None else None
        return tier is not None and tier not in self.tiers

    def dearest_nano(
        self,
        prompt: int,
        completion: int,
        most_input: int,
        besides: Besides = NOTHING_BESIDES,
        *,
        requests: int = 1,
        is_batch: bool = False,
    ) -> int:
        """The most that so many requests may cost, in whichever tier.

        `most_input`: none of them has more input tokens, so steps above are out of its reach.
        """
        return max(
            rates.dearest_nano(prompt, completion, besides, requests=requests, is_batch=is_batch)
            for schedule in (self.usual, *self.tiers.values())
            for rates in _within_reach(schedule, most_input)
        )


def _within_reach(schedule: Schedule, most_input: int) -> Iterator[Rates]:
    yield schedule.base
    for threshold, rates in schedule.steps:
        if most_input > threshold:
            yield rates


def quantities(usage: Usage, requests: int = 1) -> dict[str, int | Fraction]:
    """Return what is paid for, by component, each token once.

    Cached tokens and then written ones are text first, then audio, then images, but for the crossing in `details`.
    """
    details = usage.details or _NO_DETAILS
    audio, image = details.audio_input_tokens, details.image_input_tokens
    cached_audio, cached_image = details.cached_audio_tokens, details.cached_image_tokens
    cached_text = usage.cached_tokens - cached_audio - cached_image
    written = details.cache_write_tokens + details.cache_write_1h_tokens + details.cache_write_12h_tokens
    text_left = usage.prompt_tokens - audio - image - cached_text
    audio_left, image_left = audio - cached_audio, image - cached_image
    written_text = min(written, text_left)
    written_audio = min(written - written_text, audio_left)
    written_image = written - written_text - written_audio
    spoken, drawn = details.audio_output_tokens, details.image_output_tokens
    return {
        "input": text_left - written_text,
        "cached_input": cached_text,
        "cached_audio_input": cached_audio,
        "cached_image_input": cached_image,
        "cache_write": details.cache_write_tokens,
        "cache_write_1h": details.cache_write_1h_tokens,
        "cache_write_12h": details.cache_write_12h_tokens,
        "audio_input": audio_left - written_audio,
        "image_input": image_left - written_image,
        "output": usage.completion_tokens - usage.reasoning_tokens - spoken - drawn,
        "reasoning": usage.reasoning_tokens,
        "audio_output": spoken,
        "image_output": drawn,
        "request": requests,
        "audio_minute": _exact(details.audio_seconds),
        **{component: getattr(details, name) for component, name in _OF_DETAILS},
    }


def rate_card(price: Price) -> RateCard:
    """Compile a price; equal ones share one card."""
    return _rate_card(_encode(price))


@lru_cache(maxsize=4096)
def _rate_card(encoded: bytes) -> RateCard:
    price = _decode(encoded)
    tiers = {}
    for name, tier in price.service_tiers.items():
        if isinstance(tier, TierPrice):
            tiers[name] = _schedule(price, tier, name)
        else:
            tiers[name] = _schedule(price, None, name, tier)
    return RateCard(_schedule(price, None), tiers)


def _schedule(price: Price, tier: TierPrice | None, name: str | None = None, factor: float | None = None) -> Schedule:
    """Compile a tier, at each of its steps.

    Its record, then its `above`, are laid over the record around it with that one's own `above`.
    """
    thresholds = {step.input_tokens for step in (*price.above, *(tier.above if tier is not None else ()))}

    def rates(threshold: int | None) -> Rates:
        layers = (price, _step(price, threshold), tier, _step(tier, threshold))
        return _compiled(laid_over(*layers), name, factor, threshold)

    steps = tuple((threshold, rates(threshold)) for threshold in sorted(thresholds, reverse=True))
    return Schedule(rates(None), steps)


def _step(price: TierPrice | None, threshold: int | None) -> PriceStep | None:
    """Find the highest step at or below the threshold.

    What exceeds the one exceeds the other.
    """
    if price is None or threshold is None:
        return None
    reached = [step for step in price.above if step.input_tokens <= threshold]
    return max(reached, key=lambda step: step.input_tokens, default=None)


@lru_cache(maxsize=1024)
def rates_of_record(record: str) -> Rates:
    """Compile the price that the ledger kept."""
    kept = msgspec.json.decode(record, type=Record)
    return _compiled(kept, kept.tier, kept.factor, kept.above)


def _compiled(price: Components, tier: str | None, factor: float | None, above: int | None) -> Rates:
    written = {name: value for name in Components.__struct_fields__ if (value := getattr(price, name)) is not None}
    record = Record(**written, tier=tier, factor=factor, above=above)
    times = Fraction(1) if factor is None else _exact(factor)
    exact = {name: rate * times for name, rate in _by_component(price).items()}
    denominator = math.lcm(*(rate.denominator for rate in exact.values()))
    whole = {name: int(rate * denominator) for name, rate in exact.items()}
    plain = ("input", "output", "cached_input", "reasoning", "request")
    batch = Fraction(1) if price.batch is None else _exact(price.batch)
    return Rates(
        denominator=denominator,
        **{name: whole[name] for name in plain},
        others={name: rate for name, rate in whole.items() if name not in plain},
        batch=(batch.numerator, batch.denominator),
        dearest_input=max(whole[name] for name in _INPUTS),
        dearest_output=max(whole[name] for name in _OUTPUTS),
        record=msgspec.json.encode(record).decode(),
    )


def _by_component(price: Components) -> Mapping[str, Fraction]:
    """Billionths for one of each; here arrows are followed."""
    rates: dict[str, Fraction] = {}
    for name in _TOKENS:
        value = getattr(price, name)
        arrow = _ARROWS.get(name)
        rates[name] = _exact(value) * _PER_MILLION if value is not None else rates[arrow] if arrow else Fraction()
    tools = price.tools or ToolPrices()
    return rates | {
        "request": _exact(price.request) * NANO,
        "image": _exact(price.image) * NANO,
        "audio_minute": _exact(price.audio_minute) * NANO / _SECONDS,
        "characters": _exact(price.characters) * _PER_MILLION,
        **{name: _exact(getattr(tools, name)) * NANO for name in ToolPrices.__struct_fields__},
    }


def _exact(value: float | None) -> Fraction:
    """Return the decimal fraction that was written.

    0.1 means a tenth, not the nearest binary fraction.
    """
    return Fraction(Decimal(repr(value))) if value else Fraction()


def _rounded(scaled: int, denominator: int) -> int:
    whole, rest = divmod(scaled, denominator)
    twice = 2 * rest
    return whole + (twice > denominator or (twice == denominator and whole & 1))
