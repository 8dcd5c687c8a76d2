"""P6: no count is overrun by concurrency, and tokens by no more than the last admitted request's own."""

from __future__ import annotations

import asyncio
import collections
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from kit import DONE, KEYS, FakeUpstream, GatewayProcess, Received, Wire, ask, config, events, raw, request_bytes
from kit.answers import delta, full
from kit.books import acting_for, ask_for, fresh_user, rows, stored
from kit.stage import Record, endpoint, model
from kit.wire import DEADLINE_SECONDS
from promise_kit import rounds, upstream_with

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLIENTS = 64
USERS = rounds(1, 25)  # one after the other, each at full speed against a count of its own
LIMITS: dict[str, Record] = {
    "hundred": {"requests": 100, "period": "month"},
    "rpm": {"rpm": 50},
    "narrow": {"concurrency": 8},
    "tokens": {"tokens": 2_000, "period": "day"},
    "both": {"requests": 30, "rpm": 1_000, "tokens": 10**9, "concurrency": 1_000},
    "stepped": {"requests": 100, "period": "month"},
    "held": {"tokens": 5_000, "period": "month"},
}


def models(upstream: FakeUpstream) -> Iterator[Record]:
    for name, limits in LIMITS.items():
        yield model(name, [endpoint(upstream, name)], limits=limits)


@asynccontextmanager
async def gateway_before(upstream: FakeUpstream, directory: Path) -> AsyncIterator[GatewayProcess]:
    settings = config(list(models(upstream)), server={"drain_seconds": 0.2})
    async with GatewayProcess.start(settings, directory) as gateway:
        yield gateway


class Scene(NamedTuple):
    upstream: FakeUpstream
    gateway: GatewayProcess


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """One gateway for the tests that do not end it; each has users of its own."""
    directory = tmp_path_factory.mktemp("p6")
    async with upstream_with() as upstream, gateway_before(upstream, directory) as gateway:
        yield Scene(upstream, gateway)


async def crowd(
    gateway: GatewayProcess, user: str, body: Record, *, each: int, until_refused: bool = False
) -> collections.Counter[int]:
    """`CLIENTS` clients with a connection each, who all begin at once and ask one after another. Counts statuses."""
    statuses: collections.Counter[int] = collections.Counter()
    all_here = asyncio.Barrier(CLIENTS)

    async def client() -> None:
        async with Wire.open(gateway.port) as wire:
            await all_here.wait()
            for _ in range(each):
                await wire.send(
                    request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=acting_for(user))
                )
                status = (await wire.reply()).status
                statuses[status] += 1
                if until_refused and status == 429:
                    return

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())
    return statuses


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_exactly_a_hundred_of_64_parallel_clients_requests_pass(scene: Scene, stream: bool) -> None:
    """256 requests at full speed against `requests: 100`: not one more, and not one less."""
    for _ in range(USERS):
        asked, user = scene.upstream.endpoint("hundred").requests, fresh_user()
        before = len(asked)
        assert await crowd(scene.gateway, user, ask("hundred", stream=stream), each=4) == {200: 100, 429: 156}
        assert len(asked) - before == 100
        assert len(await rows(scene.gateway, user, 100)) == 100


@pytest.mark.parametrize(("name", "pass_it"), [("rpm", 50), ("both", 30)])
async def test_other_counts_are_kept_as_exactly(scene: Scene, name: str, pass_it: int) -> None:
    """`rpm`, and a total beside limits that are far away."""
    asked = scene.upstream.endpoint(name).requests
    before = len(asked)
    assert await crowd(scene.gateway, fresh_user(), ask(name), each=2) == {200: pass_it, 429: 2 * CLIENTS - pass_it}
    assert len(asked) - before == pass_it


async def test_each_of_many_users_has_a_count_of_its_own(scene: Scene) -> None:
    """Four users at once, 64 requests each: every one gets its thirty, whoever comes in between."""
    users = [fresh_user() for _ in range(4)]
    asks = [(user, ask_for(scene.gateway, user, ask("both"))) for _ in range(64) for user in users]
    replies = await asyncio.gather(*(each for _, each in asks))
    passed = collections.Counter(user for (user, _), reply in zip(asks, replies, strict=True) if reply.status == 200)
    assert passed == dict.fromkeys(users, 30)


async def test_no_more_than_so_many_run_at_a_time(scene: Scene) -> None:
    """64 at once against `concurrency: 8`, the upstream holding all: eight are there, and stay the only ones."""
    user, release, refused = fresh_user(), asyncio.Event(), asyncio.Barrier(CLIENTS - 8 + 1)
    asked = scene.upstream.endpoint("narrow").always(events(delta("a"), release, DONE))

    async def client() -> int:
        status = (await ask_for(scene.gateway, user, ask("narrow", stream=True))).status
        if status == 429:
            await refused.wait()
        return status

    async with asyncio.TaskGroup() as clients:
        tasks = [clients.create_task(client()) for _ in range(CLIENTS)]
        async with asyncio.timeout(DEADLINE_SECONDS):
            await refused.wait()
        await asked.request(8)
        assert len(asked.requests) == 8
        release.set()
    assert collections.Counter(task.result() for task in tasks) == {200: 8, 429: 56}
    assert (await ask_for(scene.gateway, user, ask("narrow"))).status == 200


