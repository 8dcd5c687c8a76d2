"""Every fault of the faulty upstream, through a real gateway: each gets one of the contract's answers, and only one."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import pytest
import pytest_asyncio
from kit import DONE, KEYS, GatewayProcess, Reply, Wire, ask, config, request_bytes
from kit.stage import Record, model

from gateway.cli import main
from gateway.demo.answers import Asked
from gateway.demo.faults import BY_NAME, FAULTS, End, Endless, Fault, Stall, dice_for, picked
from gateway.demo.faulty import REFUSE, FaultyUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND_SECONDS = 8.0  # more than `total` and `idle` together
HASTY = {"connect": 1, "first_byte": 0.5, "idle": 0.5, "total": 1.5}
PATIENT = {"connect": 5, "first_byte": 5, "idle": 5, "total": 6}  # so that a busy machine is no fault of theirs
FAILED, TIMED_OUT = "upstream_error", "upstream_timeout"
LIMITED, REFUSED = "upstream_rate_limited", "upstream_credentials_rejected"
PASSED, INCOMPLETE, RELAYED, CUT = "passed", "incomplete", "relayed", "cut"
STATUS = {FAILED: 502, TIMED_OUT: 504, LIMITED: 429, REFUSED: 502}


class Expected(NamedTuple):
    """What the client of a model gets that has nothing but the fault: plainly asked, and as a stream.

    `retried`: whether another endpoint answers instead, where there is one (by way of asking).
    """

    plain: str
    streamed: str
    retried: tuple[bool, bool] = (True, True)


RETRIED_STREAM_ONLY = (False, True)
NOT_RETRIED = (False, False)
EXPECTED = {
    REFUSE: Expected(FAILED, FAILED),
    "reset-at-once": Expected(FAILED, FAILED),
    "close-at-once": Expected(FAILED, FAILED),
    "reset-in-head": Expected(FAILED, FAILED),
    "reset-in-body": Expected(FAILED, INCOMPLETE, (True, False)),
    "close-in-body": Expected(FAILED, INCOMPLETE, (True, False)),
    # A whole answer has the request's `total` and no more: when that is over there is no time for another endpoint.
    "stall-at-once": Expected(TIMED_OUT, TIMED_OUT, RETRIED_STREAM_ONLY),
    "stall-in-head": Expected(TIMED_OUT, TIMED_OUT, RETRIED_STREAM_ONLY),
    "stall-in-body": Expected(TIMED_OUT, INCOMPLETE, NOT_RETRIED),
    "slow-drip": Expected(PASSED, PASSED, NOT_RETRIED),
    "length-too-long": Expected(FAILED, INCOMPLETE, (True, False)),
    "length-too-long-after-done": Expected(FAILED, PASSED, (True, False)),
    "length-too-short": Expected(PASSED, PASSED, NOT_RETRIED),
    "second-answer": Expected(PASSED, PASSED, NOT_RETRIED),
    "truncated-chunk": Expected(FAILED, INCOMPLETE, (True, False)),
    "truncated-chunk-after-done": Expected(FAILED, PASSED, (True, False)),
    "no-last-chunk": Expected(FAILED, INCOMPLETE, (True, False)),
    "no-last-chunk-after-done": Expected(FAILED, PASSED, (True, False)),
    "bad-chunk": Expected(FAILED, INCOMPLETE, (True, False)),
    "bad-chunk-after-done": Expected(FAILED, PASSED, (True, False)),
    "two-lengths": Expected(FAILED, FAILED),
    "garbage": Expected(FAILED, FAILED),
    "endless-head": Expected(FAILED, FAILED),
    "endless-body": Expected(TIMED_OUT, PASSED, NOT_RETRIED),
    "endless-event": Expected(TIMED_OUT, TIMED_OUT, RETRIED_STREAM_ONLY),
    "wrong-type": Expected(PASSED, PASSED, NOT_RETRIED),
    "swapped-type": Expected(PASSED, PASSED, NOT_RETRIED),
    "gzip": Expected(PASSED, PASSED, NOT_RETRIED),
    "gzip-lie": Expected(PASSED, PASSED, NOT_RETRIED),
    # Within a whole answer an error is what the upstream said, and relayed as it is.
    "error-first": Expected(PASSED, FAILED, RETRIED_STREAM_ONLY),
    "error-in-stream": Expected(PASSED, PASSED, NOT_RETRIED),
    "done-twice": Expected(PASSED, PASSED, NOT_RETRIED),
    "no-done": Expected(PASSED, PASSED, NOT_RETRIED),
    "no-events": Expected(PASSED, FAILED, RETRIED_STREAM_ONLY),
    "usage-twice": Expected(PASSED, PASSED, NOT_RETRIED),
    "usage-never": Expected(PASSED, PASSED, NOT_RETRIED),
    "429-retry-after": Expected(LIMITED, LIMITED),
    "429-retry-after-ms": Expected(LIMITED, LIMITED),
    "429-date": Expected(LIMITED, LIMITED),
    "429-reset-requests": Expected(LIMITED, LIMITED),
    "429-reset-tokens": Expected(LIMITED, LIMITED),
    "429-bare": Expected(LIMITED, LIMITED),
    "status-400": Expected(RELAYED, RELAYED, NOT_RETRIED),
    "status-401": Expected(REFUSED, REFUSED),
    "status-403": Expected(RELAYED, RELAYED),
    "status-500": Expected(FAILED, FAILED),
    "redirect": Expected(FAILED, FAILED, NOT_RETRIED),
}
ENDLESS_FOR_CLIENTS = ("endless-body",)  # as a stream it is valid, and so the client has to leave


class House(NamedTuple):
    upstream: FaultyUpstream
    gateway: GatewayProcess
    met: list[tuple[Fault, Asked]]


def timeouts(name: str) -> dict[str, float]:
    """Short ones where they are what ends the fault."""
    ended_by_the_clock = name == "stall-in-body" or TIMED_OUT in (EXPECTED[name].plain, EXPECTED[name].streamed)
    return HASTY if ended_by_the_clock else PATIENT


def models(upstream: FaultyUpstream) -> Iterator[Record]:
    """Two for each fault and way of asking: it alone (`…-alone`), and it before a good endpoint (`…-pool`)."""
    for name, way in itertools.product(EXPECTED, ("plain", "streamed")):
        faulty: Record = {"id": "faulty", "url": upstream.url(name), "timeouts": timeouts(name)}
        good: Record = {"id": "good", "url": upstream.url("good"), "priority": 1}
        yield model(f"{name}-{way}-alone", [faulty])
        yield model(f"{name}-{way}-pool", [faulty, good])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    met: list[tuple[Fault, Asked]] = []
    directory = tmp_path_factory.mktemp("faults")
    async with (
        FaultyUpstream.running(7, lambda fault, asked: met.append((fault, asked))) as upstream,
        GatewayProcess.start(config(list(models(upstream))), directory) as gateway,
    ):
        yield House(upstream, gateway, met)
        assert gateway.is_running
    assert gateway.noise == []
    assert [line for line in gateway.logs if "exception" in line] == []


async def asked(wire: Wire, name: str, way: str, *, leave_after: int | None = None) -> Reply:
    """One request and all of its answer, or so many events of it."""
    body = ask(name, stream=way == "streamed")
    await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["user"]))
    reply = await wire.head()
    if leave_after is None:
        return await wire.body()
    reply.body = b"".join([await wire.event() for _ in range(leave_after)])
    return reply


def assert_is(reply: Reply, expected: str, way: str) -> None:
    if expected in STATUS:
        assert reply.status == STATUS[expected], reply
        assert reply.error()["code"] == expected
        assert b"fault in" not in reply.body, "the upstream's words"
    elif expected == RELAYED:
        assert reply.status in (400, 403)
        assert b"fault in" in reply.body
    elif expected == INCOMPLETE:
        *whole, last = reply.body.removesuffix(b"\n\n").split(b"\n\n")
        assert (reply.status, way) == (200, "streamed")
        assert whole, "nothing had gone out, and yet it is called incomplete"
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_incomplete"
        assert last.count(b"data: ") == 1
    else:
        assert (expected, reply.status) == (PASSED, 200), reply
    assert b"poison" not in reply.body
    assert len(set(re.findall(rb"answer-\d+", reply.body))) <= 1, "two answers"


def is_good(reply: Reply, way: str) -> bool:
    if way == "streamed":
        return reply.status == 200 and reply.body.endswith(DONE)
    return reply.status == 200 and "choices" in reply.json()


@pytest.mark.parametrize("way", ["plain", "streamed"])
@pytest.mark.parametrize("name", EXPECTED)
async def test_a_fault_alone_gets_its_one_answer_and_the_next_request_is_served(
    house: House, name: str, way: str
) -> None:
    """With nothing behind it: the contract's error, or what of an answer could be passed on; within a bound."""
    expected = EXPECTED[name].plain if way == "plain" else EXPECTED[name].streamed
    endless = name in ENDLESS_FOR_CLIENTS and way == "streamed"
    async with asyncio.timeout(BOUND_SECONDS), Wire.open(house.gateway.port) as wire:
        reply = await asked(wire, f"{name}-{way}-alone", way, leave_after=3 if endless else None)
        assert_is(reply, expected, way)
        assert (DONE in reply.body) <= (expected == PASSED)
        if not endless:
            # On the very same connection, so that not a byte of the fault's may be left on it.
            assert is_good(await asked(wire, "second-answer-plain-pool", "plain"), "plain")


