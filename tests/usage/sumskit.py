"""The sums as they should be, by a way of their own: row by row, in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from typing import Any

from ledgerkit import engine_of, stored
from sqlalchemy import text

from gateway.types import Secret
from gateway.usage import Admission, Settlement
from gateway.usage.sql import rows, rows_store

Row = dict[str, Any]
DAY, HOUR = 24 * 3600 * 1000, 3600 * 1000


def row_of(admission: Admission, settlement: Settlement) -> Row:
    """By column, so that tests can change it and compare it with what is stored."""
    row = rows.row_of(admission, settlement)
    return {"price": row.price, **dict(zip(rows.COLUMNS, rows.values_of([row])[0], strict=True))}


class Store(rows_store.Store):
    """Takes such rows."""

    def insert(self, rows_: list[Row], *_: Any) -> list[Any]:
        return super().insert([_row(row) for row in rows_])


def _row(row: Row) -> rows.Row:
    kind = rows.stored_kind(*(row[name] for name in rows.KIND_COLUMNS))
    own = {name: value for name, value in row.items() if name not in rows.KIND_COLUMNS}
    return rows.Row(kind=kind, **own)


def key_of_day(row: Row) -> tuple[Any, ...]:
    at = int(datetime.fromtimestamp(row["time_ms"] // 1000, UTC).replace(hour=0, minute=0, second=0).timestamp()) * 1000
    names = ("organisation_id", "user_id", "key_id", "model", "endpoint_id")
    return at, *('"' if row[name] is None else row[name] for name in names)


def owners_of_hours(row: Row) -> Iterator[tuple[Any, ...]]:
    at = int(datetime.fromtimestamp(row["time_ms"] // 1000, UTC).replace(minute=0, second=0).timestamp()) * 1000
    for owner in ("*", "k:" + row["key_id"], None if row["counted_on"] is None else "c:" + row["counted_on"]):
        if owner is not None:
            yield at, owner, int(row["answered"])


def used(row: Row) -> Counter[str]:
    kind = "calls" if " " in row["route"] else "requests"
    same = ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_nano")
    return Counter({kind: 1, "tokens": row["total_tokens"], **{name: row[name] for name in same}})


def expected(rows: list[Row]) -> tuple[dict[Any, Counter[str]], dict[Any, Counter[str]]]:
    days: dict[Any, Counter[str]] = {}
    hours: dict[Any, Counter[str]] = {}
    for row in rows:
        days.setdefault(key_of_day(row), Counter()).update(used(row))
        for key in owners_of_hours(row):
            further = Counter(further_requests=row["further_requests"] or 0)
            hours.setdefault(key, Counter()).update(used(row) + further)
    return days, hours


def found(url: Secret, table: str, keys: int) -> dict[Any, Counter[str]]:
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            rows = connection.execute(text(f"select * from {table}")).mappings().all()
            whole = {row.hash: row.id for row in connection.execute(text("select hash, id from ai_usage_long_ids"))}
    finally:
        engine.dispose()
    return {
        tuple(unshortened(value, whole) for value in list(row.values())[:keys]): Counter(dict(list(row.items())[keys:]))
        for row in rows
    }


def unshortened(value: Any, whole: dict[str, str]) -> Any:
    """An id that is longer than its column lies elsewhere, by the hash at its end."""
    if not isinstance(value, str) or value[-65:-64] != "…":
        return value
    return (value[:2] if value[1] == ":" else "") + whole[value[-64:]]


def check_sums(url: Secret, rows: list[Row] | None = None) -> None:
    """Every sum is that of the rows that say they are in it, no more and no less."""
    rows = [row for row in stored(url) if row["summed"] is not None] if rows is None else rows
    days, hours = expected(rows)
    assert found(url, "ai_usage_daily", 6) == days
    assert found(url, "ai_usage_hourly", 3) == hours
    check_blocks(url, rows)


PLACES = {"t": (), "m": (3,), "e": (3, 4), "o": (0,), "u": (1, 2, 0)}  # of a day's key behind its time


def check_blocks(url: Secret, rows: list[Row]) -> None:
    """Every block that the list has is the sum of its days, and every day that has sums is on the list."""
    listed = numbers(url)
    days, _ = expected(rows)
    assert {key[0] // DAY * 16 + 15 for key in days} <= listed
    blocks: dict[Any, Counter[str]] = {}
    for number in listed:
        first, level = divmod(number, 16)
        for key, values in days.items():
            if level < 14 and first <= key[0] // DAY < first + 2**level:
                for kind, places in PLACES.items():
                    of = [key[1:][place] for place in places]
                    blocks.setdefault((number, kind, *of, *['"'] * (3 - len(of))), Counter()).update(values)
    made = found(url, "ai_usage_blocks", 5)
    assert {key: values for key, values in made.items() if key[0] in listed} == blocks
    check_ranks(url, days, {number >> 4 for number in listed if number % 16 == 14})


def check_ranks(url: Secret, days: dict[Any, Counter[str]], listed: set[int]) -> None:
    """Of each day that is listed: its users and keys in order; of one with ids in quotes none."""
    expected: dict[Any, Counter[str]] = {}
    for (kind, place), day in product((("user", 2), ("key", 3)), listed):
        of_day: dict[str, Counter[str]] = {}
        for key, values in days.items():
            if key[0] == day * DAY:
                of_day.setdefault(key[place], Counter()).update(values)
        if any(len(of) > 1 and of.startswith('"') for of in of_day):
            continue
        for measure, name in (("cost", "cost_nano"), ("tokens", "tokens"), ("requests", "requests")):
            order = sorted(of_day, key=lambda of: (-of_day[of][name], -of_day[of]["requests"], of))
            for number, of in enumerate(order):
                expected[day * DAY, kind, measure, number + 1, of] = of_day[of]
    made = found(url, "ai_usage_ranks", 5)
    assert {key: values for key, values in made.items() if key[0] // DAY in listed} == expected


def numbers(url: Secret) -> set[int]:
    """What is listed of days and blocks."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            return set(connection.scalars(text("select block from ai_usage_made")))
    finally:
        engine.dispose()
