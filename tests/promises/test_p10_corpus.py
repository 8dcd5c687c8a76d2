"""P10: each input of the published corpus gets its error in time, and the next request anywhere is served."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from corpus_kit import INPUTS, KEY, Input, Sent, is_closed, play, read, table, told_of
from kit import GatewayProcess, Wire, answer, config, request_bytes
from kit.books import until
from kit.stage import endpoint, model
from promise_kit import gateway, rounds, upstream_with

pytestmark = pytest.mark.asyncio(loop_scope="module")
TABLE = table()
PLAYERS = 8
LIMITED = {"tokens": 1_000_000, "period": "day"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """The gateway of the corpus' README. It must be alive at the end, and have answered no input with a 500."""
    async with upstream_with(answer()) as upstream:
        models = [
            model("corpus", [endpoint(upstream, "corpus")]),
            model("limited", [endpoint(upstream, "limited")], limits=LIMITED),
            model("private", [endpoint(upstream, "private")], **{"global": False}),
        ]
        settings = config(models, server={"timeouts": {"head": 1, "body": 1}, "drain_seconds": 0.2})
        settings["keys"].append({"id": "corpus", "user": "corpus", "key": KEY})
        async with gateway(tmp_path_factory.mktemp("corpus"), settings) as running:
            yield running
            assert running.is_running, running.output()
            await assert_served(running)
        assert upstream.endpoint("private").requests == []


def good_request() -> bytes:
    body = {"model": "corpus", "messages": [{"role": "user", "content": "Hi"}]}
    return request_bytes("POST", "/v1/chat/completions", body, key=KEY)


async def assert_served(at: GatewayProcess, wire: Wire | None = None) -> None:
    """The next request: on this connection where it is given, else on a new one."""
    if wire is None:
        async with Wire.open(at.port) as wire:
            await assert_served(at, wire)
        return
    await wire.send(good_request())
    assert (await wire.reply()).status == 200


async def has_room(at: GatewayProcess) -> bool:
    """Whether `limited` has any: an input that asks for all tokens of the day holds them until its end is booked."""
    async with Wire.open(at.port) as wire:
        body = {"model": "limited", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEY))
        return (await wire.reply()).status == 200


async def play_row(at: GatewayProcess, one: Input, sent: Sent, pieces: list[bytes] | None = None) -> None:
    if b'"limited"' in sent.data:
        await until(partial(has_room, at))
    async with Wire.open(at.port) as wire:
        *before, last = await play(wire, sent, one, pieces) or [None]
        assert tuple(reply.status for reply in before if reply) == one.before
        if last is not None:
            assert told_of(last) == (one.status, None if one.flat else one.type, one.code, one.param)
            assert last.header("x-injected") is None
            assert b"Traceback" not in last.body
        if one.then == "open":
            await assert_served(at, wire)
        elif one.then == "closed":
            assert await is_closed(wire) == b"", "a second answer"
    await assert_served(at)


@pytest.mark.parametrize("one", [pytest.param(row, id=row.file.partition(".")[0]) for row in TABLE])
async def test_an_input_gets_its_answer_in_time(target: GatewayProcess, one: Input) -> None:
    """In one write, by a client that reads only afterwards."""
    await play_row(target, one, read(one.file))


async def test_all_of_them_at_once_and_in_pieces(target: GatewayProcess, dice: random.Random) -> None:
    """In any order, several beside each other, cut anywhere: the same answers, but no bound on time."""
    # Whoever still sends a head that was refused half-way may see a reset instead of the answer.
    cuttable = [row for row in TABLE if not (row.is_paced or row.whole or row.code == "headers_too_large")]
    rows = cuttable * rounds(1, 30)
    dice.shuffle(rows)
    one_of_the_limited = asyncio.Lock()

    async def player() -> None:
        while rows:
            row = rows.pop()
            sent = read(row.file)
            pieces = sent.cut(dice, dice.randrange(1, 6))
            alone = one_of_the_limited if b'"limited"' in sent.data else contextlib.nullcontext()
            try:
                async with alone:
                    await play_row(target, row.patient(), sent, pieces)
            except (AssertionError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                if row.then == "closed" and row.code == "invalid_http" and isinstance(error, ConnectionError):
                    continue  # refused by a piece that was not its last: the reset took the answer along
                raise AssertionError(f"{row.file} in {[len(piece) for piece in pieces]}") from error

    async with asyncio.TaskGroup() as players:
        for _ in range(PLAYERS):
            players.create_task(player())


async def test_the_table_and_the_folder_tell_of_the_same_inputs() -> None:
    """No file without a row, no row without a file, none twice; and as many as were promised."""
    files = [row.file for row in TABLE]
    assert sorted(files) == sorted(path.name for path in INPUTS.iterdir())
    assert len(files) >= 60
