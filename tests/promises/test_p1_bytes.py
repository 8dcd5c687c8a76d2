"""P1: answers byte for byte, streams in whole events, wherever the upstream's bytes are cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from itertools import accumulate
from typing import NamedTuple

import pytest
import pytest_asyncio
from kit import DONE, KEYS, GatewayProcess, Received, Wire, ask, config, request_bytes
from kit.answers import LAST_CHUNK, chunk, delta, head, usage_only
from kit.stage import endpoint, model
from promise_kit import gateway, rounds, until_taken, upstream_with

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLIENTS = 8


class Case(NamedTuple):
    """What an upstream says, what of it is the client's, and where the events end that the client may get."""

    said: list[bytes]
    given: list[bytes]
    streamed: bool = True


def stream(*events: bytes, without: tuple[bytes, ...] = ()) -> Case:
    return Case(list(events), [event for event in events if event not in without])


def plain(body: bytes) -> Case:
    return Case([body], [body], streamed=False)


MULTIBYTE = 'data: {"choices":[{"delta":{"content":"grüße €𝄞"}}]}\n\n'.encode()
CASES = {
    "a chat": stream(delta("one"), delta("two"), DONE),
    "usage taken out": stream(delta("one"), usage_only(), DONE, without=(usage_only(),)),
    "comments": stream(b": a comment\n\n", delta("one"), b": another\n\n", DONE),
    "names and ids": stream(b"event: x\nid: 7\ndata: 1\n\n", b"retry: 5\ndata: 2\n\n", b"data\n\n"),
    "many lines": stream(b"data: {\ndata: }\n\n", b"data:1\ndata:  2\ndata:\n\n"),
    "CRLF": stream(b"data: 1\r\n\r\n", b"event: x\r\ndata: 2\r\n\r\n"),
    "CR": stream(b"data: 1\r\r", b"data: 2\r\r", b"data: 3\r\r"),
    "ends of all kinds": stream(b"data: 1\r\n\r\n", b"data: 2\n\n", b"data: 3\r\r", b"data: 4\n\n"),
    "beyond ASCII": stream(MULTIBYTE, MULTIBYTE, DONE),
    "no [DONE]": stream(delta("one"), delta("two")),
    "[DONE] twice": stream(delta("one"), DONE, DONE),
    "plain": Case(
        [b'{"object": "x",  "n": 1.10, "u": "\\u00e9"}'], [b'{"object": "x",  "n": 1.10, "u": "\\u00e9"}'], False
    ),
    "plain bytes": Case([bytes(range(256))], [bytes(range(256))], False),
}
FRAMINGS = ("chunked", "length", "until closed")


def wire_bytes(case: Case, framing: str) -> bytes:
    """The whole answer as it goes over the wire; where it is chunked, an event a chunk."""
    kind = ("content-type", "text/event-stream" if case.streamed else "application/octet-stream")
    body = b"".join(case.said)
    if framing == "chunked":
        return head(200, [kind, ("transfer-encoding", "chunked")]) + b"".join(map(chunk, case.said)) + LAST_CHUNK
    if framing == "length":
        return head(200, [kind, ("content-length", str(len(body)))]) + body
    return head(200, [kind, ("connection", "close")]) + body


class Play(NamedTuple):
    """One answer, and the places where it is cut."""

    name: str
    framing: str
    cuts: tuple[int, ...]

    @property
    def tag(self) -> str:
        """For the request's `user`, by which the upstream knows what to say."""
        return f"{self.name}|{self.framing}|{','.join(map(str, self.cuts))}"


def play_of(tag: str) -> Play:
    name, framing, cuts = tag.split("|")
    return Play(name, framing, tuple(map(int, filter(None, cuts.split(",")))))


async def as_asked(request: Received) -> None:
    """Says each piece only when the one before was read: the gateway sees the very cuts that were meant."""
    play = play_of(request.json()["user"])
    said = wire_bytes(CASES[play.name], play.framing)
    for start, end in zip((0, *play.cuts), (*play.cuts, len(said)), strict=True):
        await request.send(said[start:end])
        await until_taken(request)
    if play.framing == "until closed":
        request.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with upstream_with(as_asked) as upstream:
        settings = config([model("m", [endpoint(upstream, "m")])])
        async with gateway(tmp_path_factory.mktemp("p1"), settings) as running:
            yield running


async def check(wire: Wire, play: Play) -> None:
    case = CASES[play.name]
    body = ask("m", user=play.tag, stream=case.streamed)
    await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["user"]))
    reply = await wire.reply()
    assert (reply.status, reply.body) == (200, b"".join(case.given))
    if case.streamed:
        assert set(accumulate(map(len, reply.pieces))) <= ends_of(case.given), "a part of an event"


def ends_of(given: list[bytes]) -> set[int]:
    """Where a client may be left for a while: after an event. One that ends in CRLF is whole with the CR."""
    ends = list(accumulate(map(len, given)))
    return {*ends, *(end - 1 for end, event in zip(ends, given, strict=True) if event.endswith(b"\r\n"))}


async def check_all(at: GatewayProcess, plays: list[Play]) -> None:
    left = iter(plays)

    async def client() -> None:
        async with Wire.open(at.port) as wire:
            for play in left:
                try:
                    await check(wire, play)
                except (AssertionError, TimeoutError, asyncio.IncompleteReadError) as error:
                    raise AssertionError(str(play)) from error

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())


def cut_in_two() -> Iterator[Play]:
    """Every answer in every framing, cut at every one of its bytes, those of the head and of the framing included."""
    for name, case in CASES.items():
        for framing in FRAMINGS:
            yield from (Play(name, framing, (at,)) for at in range(1, len(wire_bytes(case, framing))))


def cut_anyhow(dice: random.Random, count: int) -> Iterator[Play]:
    """Any answer, in a few pieces or in many."""
    for _ in range(count):
        name, framing = dice.choice(list(CASES)), dice.choice(FRAMINGS)
        places = range(1, len(wire_bytes(CASES[name], framing)))
        yield Play(name, framing, tuple(sorted(dice.sample(places, dice.randint(2, 12)))))


async def test_a_cut_at_any_byte_changes_nothing(at: GatewayProcess, dice: random.Random) -> None:
    """The longer form plays every place of every answer; in CI it is a sample."""
    every = list(cut_in_two())
    await check_all(at, dice.sample(every, rounds(1_000, len(every))))


async def test_many_cuts_change_nothing(at: GatewayProcess, dice: random.Random) -> None:
    """Several reads within an event, several events within a read."""
    await check_all(at, list(cut_anyhow(dice, rounds(200, 5_000))))


async def test_a_byte_at_a_time_changes_nothing(at: GatewayProcess, dice: random.Random) -> None:
    """Each byte is a read of its own, the head's and the framing's too; in CI for some of the answers."""
    names = dice.sample(list(CASES), rounds(8, len(CASES)))
    sizes = [len(wire_bytes(CASES[name], "chunked")) for name in names]
    await check_all(at, [Play(name, "chunked", tuple(range(1, size))) for name, size in zip(names, sizes, strict=True)])