@pytest.mark.parametrize("way", ["plain", "streamed"])
@pytest.mark.parametrize("name", EXPECTED)
async def test_a_fault_before_a_good_endpoint_costs_nobody_an_answer_that_could_be_had(
    house: House, name: str, way: str
) -> None:
    """Where nothing went out the good endpoint answers, once; else the client is told as if there were none."""
    expected, retried = EXPECTED[name], EXPECTED[name].retried[way == "streamed"]
    endless = name in ENDLESS_FOR_CLIENTS and way == "streamed"
    async with asyncio.timeout(BOUND_SECONDS), Wire.open(house.gateway.port) as wire:
        reply = await asked(wire, f"{name}-{way}-pool", way, leave_after=3 if endless else None)
    if retried:
        assert is_good(reply, way), reply
        assert reply.header("x-gateway-attempts") == "2"
        assert_is(reply, PASSED, way)
    else:
        assert_is(reply, expected.plain if way == "plain" else expected.streamed, way)
        assert reply.header("x-gateway-attempts") == "1"


async def test_what_passes_is_the_upstreams_bytes(house: House) -> None:
    """Twice [DONE], none at all, compressed: clients get what was sent, but for usage that they had not asked for.

    What has said [DONE] is whole, however its connection ends then.
    """
    replies: dict[str, Reply] = {}
    whole = [name for name in EXPECTED if name.endswith("-after-done")]
    for name in ("done-twice", "no-done", "usage-twice", "gzip", *whole):
        async with Wire.open(house.gateway.port) as wire:
            replies[name] = await asked(wire, f"{name}-streamed-alone", "streamed")
    assert replies["done-twice"].body.endswith(DONE + DONE)
    assert DONE not in replies["no-done"].body
    assert all(replies[name].body.endswith(DONE) for name in whole)
    assert b'"usage"' not in replies["usage-twice"].body
    assert gzip.decompress(replies["gzip"].body).endswith(DONE)


