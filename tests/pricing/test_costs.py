"""Costs are right to the billionth, whatever the report and whatever the price (P15)."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from pricing.calculator import ARROWS, cost
from pricing.reports import SHAPES

from gateway.dialects.openai.metering.contents import contents_of
from gateway.pricing import Price, Usage, UsageDetails, rate_card, rates_of_record

PER_SEED = 20  # usages of one seed: what Hypothesis draws is a number, for these are many
TOKEN_KINDS = ("input", "output", *ARROWS)
CALLS = ("web_search", "file_search", "code_interpreter", "web_fetch")
SINGLE = ("request", "image", "audio_minute", "characters")


def money(rng: Random) -> float:
    odd = (0.1, 0.3, 0.075, 1e-9, 3.3333333333, 2.5, 0.0004, 1e-12, rng.randint(0, 200))
    return rng.choice((*odd, round(rng.uniform(0, 100), rng.randint(0, 6))))


def components(rng: Random) -> dict[str, Any]:
    record: dict[str, Any] = {name: money(rng) for name in (*TOKEN_KINDS, *SINGLE) if rng.random() < 0.5}
    if rng.random() < 0.5:
        record["tools"] = {name: money(rng) for name in CALLS if rng.random() < 0.5}
    if rng.random() < 0.5:
        record["batch"] = rng.choice((0, 0.5, 0.25, 1, 1.1))
    return record


def stepped(rng: Random) -> dict[str, Any]:
    steps = [components(rng) | {"input_tokens": each} for each in rng.sample(range(3000), rng.randint(0, 3))]
    return components(rng) | ({"above": steps} if steps else {})


def a_price(rng: Random) -> dict[str, Any]:
    tiers = {
        name: rng.choice((0.5, 2, 1.75)) if rng.random() < 0.5 else stepped(rng)
        for name in ("flex", "priority", "fast")
        if rng.random() < 0.5
    }
    return stepped(rng) | ({"service_tiers": tiers} if tiers else {})


def a_usage(rng: Random) -> dict[str, Any]:
    most = rng.choice((3, 1500, 2_000_000))
    used: dict[str, Any] = {name: rng.randint(0, most) for name in TOKEN_KINDS if rng.random() < 0.6}
    used |= {name: rng.randint(0, 20) for name in ("image", *CALLS) if rng.random() < 0.4}
    return used | {
        "audio_seconds": rng.choice((0, 27, 8.470000267028809, rng.uniform(0, 7200))),
        "characters": rng.randint(0, 100_000),
        "request": rng.randint(0, 1),
        "tier": rng.choice(("flex", "priority", "fast", "unheard-of", None)),
        "is_batch": rng.random() < 0.3,
    }


def price_of(record: dict[str, Any]) -> Price:
    return msgspec.convert(record, Price)


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_a_cost_is_the_sum_of_its_parts_rounded_once(seed: int) -> None:
    """Every component, tier, step and factor, in any mixture: 10,000 of them."""
    rng = Random(seed)
    price = a_price(rng)
    for _ in range(PER_SEED):
        check_parts(price, a_usage(rng))


def check_parts(price: dict[str, Any], used: dict[str, Any]) -> None:
    cached_audio, cached_image = used.get("cached_audio_input", 0), used.get("cached_image_input", 0)
    usage = Usage(
        prompt_tokens=sum(used.get(name, 0) for name in ("input", *ARROWS)) - outputs(used),
        completion_tokens=used.get("output", 0) + outputs(used),
        cached_tokens=used.get("cached_input", 0) + cached_audio + cached_image,
        reasoning_tokens=used.get("reasoning", 0),
        details=UsageDetails(
            cached_audio_tokens=cached_audio,
            cached_image_tokens=cached_image,
            cache_write_tokens=used.get("cache_write", 0),
            cache_write_1h_tokens=used.get("cache_write_1h", 0),
            cache_write_12h_tokens=used.get("cache_write_12h", 0),
            audio_input_tokens=used.get("audio_input", 0) + cached_audio,
            image_input_tokens=used.get("image_input", 0) + cached_image,
            audio_output_tokens=used.get("audio_output", 0),
            image_output_tokens=used.get("image_output", 0),
            images=used.get("image", 0),
            audio_seconds=used.get("audio_seconds", 0),
            characters=used.get("characters", 0),
            web_search=used.get("web_search", 0),
            file_search=used.get("file_search", 0),
            code_interpreter=used.get("code_interpreter", 0),
            web_fetch=used.get("web_fetch", 0),
            service_tier=used.get("tier"),
        ),
    )
    rates = rate_card(price_of(price)).rates(usage)
    found = rates.cost_nano(usage, requests=used.get("request", 0), is_batch=used.get("is_batch", False))
    assert found == cost(price, used), (price, used)
    again = rates_of_record(rates.record)
    assert again.cost_nano(usage, requests=used.get("request", 0), is_batch=used.get("is_batch", False)) == found


def outputs(used: dict[str, Any]) -> int:
    return sum(used.get(name, 0) for name in ("reasoning", "audio_output", "image_output"))


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_a_report_costs_what_it_says(seed: int) -> None:
    """From the bytes of each provider's report to the billionth: 10,000 of them, of every shape."""
    rng = Random(seed)
    price = a_price(rng)
    card = rate_card(price_of(price))
    for _ in range(PER_SEED):
        kept, report = rng.choice(SHAPES)(a_usage(rng))
        body = {"response": {"usage": report}} if rng.random() < 0.5 else {"usage": report}
        contents = contents_of(msgspec.json.encode(body))
        assert contents is not None
        usage = contents.usage or Usage()
        tier = usage.details.service_tier if usage.details is not None else None
        due = kept | {"tier": tier, "request": 1}
        assert card.rates(usage).cost_nano(usage, requests=1) == cost(price, due), (price, report)