async def test_tokens_are_overrun_by_the_last_admitted_request_alone(scene: Scene) -> None:
    """Every answer uses what was reserved for it: 64 clients end below the limit plus one request's own tokens."""
    body, user = ask("tokens", max_tokens=70), fresh_user()
    own = len(json.dumps(body)) // 4 + 70  # what is reserved: a token for four bytes of the body, and the answer

    async def answer_as_reserved(request: Received) -> None:
        told = {"prompt_tokens": own - 70, "completion_tokens": 70, "total_tokens": own}
        await request.send(full(200, {"choices": [], "usage": told}))

    asked = scene.upstream.endpoint("tokens").always(answer_as_reserved)
    statuses = await crowd(scene.gateway, user, body, each=50, until_refused=True)
    assert statuses[429] == CLIENTS, "somebody was never refused"
    used = own * len(asked.requests)
    assert 2_000 <= used < 2_000 + own
    found = await rows(scene.gateway, user, statuses[200])
    assert sum(int(row["total_tokens"]) for row in found) == used


# --- totals survive


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "kill -9"])
async def test_totals_survive_a_restart(tmp_path: Path, end: signal.Signals) -> None:
    """60 of 100 are used, three more are under way when the process ends: its successor lets the rest pass, no more."""
    async with upstream_with() as upstream:
        asked = upstream.endpoint("stepped")
        async with gateway_before(upstream, tmp_path) as gateway:
            await asyncio.gather(*(ask_for(gateway, "crowd", ask("stepped")) for _ in range(60)))
            asked.replies(*[events(delta("a"), asyncio.Event())] * 3)
            async with asyncio.TaskGroup() as clients:
                for _ in range(3):
                    clients.create_task(cut_off(gateway, ask("stepped", stream=True)))
                await asked.request(63)
                gateway.signal(end)
                await gateway.wait()
        async with gateway_before(upstream, tmp_path) as gateway:
            assert await crowd(gateway, "crowd", ask("stepped"), each=1) == {200: 37, 429: 27}
            assert len(asked.requests) == 100
        assert collections.Counter(row["outcome"] for row in stored(tmp_path)) == {"ok": 97, "interrupted": 3}


async def test_a_stop_before_any_answer_uses_nothing(tmp_path: Path) -> None:
    """The upstreams of what a stop interrupts have not answered, and no client has left: all is given back."""
    async with upstream_with() as upstream:
        asked = upstream.endpoint("stepped")
        async with gateway_before(upstream, tmp_path) as gateway:
            asked.replies(*[raw(asyncio.Event())] * 3)
            async with asyncio.TaskGroup() as clients:
                for _ in range(3):
                    clients.create_task(cut_off(gateway, ask("stepped")))
                await asked.request(3)
                gateway.signal(signal.SIGTERM)
                await gateway.wait()
        async with gateway_before(upstream, tmp_path) as gateway:
            assert await crowd(gateway, "crowd", ask("stepped"), each=2) == {200: 100, 429: 28}
        ends = collections.Counter((row["outcome"], row["usage_source"]) for row in stored(tmp_path))
        assert ends == {("ok", "reported"): 100, ("interrupted", "none"): 3}


async def cut_off(gateway: GatewayProcess, body: dict[str, Any]) -> None:
    """Asks, and takes whatever comes until the connection ends."""
    async with Wire.open(gateway.port) as wire:
        await wire.send(
            request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=acting_for("crowd"))
        )
        while await wire.reader.read(1 << 16):
            pass


async def test_what_a_killed_process_had_reserved_comes_back(tmp_path: Path) -> None:
    """A reservation that held the whole quota dies with its process."""
    async with upstream_with() as upstream:
        asked = upstream.endpoint("held").replies(events(delta("a"), asyncio.Event()))
        async with gateway_before(upstream, tmp_path) as gateway, asyncio.TaskGroup() as clients:
            clients.create_task(cut_off(gateway, ask("held", stream=True, max_tokens=10_000)))
            await asked.request()
            assert (await ask_for(gateway, "crowd", ask("held"))).error()["code"] == "rate_limit_exceeded"
            gateway.signal(signal.SIGKILL)
            await gateway.wait()
        async with gateway_before(upstream, tmp_path) as gateway:
            reply = await ask_for(gateway, "crowd", ask("held", max_tokens=1))
            assert reply.status == 200
            assert int(reply.header("x-ratelimit-remaining-tokens") or 0) > 4_900
