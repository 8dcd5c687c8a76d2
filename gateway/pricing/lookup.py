"""Look prices up in genai-prices, for `price: auto`.

In a child process that ends: its data and what it imports stay out of the process that serves. No network is asked.

    python -m gateway.pricing.lookup    a list of [url, model] on stdin; what was found on stdout, in the same order
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import msgspec

from gateway.pricing.price import Price

SECONDS = 60.0
_MISSING = "needs the extra `prices`: pip install 'ecli-gateway[prices]'"
# Theirs by the slot here, and what one of theirs is of ours.
_SLOTS: dict[str, tuple[str, Fraction]] = {
    "input_mtok": ("input", Fraction(1)),
    "output_mtok": ("output", Fraction(1)),
    "cache_read_mtok": ("cached_input", Fraction(1)),
    "cache_audio_read_mtok": ("cached_audio_input", Fraction(1)),
    "cache_image_read_mtok": ("cached_image_input", Fraction(1)),
    "cache_write_mtok": ("cache_write", Fraction(1)),
    "cache_write_1h_mtok": ("cache_write_1h", Fraction(1)),
    "input_audio_mtok": ("audio_input", Fraction(1)),
    "input_image_mtok": ("image_input", Fraction(1)),
    "output_reasoning_mtok": ("reasoning", Fraction(1)),
    "output_audio_mtok": ("audio_output", Fraction(1)),
    "output_image_mtok": ("image_output", Fraction(1)),
    "requests_kcount": ("request", Fraction(1, 1000)),
    "audio_hours": ("audio_minute", Fraction(1, 60)),
    "input_audio_hours": ("audio_minute", Fraction(1, 60)),
    "input_mchars": ("characters", Fraction(1)),
    "web_searches_kcount": ("tools.web_search", Fraction(1, 1000)),
    "storage_searches_kcount": ("tools.file_search", Fraction(1, 1000)),
}


class Found(msgspec.Struct, frozen=True):
    """What was found for one endpoint and model.

    `no_slot`: what is priced there and cannot be here. `error`: why there is no price.
    """

    price: Price | None = None
    name: str = ""  # provider and model, as they are called there
    no_slot: tuple[str, ...] = ()
    error: str = ""


def look_up(wanted: Sequence[tuple[str, str]], seconds: float = SECONDS) -> list[Found]:
    """Look up prices by endpoint URL and provider model, in a child."""
    command = [sys.executable, "-m", "gateway.pricing.lookup"]
    try:
        done = subprocess.run(  # noqa: S603 - ourselves
            command, input=msgspec.json.encode(wanted), capture_output=True, timeout=seconds, check=True
        )
        found = msgspec.json.decode(done.stdout, type=list[Found])
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
        return [Found(error=f"could not be looked up ({type(error).__name__})")] * len(wanted)
    return found if len(found) == len(wanted) else [Found(error="could not be looked up")] * len(wanted)


# -- in the child


def _found(snapshot: Any, url: str, model: str) -> Found:
    try:
        provider, info = snapshot.find_provider_model(model, None, None, url)
    except LookupError:
        return Found(error="genai-prices knows no such model at this endpoint; write its price")
    now = datetime.now(UTC)
    record, no_slot = _record(info.get_prices(now))
    if not record:
        return Found(error="genai-prices knows this model, but no price of it that has a slot here; write its price")
    for variant in info.price_variants or ():
        if variant.constraint is None or variant.constraint.active(now):
            _add_variant(record, variant, no_slot)
    return Found(msgspec.convert(record, Price), f"{provider.id} {info.id}", tuple(sorted(set(no_slot))))


def _record(prices: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the prices in our slots, and the names that have none."""
    record: dict[str, Any] = {}
    steps: dict[int, dict[str, Any]] = {}
    no_slot: list[str] = []
    for name, value in vars(prices).items():
        if value is None or name.startswith("_"):
            continue
        slot, scale = _SLOTS.get(name, (None, Fraction(1)))
        if slot is None:
            no_slot.append(name)
            continue
        _put(record, slot, getattr(value, "base", value), scale)
        for tier in getattr(value, "tiers", ()):
            _put(steps.setdefault(tier.start, {"input_tokens": tier.start}), slot, tier.price, scale)
    if steps:
        record["above"] = [steps[start] for start in sorted(steps)]
    return record, no_slot


def _put(record: dict[str, Any], slot: str, value: Any, scale: Fraction) -> None:
    section, _, name = slot.rpartition(".")
    held = record.setdefault(section, {}) if section else record
    held[name] = float(Fraction(value) * scale)


def _add_variant(record: dict[str, Any], variant: Any, no_slot: list[str]) -> None:
    """Add what a request gets in another tier, or in a batch."""
    prices, missing = _record(variant.prices)
    no_slot += missing
    if not prices:
        return
    if list(variant.when) == ["service_tier"]:
        record.setdefault("service_tiers", {})[variant.when["service_tier"]] = prices
    elif variant.when == {"processing": "batch"} and (factor := _factor(record, prices)) is not None:
        record["batch"] = factor
    else:
        no_slot.append(" ".join(f"{name}={value}" for name, value in variant.when.items()))


def _factor(record: dict[str, Any], prices: dict[str, Any]) -> float | None:
    """Return the one factor between these prices, if there is one."""
    plain = {name: value for name, value in prices.items() if isinstance(value, float)}
    factors = {
        Fraction(str(value)) / Fraction(str(record[name])) if record.get(name) else None
        for name, value in plain.items()
    }
    factor = factors.pop() if len(factors) == 1 else None
    return None if factor is None else float(factor)


def _main() -> None:
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=list[tuple[str, str]])
    try:
        snapshot = importlib.import_module("genai_prices.data_snapshot").get_snapshot()
    except ImportError:
        found = [Found(error=_MISSING)] * len(wanted)
    else:
        found = [_found(snapshot, url, model) for url, model in wanted]
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    _main()