async def test_every_fault_has_an_expectation_and_was_met(house: House) -> None:
    assert set(EXPECTED) == {REFUSE, *BY_NAME}
    assert {fault.name for fault, _ in house.met} >= set(BY_NAME)


# --- the plans, and the demo that plays them


def drawn(fault: Fault, seed: int, number: int) -> list[object]:
    """The beginning of a plan; endless ones are told by their piece."""
    request = Asked("chat/completions", ask("m", stream=True), number)
    return list(itertools.islice(fault.plan(request, dice_for(seed, number)), 100))


@pytest.mark.parametrize("fault", [each for each in FAULTS if each.name != "429-date"], ids=lambda each: each.name)
async def test_a_plan_is_the_same_for_the_same_seed(fault: Fault) -> None:
    for number in range(20):
        first = drawn(fault, 1, number)
        assert first == drawn(fault, 1, number)
        assert all(isinstance(step, bytes | Stall | Endless | End) for step in first)


async def test_a_seed_decides_which_faults_come() -> None:
    runs = [[picked(FAULTS, seed, number).name for number in range(50)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert {picked(FAULTS, 1, number).name for number in range(1000)} == set(BY_NAME)


async def test_the_demo_says_which_fault_each_request_met(tmp_path: Path) -> None:
    """`gateway demo --faults --seed 7`: a good answer each time, and the faults that the seed foretells in the log."""
    arguments = "demo --port 0 --log-format json --faults --seed 7"
    command = [sys.executable, "-m", "gateway", *arguments.split()]
    log = tmp_path / "log"
    with log.open("wb") as errors:
        demo = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=errors)
        try:
            async with asyncio.timeout(30):
                url, key = await what_to_paste(demo)
                served = await demo_asked(url.port, key, "demo")
                alone = await demo_asked(url.port, key, "status-500")
                reset = await demo_asked(url.port, key, "reset-in-head")
        finally:
            demo.terminate()
            assert await demo.wait() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    first = picked(FAULTS, 7, 1).name
    assert [line["fault"] for line in lines if line["event"] == "fault"] == [first, "status-500", "reset-in-head"]
    assert [line for line in lines if "exception" in line] == []
    assert EXPECTED[first].retried[0], "a seed whose first fault leaves the steady endpoint to answer"
    assert is_good(served, "plain")
    assert_is(alone, FAILED, "plain")
    assert_is(reset, FAILED, "plain")


async def what_to_paste(demo: asyncio.subprocess.Process) -> tuple[SplitResult, str]:
    """Base URL and key, from what the demo prints."""
    assert demo.stdout is not None
    printed = (await demo.stdout.readuntil(f"  {FAULTS[-1].name} ".encode())).decode()
    found = re.search(r'base_url="(\S+)/v1", api_key="(\S+)"', printed)
    assert found, printed
    assert "gateway demo --faults --seed 7" in printed
    return urlsplit(found[1]), found[2]


async def demo_asked(port: int | None, key: str, name: str) -> Reply:
    assert port is not None
    async with Wire.open(port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask(name), key=key))
        return await wire.reply()


async def test_a_seed_without_faults_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seed", "7"]) == 2
    assert "--seed is for --faults" in capsys.readouterr().err
