"""Usage of many days, as a gateway that has run for long would have it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from browser_kit import browsing, visiting
from kit import KEYS, FakeUpstream, Stage, ask
from kit.books import until_counted
from kit.stage import endpoint, model
from playwright.async_api import Page

OWNER = "sk-owner-0123456789abcdefghijk"
ALL_KEYS = [
    {"id": "owner", "user": 42, "key": OWNER, "scopes": ["ai:use", "ai:manage", "usage:read"]},
    {"id": "user", "user": 42, "key": KEYS["user"], "name": "laptop"},
    {"id": "panel", "user": "panel", "key": KEYS["panel"], "scopes": ["ai:use", "usage:read", "act:as"]},
]
NAMES = {1: "gpt-4o", 2: "claude-sonnet", 3: "qwen-coder", 4: "whisper"}
_DAY_MS = 86_400_000
# Of every day another amount, of every model another price: pictures are the same each time.
_SPREAD = """
with recursive n(value) as (select 1 union all select value + 1 from n where value < ?)
insert into ai_usage select {columns} from n, (select * from ai_usage limit 1)
"""
_OWN = {
    "request_id": "'r' || value",
    "summed": "null",  # nobody has added it to the sums yet
    "time_ms": f"time_ms - (value * value % 83 * value % 60) * {_DAY_MS} - value * 1000",
    "user_id": "case when value % 5 = 0 then '7' when value % 11 = 0 then 'visitor' else '42' end",
    "organisation_id": "case when value % 5 = 0 then '10' end",
    "key_id": "case when value % 3 = 0 then 'owner' else 'user' end",
    "model": "1 + (value * value % 7 > 3) + (value % 13 > 9) + (value % 41 = 0)",
    "prompt_tokens": "value * 37 % 2900",
    "completion_tokens": "value * 17 % 700",
    "total_tokens": "value * 37 % 2900 + value * 17 % 700",
    "cost_nano": "(value * 37 % 2900 + value * 17 % 700) * 9000 / (1 + value % 3)",
}


def models(upstream: FakeUpstream) -> Iterator[dict[str, Any]]:
    limits = {1: {"tokens": 400_000, "period": "month"}, 2: {"requests": 20, "period": "day"}, 3: {"cost": 50}}
    for number, name in NAMES.items():
        more: dict[str, Any] = {"limits": limits[number]} if number in limits else {}
        price = {"input": 2.5, "output": 10}
        yield model(name, [endpoint(upstream, f"{name}-a")], id=number, price=price) | {"global": True} | more


async def used(stage: Stage, directory: Path, rows: int = 900) -> None:
    """Some requests, and as many rows like them over sixty days."""
    for _ in range(3):
        assert (await stage.post(ask(NAMES[1]))).status == 200
    for _ in range(17):
        assert (await stage.post(ask(NAMES[2]))).status == 200
    await until_counted(stage.gateway, "42", 20)
    with closing(sqlite3.connect(directory / "data" / "usage.db", timeout=20)) as connection, connection:
        names = [column[1] for column in connection.execute("pragma table_info(ai_usage)")]
        columns = ", ".join(_OWN.get(name, name) for name in names)
        connection.execute(_SPREAD.format(columns=columns), (rows,))


@asynccontextmanager
async def usage_page(
    directory: Path, key: str = KEYS["user"], *, rows: int = 300, viewport: Any = None
) -> AsyncIterator[tuple[Stage, Page]]:
    """Signed in at a gateway with usage of sixty days."""
    sections = {"usage": {"currency": "USD"}, "organisations": [{"id": 10}]}
    async with (
        Stage.open(directory, models, keys=ALL_KEYS, **sections) as stage,
        browsing() as browser,
        visiting(browser, stage, key, viewport=viewport or {"width": 1280, "height": 900}) as page,
    ):
        if rows:
            await used(stage, directory, rows)
        yield stage, page
