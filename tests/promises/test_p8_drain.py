"""P8: SIGTERM under load: what runs may end, what is new is refused, streams left are told, nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from agree.agree_kit import running_redis
from kit import DONE, KEYS, FakeUpstream, GatewayProcess, Received, Wire, as_openai, ask, config, events, request_bytes
from kit.answers import delta, full
from kit.books import stored, until
from kit.stage import endpoint, model
from promise_kit import gateway, rounds, upstream_with

DRAIN_SECONDS = 2.0
CLIENTS = 8
INCOMPLETE = b'"code":"stream_incomplete"'


class Answered(NamedTuple):
    tag: str
    status: int  # 0: the connection was refused or ended before an answer
    body: bytes = b""


async def as_asked(request: Received) -> None:
    """`short` ends while the drain goes on, `long` would not; anything else is answered at once."""
    plan = request.json()["user"].partition(":")[0]
    if plan == "short":
        await request.send(full(200, b'{"whole": true}')[:-5])
        await asyncio.sleep(0.4)  # a request that is running when the signal comes
        await request.send(b"true}")
    elif plan == "long":
        await events(delta("one"), asyncio.Event())(request)
    else:
        await as_openai()(request)


class Load:
    """Clients that ask until the gateway is gone."""

    def __init__(self, at: GatewayProcess) -> None:
        self.at = at
        self.answered: list[Answered] = []
        self._numbers = itertools.count()

    async def ask(self, plan: str, *, stream: bool = False) -> Answered:
        tag = f"{plan}:{next(self._numbers)}"
        try:
            async with Wire.open(self.at.port) as wire:
                body, headers = ask("m", user=tag, stream=stream), [("x-client-request-id", tag)]
                await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["user"], headers=headers))
                reply = await wire.reply()
                one = Answered(tag, reply.status, reply.body)
        except (ConnectionError, asyncio.IncompleteReadError):
            one = Answered(tag, 0)
        self.answered.append(one)
        return one

    async def until_gone(self) -> None:
        while (await self.ask("quick")).status:
            pass


def settings(upstream: FakeUpstream, redis_url: str | None) -> dict[str, Any]:
    store = {"kind": "embedded"} if redis_url is None else {"kind": "redis", "url": redis_url}
    server = {"drain_seconds": DRAIN_SECONDS, "workers": 1 if redis_url is None else 2}
    return config([model("m", [endpoint(upstream, "m")])], server=server, store=store)


async def drain_under_load(directory: Path, dice: random.Random, redis_url: str | None) -> None:
    async with upstream_with(as_asked) as upstream:
        async with gateway(directory, settings(upstream, redis_url)) as at:
            load = Load(at)
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(load.until_gone())
                short = [group.create_task(load.ask("short")) for _ in range(5)]
                long = [group.create_task(load.ask("long", stream=True)) for _ in range(5)]
                await until_seen(upstream, {"short": 5, "long": 5, "quick": dice.randrange(5, 60)})
                at.signal(signal.SIGTERM)
            assert await at.wait(seconds=DRAIN_SECONDS + 8) == 0
        seen = Counter(request.json()["user"] for request in upstream.endpoint("m").requests)
    assert [(task.result().status, task.result().body) for task in short] == [(200, b'{"whole": true}')] * 5
    for task in long:
        assert task.result().status == 200
        assert task.result().body.startswith(delta("one"))
        assert INCOMPLETE in task.result().body
        assert DONE not in task.result().body
    check_ledger(directory, seen, load.answered)


async def until_seen(upstream: FakeUpstream, wanted: dict[str, int]) -> None:
    async def all_there() -> bool:
        seen = Counter(each.json()["user"].partition(":")[0] for each in upstream.endpoint("m").requests)
        return all(seen[plan] >= count for plan, count in wanted.items())

    await until(all_there)


def check_ledger(directory: Path, seen: Counter[str], answered: list[Answered]) -> None:
    """One row for each request that an upstream saw, settled; the refused ones have none, and no journal is left."""
    found = stored(directory)
    assert Counter(row["client_request_id"] for row in found) == dict.fromkeys(seen, 1)
    outcomes = {row["client_request_id"]: row["outcome"] for row in found}
    for one in answered:
        assert one.status in (0, 200, 503), one
        assert (one.tag in seen) == (one.status == 200), one
        if one.status == 200:
            expected = {"ok"} if not one.tag.startswith("long") else {"upstream_error", "interrupted"}
            assert outcomes[one.tag] in expected, one
        if one.status == 503:
            assert b'"code":"shutting_down"' in one.body
    assert list((directory / "data" / "journal").iterdir()) == []


@pytest.mark.parametrize("store", ["embedded", "redis"])
async def test_a_drain_under_load_loses_nothing(tmp_path: Path, dice: random.Random, store: str) -> None:
    """One worker, or two with Redis, told to stop at any moment of a load: every client gets an honest end."""
    for number in range(rounds(1, 20)):
        directory = tmp_path / str(number)
        if store == "embedded":
            await drain_under_load(directory, dice, None)
            continue
        with running_redis(tmp_path) as server:
            await drain_under_load(directory, dice, server.url)
