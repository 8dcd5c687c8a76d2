"""P4: never two answers, and no retry after the first event: an upstream dies at any byte, in any way."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from kit import (
    DONE,
    KEYS,
    FakeEndpoint,
    FakeUpstream,
    GatewayProcess,
    Received,
    Wire,
    answer,
    as_openai,
    ask,
    config,
    request_bytes,
)
from kit.answers import LAST_CHUNK, STREAM_HEAD, chunk, delta, event, events, full
from kit.books import acting_for, fresh_user, rows
from kit.stage import Record, endpoint, model
from promise_kit import gateway, rounds, until_taken, upstream_with

pytestmark = pytest.mark.asyncio(loop_scope="module")
LANES = 8  # each with two endpoints of its own, so that one's failures cool nobody else's
HASTY = {"first_byte": 1.5, "idle": 1.5}

EVENTS = [delta("one"), delta("two"), delta("three"), DONE]
FRAMED = list(map(chunk, EVENTS))
STREAM = STREAM_HEAD + b"".join(FRAMED) + LAST_CHUNK
# Where each event is whole: its chunk's end is yet to come.
ENDS = [len(STREAM_HEAD) + sum(map(len, FRAMED[: n + 1])) - 2 for n in range(len(FRAMED))]
PLAIN = full(200, {"object": "chat.completion", "from": "a", "choices": []})
FROM_B = {False: b'{"from":"b"}', True: delta("from b") + DONE}
INCOMPLETE = b'"code":"stream_incomplete"'
# A plain answer that stalls uses up `total`, which is for all attempts together: there is nobody else to be asked.
WAYS = [(way, streamed) for way in ("FIN", "RST", "garbage") for streamed in (True, False)] + [("silence", True)]


class Death(NamedTuple):
    """The first endpoint answers up to byte `at`, and then dies."""

    at: int
    way: str
    streamed: bool

    @property
    def passed_on(self) -> int:
        """How many events were whole by then."""
        return sum(end <= self.at for end in ENDS) if self.streamed else 0


class Lane(NamedTuple):
    name: str
    a: FakeEndpoint
    b: FakeEndpoint

    def die(self, death: Death) -> None:
        async def behave(request: Received) -> None:
            await request.send((STREAM if death.streamed else PLAIN)[: death.at])
            await until_taken(request)
            if death.way == "FIN":
                request.close()
            elif death.way == "RST":
                request.reset()
            elif death.way == "garbage":
                await request.send(b"\x00\xffgarbage\r\n\r\n" * 5)
                request.close()
            else:
                await asyncio.Event().wait()

        good = events(delta("from b"), DONE) if death.streamed else answer(200, FROM_B[False])
        self.a.always(behave)
        self.b.always(good)

    def recover(self) -> None:
        self.a.always(as_openai())


class Scene(NamedTuple):
    at: GatewayProcess
    lanes: list[Lane]


def lane_models(upstream: FakeUpstream) -> list[Record]:
    return [
        model(
            f"lane-{n}",
            [endpoint(upstream, f"{n}.{each}", priority=place, timeouts=HASTY) for place, each in enumerate("ab")],
        )
        for n in range(LANES)
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    directory: Path = tmp_path_factory.mktemp("p4")
    async with upstream_with() as upstream, gateway(directory, config(lane_models(upstream))) as at:
        lanes = [Lane(f"lane-{n}", upstream.endpoint(f"{n}.a"), upstream.endpoint(f"{n}.b")) for n in range(LANES)]
        yield Scene(at, lanes)


async def everything_said(at: GatewayProcess, user: str, body: Record) -> bytes:
    """All bytes of the conversation: the request asks to close the connection after its one answer."""
    headers = [*acting_for(user), ("connection", "close")]
    async with Wire.open(at.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=headers))
        return await wire.ended()


def body_of(said: bytes) -> bytes:
    """The body of the only answer, its chunks put together; they must end as chunks end."""
    head, _, rest = said.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    parts = []
    while not rest.startswith(b"0\r\n\r\n"):
        size, _, rest = rest.partition(b"\r\n")
        parts.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    assert rest == b"0\r\n\r\n", "bytes after the end of the answer"
    return b"".join(parts)


async def suffer(scene: Scene, lane: Lane, user: str, death: Death) -> None:
    """One request whose first endpoint dies; then a good one, so that the endpoint is not cooled by its third."""
    before = len(lane.a.requests), len(lane.b.requests)
    lane.die(death)
    said = await everything_said(scene.at, user, ask(lane.name, stream=death.streamed))
    assert said.count(b"HTTP/1.") == 1, said
    assert said.startswith(b"HTTP/1.1 200 "), said
    check_body(body_of(said), death)
    asked = len(lane.a.requests) - before[0], len(lane.b.requests) - before[1]
    assert asked == (1, 0 if death.passed_on else 1)
    assert (b"x-gateway-attempts: %d\r\n" % sum(asked)) in said
    lane.recover()
    assert b"200 OK" in await everything_said(scene.at, user, ask(lane.name))


def check_body(body: bytes, death: Death) -> None:
    if not death.passed_on:
        assert body == FROM_B[death.streamed]
        return
    told = b"".join(EVENTS[: death.passed_on])
    assert body.startswith(told)
    rest = body.removeprefix(told)
    if EVENTS[death.passed_on - 1] == DONE:
        assert rest == b"", "it has said that it is whole, and nothing is missing"
    elif rest.startswith(DONE.rstrip()):
        assert DONE.startswith(rest), "its blank line is missing, and it is whole all the same"
    else:
        assert rest.startswith(b"data: {")
        assert INCOMPLETE in rest
        assert rest.count(b"\n\n") == 1


async def suffer_all(scene: Scene, deaths: Iterable[Death]) -> None:
    """Every lane takes the next death that is left; at the end the ledger has one row for each request."""
    user, left, done = fresh_user(), iter(deaths), itertools.count()

    async def lane_task(lane: Lane) -> None:
        for death in left:
            try:
                await suffer(scene, lane, user, death)
            except (AssertionError, ValueError, TimeoutError) as error:
                raise AssertionError(f"on {lane.name}: {death}") from error
            next(done)

    async with asyncio.TaskGroup() as group:
        for lane in scene.lanes:
            group.create_task(lane_task(lane))
    count = 2 * next(done)
    found = await rows(scene.at, user, count)
    assert len(found) == len({row["request_id"] for row in found}) == count
    assert Counter(row["outcome"] for row in found)["ok"] >= count // 2


def deaths(way: str, *, streamed: bool) -> list[Death]:
    """At every byte but the last; garbage only where it cannot be taken for a part of the answer.

    Not at once: a kept connection that ends without a byte is replaced, which is no attempt (§5).
    """
    places: Iterable[int] = range(1, len(STREAM if streamed else PLAIN))
    if way == "garbage":
        places = [end + 2 for end in ENDS] if streamed else [0]
    return [Death(at, way, streamed) for at in places]


@pytest.mark.parametrize(("way", "streamed"), WAYS)
async def test_an_upstream_that_dies_anywhere(scene: Scene, dice: random.Random, way: str, streamed: bool) -> None:
    """Before the first event the other endpoint answers, alone; after it nobody else is asked, and the end is told."""
    every = deaths(way, streamed=streamed)
    some = rounds(8 if way == "silence" else 80, 200 if way == "silence" else len(every))
    await suffer_all(scene, dice.sample(every, min(some, len(every))))


async def test_an_error_after_the_first_event_is_passed_on(scene: Scene) -> None:
    """It is an event like any other: no second endpoint, nothing added."""
    lane, failure = scene.lanes[0], event({"error": {"message": "no", "type": "x", "param": None, "code": "y"}})
    before = len(lane.b.requests)
    lane.a.always(events(delta("one"), failure, DONE))
    said = await everything_said(scene.at, fresh_user(), ask(lane.name, stream=True))
    assert body_of(said) == delta("one") + failure + DONE
    assert len(lane.b.requests) == before