def test_cached_tokens_cost_what_they_cost() -> None:
    """100,000 tokens of which 90,000 are cached."""
    rates = rate_card(Price(input=2.5, output=10, cached_input=0.25)).usual.base
    assert rates.cost_nano(Usage(100_000, 0, 100_000, 90_000)) == 47_500_000


def test_halves_are_rounded_to_even() -> None:
    rates = rate_card(Price(input=0.000_5)).usual.base
    assert [rates.cost_nano(Usage(count, 0, count)) for count in (1, 2, 3, 5, 7)] == [0, 1, 2, 2, 4]


def test_a_tier_without_a_price_is_booked_at_base_and_known() -> None:
    card = rate_card(Price(input=1, service_tiers={"flex": 0.5}))
    unknown = Usage(1_000_000, 0, 1_000_000, details=UsageDetails(service_tier="scale"))
    assert card.rates(unknown).cost_nano(unknown) == 1_000_000_000
    assert card.is_unpriced(unknown)
    assert not card.is_unpriced(Usage(details=UsageDetails(service_tier="flex")))
    assert not card.is_unpriced(Usage())


def test_the_dearest_price_is_above_every_cost() -> None:
    """Whatever the kinds, the tier and the step turn out to be."""
    price = {
        "input": 1,
        "output": 4,
        "cache_write_1h": 2,
        "audio_output": 80,
        "above": [{"input_tokens": 1000, "input": 3}],
        "service_tiers": {"priority": 2, "flex": {"input": 9}},
    }
    card = rate_card(price_of(price))
    assert card.dearest_nano(100, 10, 100) == 2 * (100 * 2_000 + 10 * 80_000)
    assert card.dearest_nano(100, 10, 5000) == 2 * (100 * 3_000 + 10 * 80_000)
    assert card.dearest_nano(1_000_000, 0, 100) == 1_000_000 * 9_000


def test_how_often_a_request_is_in_a_cost() -> None:
    """Of a batch as often as it has lines that were answered."""
    rates = rate_card(Price(input=2.5, request=0.001, batch=0.5)).usual.base
    usage = Usage(1000, 0, 1000)
    for requests in (0, 1):
        assert rates.requests_paid(usage, rates.cost_nano(usage, requests=requests)) == requests
    for requests in (0, 1, 50_000):
        booked = rates.cost_nano(usage, requests=requests, is_batch=True)
        assert rates.requests_paid(usage, booked, is_batch=True) == requests
    free = rate_card(Price(input=2.5)).usual.base
    assert free.requests_paid(usage, free.cost_nano(usage, is_batch=True), is_batch=True) == 0
