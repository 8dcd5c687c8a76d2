"""Two gateways of two workers each, and a failover of their Redis while clients never stop asking.

By Sentinel and in a Cluster alike: no 401, no 500, limits exact before and after; what was admitted beyond them in
between is bounded by what docs/redis.md says.
"""

from __future__ import annotations

import asyncio
import collections
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from agree.agree_kit import Asked, Load, chat, code_of, gateway, ready, running_upstream, settings
from kit import KEYS, FakeUpstream, GatewayProcess, Wire, ask, request_bytes
from kit.books import acting_for, fresh_user, rows, until
from kit.redis_nodes import Cluster, Node, Trio, needs_redis
from kit.stage import Record, endpoint, model

from gateway.access.authenticate import key_sha256

WORKERS = 4  # of both gateways
LIMIT = 40
CLIENTS = 8  # on each gateway
GRACE_SECONDS = 1.0  # for a machine that is busy


class Servers(NamedTuple):
    url: str
    holder: Callable[[str], Node]  # the primary that has a key
    fail_over: Callable[[], object]  # SIGKILL of the primary that counts; waits for the next one
    replicated: Callable[[], object]

    def write(self, kind: str, record_id: str, document: Record, *, publish: bool = True) -> None:
        """As a panel does."""
        name = f"gw:{kind}:{record_id}"
        self.holder(name).do("SET", name, json.dumps(document))
        if publish:
            self.holder("{gw}:").do("PUBLISH", "gw:changed", json.dumps({"kind": kind, "id": record_id}))


@contextmanager
def sentinel(directory: Path) -> Iterator[Servers]:
    with Trio.open(directory) as trio:
        yield Servers(trio.url(), lambda _: trio.primary, trio.fail_over, trio.replicated)


@contextmanager
def cluster(directory: Path) -> Iterator[Servers]:
    options = ("--cluster-require-full-coverage", "no")
    with Cluster.open(directory, *options) as six:

        def replicated() -> None:
            primary = six.owner("{gw}:")
            replica = six.replica_of(primary)
            offset = primary.do("ROLE")[1]
            while replica.do("ROLE")[4] < offset:
                time.sleep(0.02)

        yield Servers(six.url(), six.owner, lambda: six.fail_over("{gw}:"), replicated)


