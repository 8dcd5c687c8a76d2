"""Reports and exports beside everything else that a gateway does: bounded, out of the way, and for whoever is there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kit import KEYS, FakeUpstream, Stage, Wire, ask, request_bytes
from kit.books import acting_for, rows, usage
from kit.stage import Record, endpoint, model

MANY = 150_000
EVER = "?from=2020-01-01&to=2099-12-31"


def models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("gpt", [endpoint(upstream, "main")], id=1)
    yield model("other", [endpoint(upstream, "other-main") | {"id": "main"}], id=2)
    yield model("counted", [endpoint(upstream, "counted")], limits={"tokens": 10**9, "period": "month"})


def add_rows(database: Path, user: str) -> None:
    """Many rows like the newest, of this user."""
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        names = [column[1] for column in connection.execute("pragma table_info(ai_usage)")]
        own = {
            "request_id": "'r' || value",
            "user_id": "?",
            "time_ms": "time_ms - value",
            "model": "'m' || value % 500",
            "summed": "null",
        }
        connection.execute(
            f"with recursive n(value) as (select 1 union all select value + 1 from n where value < {MANY}) "
            f"insert into ai_usage select {', '.join(own.get(name, name) for name in names)} "
            "from n, (select * from ai_usage limit 1)",
            (user,),
        )


async def test_a_fresh_gateway_tells_of_nothing(tmp_path: Path) -> None:
    """The first thing that it is asked, before it has brought anything to its database: empty, no error."""
    async with Stage.open(tmp_path, models) as stage:
        reply = await stage.get("/api/ai/usage")
        assert (reply.status, reply.json()["totals"]["requests"], reply.json()["rows"]) == (200, 0, [])
        exported = await stage.get("/api/ai/usage/export.csv")
        assert (exported.status, exported.body.count(b"\n")) == (200, 1)


async def test_what_was_used_before_a_restart_is_in_the_first_report_after_it(tmp_path: Path) -> None:
    """A process was killed with everything in its journal; the next one tells of it from its first report on."""
    async with Stage.open(tmp_path, models, may_end=True) as stage:
        for _ in range(5):
            assert (await stage.post(ask("gpt"))).status == 200
        stage.gateway.process.kill()
        await stage.gateway.wait()
    async with Stage.open(tmp_path, models) as stage:
        assert (await stage.get("/api/ai/usage")).json()["totals"]["requests"] == 5


async def test_endpoints_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Ids of endpoints are unique within a model only; a model that is gone has no name."""
    async with Stage.open(tmp_path, models) as stage:
        for name in ("gpt", "gpt", "other"):
            assert (await stage.post(ask(name))).status == 200
        await rows(stage.gateway, "42", 3)
        told = (await usage(stage.gateway, "42", "?group=endpoint"))["rows"]
        assert [(row["model"], row["name"], row["endpoint"], row["requests"]) for row in told] == [
            (1, "gpt", "main", 2),
            (2, "other", "main", 1),
        ]
    async with Stage.open(tmp_path, lambda upstream: list(models(upstream))[:1]) as stage:
        by_model = (await usage(stage.gateway, "42", "?group=model"))["rows"]
        assert [(row["model"], row["name"]) for row in by_model] == [(1, "gpt"), (2, None)]


async def test_users_that_share_their_first_253_characters_are_two(tmp_path: Path) -> None:
    """In the report, in the file, and in what counts against a limit after a restart."""
    users = [f"{'u' * 253}{number}" for number in (1, 2)]
    limited = {"limits": {"requests": 2, "period": "month"}}
    for expected, counts in (([200, 200], (2, 1)), ([429, 200], (2, 2))):
        async with Stage.open(tmp_path, lambda upstream: [model("m", [endpoint(upstream, "a")], **limited)]) as stage:

            async def asked_by(user: str, at: Stage = stage) -> int:
                return (await at.post(ask("m"), key=KEYS["panel"], headers=acting_for(user))).status

            first = [await asked_by(users[0]) for _ in range(1 + (expected[0] == 200))][-1]
            assert [first, await asked_by(users[1])] == expected
            told = [await rows(stage.gateway, user, count) for user, count in zip(users, counts, strict=True)]
            assert tuple(map(len, told)) == counts
            assert [{row["user"] for row in each} for each in told] == [{user} for user in users]


async def test_a_storm_of_reports_holds_up_nobody_else(tmp_path: Path) -> None:
    """One caller's reports fill its own places: others get theirs, and a total is counted again meanwhile."""
    async with Stage.open(tmp_path, models) as stage:
        await stage.post(ask("gpt"))
        await rows(stage.gateway, "42", 1)
        await asyncio.to_thread(add_rows, tmp_path / "data" / "usage.db", "heavy")
        target = "/api/ai/usage" + EVER + "&group=model"

        async def report(user: str) -> tuple[int, str | None]:
            async with Wire.open(stage.port) as wire:
                await wire.send(request_bytes("GET", target, key=KEYS["panel"], headers=acting_for(user)))
                reply = await wire.reply()
                return reply.status, None if reply.status == 200 else reply.json()["error"]

        storm = [asyncio.create_task(report("heavy")) for _ in range(40)]
        first = asyncio.create_task(stage.post(ask("counted")))
        light = await asyncio.gather(*(report(f"light-{number}") for number in range(3)))
        assert (await first).status == 200
        assert set(light) == {(200, None)}
        assert set(await asyncio.gather(*storm)) == {(200, None), (503, "overloaded")}
        assert await report("heavy") == (200, None)


@pytest.mark.parametrize("ending", ["", "/export.csv"])
async def test_head_asks_nothing_of_the_database(tmp_path: Path, ending: str) -> None:
    """It is answered where GET could not be, and its connection serves on."""
    away: dict[str, Any] = {"url": "postgresql://gateway@127.0.0.1:1/usage"}
    async with Stage.open(tmp_path, models, usage=away) as stage, Wire.open(stage.port) as wire:
        for _ in range(2):
            await wire.send(request_bytes("HEAD", "/api/ai/usage" + ending, key=KEYS["user"]))
            head = await wire.head()
            assert head.status == 200


async def test_exports_have_places_that_are_given_back(tmp_path: Path) -> None:
    """Two of one caller at once; a third is told to wait; whoever leaves in the middle makes room."""
    async with Stage.open(tmp_path, models) as stage:
        await stage.post(ask("gpt"))
        await rows(stage.gateway, "42", 1)
        await asyncio.to_thread(add_rows, tmp_path / "data" / "usage.db", "heavy")
        target, headers = "/api/ai/usage/export.csv" + EVER, acting_for("heavy")
        for number in range(1, 4):
            async with (
                Wire.open(stage.port, receive_buffer=8_192) as one,
                Wire.open(stage.port, receive_buffer=8_192) as two,
            ):
                for wire in (one, two):
                    await wire.send(request_bytes("GET", target, key=KEYS["panel"], headers=headers))
                    assert (await wire.head()).status == 200
                async with Wire.open(stage.port) as three:
                    await three.send(request_bytes("GET", target, key=KEYS["panel"], headers=headers))
                    refused = await three.reply()
                assert (refused.status, refused.json()["error"]) == (503, "overloaded")
                one.reset()
                two.reset()
            await until_gone(stage, 2 * number)


async def until_gone(stage: Stage, clients: int) -> None:
    """Waits until the gateway has noticed that so many left."""
    await stage.gateway.log(lambda _: sum(line.get("status") == 499 for line in stage.gateway.logs) >= clients)
