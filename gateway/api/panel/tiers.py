"""Tiers: the one place that compares them."""

from __future__ import annotations

from collections.abc import Sequence


def reaches(tier: str, required: str, tiers: Sequence[str]) -> bool:
    """Whether `tier` is at least `required`.

    `tiers` lists all, lowest first.

    A tier that is not listed counts as the lowest: a mistyped record must not open anything.
    """
    rank = tiers.index(tier) if tier in tiers else 0
    return rank >= tiers.index(required)