@asynccontextmanager
async def two_gateways(directory: Path, url: str, upstream: FakeUpstream) -> AsyncIterator[list[GatewayProcess]]:
    """On one ledger, as two machines would be on one database."""
    models = [
        model("free", [endpoint(upstream, "free")]),
        model("counted", [endpoint(upstream, "counted")], limits={"requests": LIMIT, "period": "month"}),
        model("lasting", [endpoint(upstream, "lasting")], limits={"requests": LIMIT, "period": "month"}),
    ]
    whole = settings(
        models, url, server={"workers": WORKERS // 2}, usage={"url": f"sqlite:///{directory / 'usage.db'}"}
    )
    async with gateway(directory / "one", whole) as one, gateway(directory / "two", whole) as two:
        yield [one, two]


async def passed(gateways: list[GatewayProcess], user: str, name: str, each: int) -> int:
    """How many requests of one user pass, asked of both gateways by many at once; all others are 429."""
    statuses: collections.Counter[int] = collections.Counter()

    async def client(port: int) -> None:
        for _ in range(each):
            async with Wire.open(port) as wire:  # another connection may reach another worker
                await wire.send(question(user, name))
                statuses[(await wire.reply()).status] += 1

    async with asyncio.TaskGroup() as clients:
        for at in gateways:
            for _ in range(CLIENTS):
                clients.create_task(client(at.port))
    assert set(statuses) <= {200, 429}, statuses
    return statuses[200]


def question(user: str, name: str) -> bytes:
    """A chat for a user, on a connection that is not used again."""
    head = [*acting_for(user), ("connection", "close")]
    return request_bytes("POST", "/v1/chat/completions", ask(name), key=KEYS["panel"], headers=head)


async def until_all_ready(gateways: list[GatewayProcess]) -> None:
    """Every worker of each gateway, told apart by their process ids."""
    for at in gateways:
        well: set[int] = set()

        async def are_ready(at: GatewayProcess = at, well: set[int] = well) -> bool:
            for told in await asyncio.gather(*(ready(at) for _ in range(4))):
                (well.add if told["status"] == "ok" else well.discard)(told["detail"]["pid"])
            return len(well) == WORKERS // 2

        await until(are_ready)


async def strangers(gateways: list[GatewayProcess], servers: Servers, stop: asyncio.Event) -> list[Asked]:
    """Keys that no worker remembers, each asked once: found, or 503 while Redis cannot say."""
    found: list[Asked] = []
    number = 0
    while not stop.is_set():
        key = f"sk-stranger-{number:020}"
        at = gateways[number % len(gateways)]
        began = time.monotonic()
        reply = await chat(at, "free", key=key)
        found.append(Asked(at.port, began, reply.status, code_of(reply)))
        number += 1
    return found


@pytest.mark.parametrize("form", [sentinel, cluster], ids=["sentinel", "cluster"])
async def test_a_failover_under_load(form: Callable[[Path], Any], tmp_path: Path) -> None:
    needs_redis()
    key = "sk-known-to-redis-0123456789abcdef"
    record = {"id": "k", "user": 42, "scopes": ["ai:use"]}
    with form(tmp_path / "redis") as servers:
        servers.write("key", key_sha256(key), record)
        async with (
            running_upstream() as upstream,
            two_gateways(tmp_path, servers.url, upstream) as gateways,
        ):
            await until_all_ready(gateways)
            before, lasting = fresh_user(), fresh_user()
            assert await passed(gateways, before, "counted", each=4) == LIMIT
            spent = await passed(gateways, lasting, "lasting", each=1)
            assert spent == 2 * CLIENTS
            await rows(gateways[0], lasting, spent)  # each worker begins alone with what the ledger knows by then

            await asyncio.to_thread(servers.replicated)
            stop = asyncio.Event()
            async with Load.on(gateways, "free", key=key, clients=2) as load:
                unknown = asyncio.create_task(strangers(gateways, servers, stop))
                beyond = asyncio.create_task(passed_meanwhile(gateways, lasting, "lasting", stop))
                await asyncio.to_thread(servers.fail_over)
                await until_all_ready(gateways)
                stop.set()
                more = await beyond
            asked = await unknown

            # What is remembered is served throughout; what is not known is 401 only where Redis said so, else 503.
            assert set(load.statuses) == {200}, load.statuses
            answers = {(each.status, each.code) for each in asked}
            assert answers <= {(401, "invalid_api_key"), (503, "store_unavailable")}
            assert (503, "store_unavailable") in answers

            # Redis admits what is left; then each worker alone what is left by the ledger, which knows of these or not.
            assert more <= (1 + WORKERS) * (LIMIT - spent), (spent, more)

            # Exact again: who had used everything has nothing, and new ones get all of it and no more.
            assert await passed(gateways, before, "counted", each=1) == 0
            assert await passed(gateways, fresh_user(), "counted", each=4) == LIMIT
            assert await passed(gateways, lasting, "lasting", each=2) <= max(0, LIMIT - spent - more)

            await assert_revocation_holds(gateways, servers, key, record, publish=True, seconds=1.0)
            await assert_revocation_holds(gateways, servers, key, record, publish=False, seconds=5.0)


async def passed_meanwhile(gateways: list[GatewayProcess], user: str, name: str, stop: asyncio.Event) -> int:
    """How many requests of one user pass until `stop` is set, with each worker asked again and again."""
    count = 0
    while not stop.is_set():
        for at in gateways:
            async with Wire.open(at.port) as wire:
                await wire.send(question(user, name))
                reply = await wire.reply()
            # 503: this worker had never looked the user up.
            assert reply.status in (200, 429) or code_of(reply) == "store_unavailable", reply
            count += reply.status == 200
    return count


async def assert_revocation_holds(
    gateways: list[GatewayProcess], servers: Servers, key: str, record: Record, *, publish: bool, seconds: float
) -> None:
    """On every worker."""
    servers.write("key", key_sha256(key), record)
    async with Load.on(gateways, "free", key=key, clients=4) as load:
        await load.until(lambda: load.asked[-1].status == 200)
        servers.write("key", key_sha256(key), record | {"revoked": True}, publish=publish)
        revoked = time.monotonic()
        await load.until(lambda: load.asked[-1].began > revoked + seconds + GRACE_SECONDS)
        await load.more(20)
    late = [each for each in load.since(revoked + seconds + GRACE_SECONDS) if each.status != 401]
    assert late == []
