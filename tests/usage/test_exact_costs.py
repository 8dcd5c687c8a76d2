"""Costs in JSON are exact decimals of at most nine places, however large the sum."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gateway.usage import exact_cost


@given(nano=st.integers(0, 10**24))
def test_no_billionth_is_lost_and_none_is_made_up(nano: int) -> None:
    text = bytes(exact_cost(nano)).decode()
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == Decimal(nano).scaleb(-9)
    assert len(text.partition(".")[2]) <= 9
    assert "e" not in text.lower()


def test_small_and_whole_ones_read_as_people_write_them() -> None:
    written = [bytes(exact_cost(nano)) for nano in (0, 1, 10, 1_500_000_000, 3_000_000_000)]
    assert written == [b"0", b"0.000000001", b"0.00000001", b"1.5", b"3"]
