"""An independent calculator of costs: fractions, and the contract's sentences one after another."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

ARROWS = {
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
NOT_COMPONENTS = ("above", "service_tiers", "input_tokens")


def exact(value: float) -> Fraction:
    return Fraction(Decimal(repr(value)))


def overlay(*records: dict[str, Any] | None) -> dict[str, Any]:
    laid: dict[str, Any] = {}
    for record in records:
        for name, value in (record or {}).items():
            if name == "tools":
                laid["tools"] = {**laid.get("tools", {}), **value}
            elif name not in NOT_COMPONENTS:
                laid[name] = value
    return laid


def step_of(record: dict[str, Any] | None, input_tokens: int) -> dict[str, Any] | None:
    exceeded = [step for step in (record or {}).get("above", ()) if input_tokens > step["input_tokens"]]
    return max(exceeded, key=lambda step: int(step["input_tokens"]), default=None)


def rate(record: dict[str, Any], name: str) -> Fraction:
    while name not in record:
        if name not in ARROWS:
            return Fraction(0)
        name = ARROWS[name]
    return exact(record[name])


def cost(price: dict[str, Any], used: dict[str, Any]) -> int:
    """The cost in billionths. `used`: disjoint amounts by component, `tier`, `is_batch`."""
    tokens = {name: used.get(name, 0) for name in ("input", "output", *ARROWS)}
    input_tokens = sum(tokens[name] for name in tokens if name not in ("output", "reasoning")) - (
        tokens["audio_output"] + tokens["image_output"]
    )
    tier = price.get("service_tiers", {}).get(used.get("tier"))
    of_tier = tier if isinstance(tier, dict) else None
    record = overlay(price, step_of(price, input_tokens), of_tier, step_of(of_tier, input_tokens))
    total = sum((count * rate(record, name) / 1_000_000 for name, count in tokens.items()), Fraction(0))
    total += used.get("request", 0) * rate(record, "request")
    total += used.get("image", 0) * rate(record, "image")
    total += exact(used.get("audio_seconds", 0)) * rate(record, "audio_minute") / 60
    total += used.get("characters", 0) * rate(record, "characters") / 1_000_000
    for tool, price_of_call in record.get("tools", {}).items():
        total += used.get(tool, 0) * exact(price_of_call)
    if isinstance(tier, int | float):
        total *= exact(tier)
    if used.get("is_batch"):
        total *= exact(record.get("batch", 1))
    return round(total * 1_000_000_000)  # of fractions: half to even
