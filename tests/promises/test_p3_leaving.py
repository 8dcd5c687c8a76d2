"""P3: the upstream is closed within 100 ms after the client's FIN or RST, whatever is going on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, GatewayProcess, Received, Wire, ask, config, events, raw, request_bytes
from kit.answers import STREAM_HEAD, chunk, delta, full, upstream_error
from kit.books import acting_for, fresh_user, rows
from kit.stage import endpoint, model
from promise_kit import SCHEDULING_SECONDS, gateway, rounds, upstream_with

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROMISED_SECONDS = 0.100
MOMENTS = ("nothing said", "half a head", "a head", "half an event", "an event", "half a body", "a flood", "second try")
WAYS = ("FIN", "RST")


class Scene(NamedTuple):
    upstream: FakeUpstream
    at: GatewayProcess


async def flood(request: Received) -> None:
    await request.send(STREAM_HEAD)
    while True:
        await request.send(chunk(delta("f" * 30_000)))


BEHAVIOURS = {
    "nothing said": raw(asyncio.Event()),
    "half a head": raw(STREAM_HEAD[:20], asyncio.Event()),
    "a head": raw(STREAM_HEAD, asyncio.Event()),
    "half an event": raw(STREAM_HEAD, chunk(delta("one")[:20]), asyncio.Event()),
    "an event": events(delta("one"), asyncio.Event()),
    "half a body": raw(full(200, b"0" * 100_000)[:50_000], asyncio.Event()),
    "a flood": flood,
    "second try": raw(asyncio.Event()),
}


async def as_asked(request: Received) -> None:
    """The request's `user` says which; a second try comes after a failure of the first endpoint."""
    moment = request.json()["user"].partition("|")[0]
    if moment == "second try" and request.endpoint == "a":
        await upstream_error(500)(request)
    else:
        await BEHAVIOURS[moment](request)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with upstream_with(as_asked) as upstream:
        settings = config([model("m", [endpoint(upstream, each, priority=n) for n, each in enumerate("ab")])])
        async with gateway(tmp_path_factory.mktemp("p3"), settings) as at:
            yield Scene(upstream, at)


def waiting_at(moment: str) -> str:
    """The endpoint that holds the request when its client leaves."""
    return "b" if moment == "second try" else "a"


async def its_request(scene: Scene, tag: str, place: str) -> Received:
    """Waits for this visitor's own request among those of all."""
    asked, number = scene.upstream.endpoint(place), 1
    while (found := await asked.request(number)).json()["user"] != tag:
        number += 1
    return found


async def visit(scene: Scene, user: str, tag: str, way: str, dawdle_seconds: float = 0.0) -> None:
    """Asks, waits until the moment is there, and leaves; the upstream's connection must end in time."""
    moment = tag.partition("|")[0]
    body = ask("m", user=tag, stream=moment != "half a body")
    headers = [*acting_for(user), ("x-client-request-id", tag.replace(" ", "-"))]
    async with Wire.open(scene.at.port, receive_buffer=16_384) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=headers))
        request = await its_request(scene, tag, waiting_at(moment))
        if moment in ("an event", "a flood"):
            await wire.head()
        wire.stop_reading()
        await asyncio.sleep(dawdle_seconds)  # any moment of what goes on is a good one to leave
        left = asyncio.get_running_loop().time()
        wire.reset() if way == "RST" else wire.writer.close()
        assert await request.until_closed() - left <= PROMISED_SECONDS + SCHEDULING_SECONDS, (tag, way)


async def assert_all_cancelled(scene: Scene, user: str, count: int) -> None:
    """What was seen is recorded: a row each, and no endpoint is blamed."""
    found = await rows(scene.at, user, count)
    assert Counter((row["outcome"], row["status"]) for row in found) == {("cancelled", "499"): count}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_client_leaves(scene: Scene, moment: str, way: str) -> None:
    """Before the first byte as well as after, while one endpoint is asked or the next."""
    user = fresh_user()
    await visit(scene, user, f"{moment}|{way}", way)
    await assert_all_cancelled(scene, user, 1)


async def test_clients_leave_at_any_moment_beside_each_other(scene: Scene, dice: random.Random) -> None:
    """A few at a time, as real ones do; each takes only its own upstream connection along."""
    user, count = fresh_user(), rounds(60, 2_000)
    moments = [each for each in MOMENTS if each not in ("second try", "a flood")]
    left = iter([(f"{dice.choice(moments)}|{n}", dice.choice(WAYS), dice.random() * 0.03) for n in range(count)])

    async def visitor() -> None:
        for tag, way, dawdle_seconds in left:
            await visit(scene, user, tag, way, dawdle_seconds)

    async with asyncio.TaskGroup() as visitors:
        for _ in range(4):
            visitors.create_task(visitor())
    await assert_all_cancelled(scene, user, count)
