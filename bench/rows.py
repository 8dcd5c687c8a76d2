"""What all rounds of one target say together."""

from __future__ import annotations

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """Over the rounds."""

    median: float
    low: float
    high: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """By field: its values, what is added over the direct way, the gateway's ratio to it, each in the same round."""

    table: str
    case: str
    target: str
    rounds: int
    errors: int
    values: dict[str, Spread]
    added: dict[str, Spread]
    ratios: dict[str, Spread]
