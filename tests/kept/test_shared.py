"""Objects are known to every worker and every machine at once; who reads them is in the books, and pays nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from agree.agree_kit import running_redis
from kept_kit import KeepingGateway, models
from kit import FakeUpstream, GatewayProcess
from kit.books import acting_for, fresh_user, until, until_counted, usage
from kit.gateway import config
from kit.keeping import Keeping
from store.grants_kit import RedisServer

CHAIN = 50


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machines(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[KeepingGateway]]:
    """Two machines of two workers each, beside one Redis."""
    keeping = Keeping()
    upstream = await FakeUpstream.start(keeping)
    store, server = {"kind": "redis", "url": redis_server.url}, {"workers": 2}
    directories: list[Path] = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
    async with AsyncExitStack() as running:
        settings = config(list(models(upstream)), store=store, server=server)
        starts = [GatewayProcess.start(settings, each) for each in directories]
        gateways = [await running.enter_async_context(start) for start in starts]
        yield [KeepingGateway(gateway, upstream, keeping) for gateway in gateways]
    await upstream.close()
    assert upstream.faults == []


async def test_a_chain_over_workers_and_machines_sees_no_foreign_400(machines: list[KeepingGateway]) -> None:
    """Each call comes on a connection of its own, to the one machine and the other in turn."""

    async def chain(begin: int) -> None:
        previous: Any = None
        for turn in range(CHAIN):
            asked = {"model": "pair", "input": "Hi"} | ({"previous_response_id": previous} if previous else {})
            answer = await machines[(begin + turn) % 2].ask("POST", "/responses", asked)
            assert answer.status == 200, (turn, answer.body)
            previous = answer.json()["id"]

    await asyncio.gather(*(chain(begin) for begin in range(4)))


async def test_a_foreign_user_gets_404_everywhere(machines: list[KeepingGateway]) -> None:
    mine = (await machines[0].ask("POST", "/vector_stores", {"name": "x"})).json()["id"]
    for machine, _ in itertools.product(machines, range(4)):  # on whichever worker
        assert (await machine.ask("GET", f"/vector_stores/{mine}")).status == 200
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/files"), ("POST", "/search")):
            body = {"query": "x"} if method == "POST" else None
            refused = await machine.ask(method, f"/vector_stores/{mine}{path}", body, key="stranger")
            assert (refused.status, refused.error()["code"]) == (404, "object_not_found")
    assert mine in str((await machines[1].ask("GET", "/vector_stores")).body)
    await machines[1].ask("DELETE", f"/vector_stores/{mine}")
    assert (await machines[1].ask("GET", f"/vector_stores/{mine}")).status == 404


async def test_a_home_is_one_for_all_workers(machines: list[KeepingGateway]) -> None:
    asked = [machine.ask("POST", "/conversations", {}, key="panel") for machine in machines * 4]
    answers = await asyncio.gather(*asked)
    assert len({each.json()["id"].split("_")[1] for each in answers}) == 1


async def test_calls_are_in_the_books_apart_from_requests(kept: KeepingGateway) -> None:
    user = fresh_user()
    ask = partial(kept.ask, key="panel", headers=tuple(acting_for(user)))
    mine = (await ask("POST", "/responses", {"model": "far", "input": "Hi"})).json()["id"]

    async def are_called() -> bool:
        return bool((await usage(kept.gateway, user))["totals"].get("calls", 0) == 4)

    await until_counted(kept.gateway, user, 1)
    before = (await usage(kept.gateway, user))["totals"]
    for _ in range(3):
        assert (await ask("GET", f"/responses/{mine}")).status == 200
    assert (await ask("GET", "/files")).status == 200
    await until(are_called)
    assert {**(await usage(kept.gateway, user))["totals"], "calls": 0} == {**before, "calls": 0}
