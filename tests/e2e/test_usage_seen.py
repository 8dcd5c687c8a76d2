"""Usage in the ledger whatever form an upstream's answer has, over real sockets; `test_usage_meter` has every form."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import brotli
import pytest
import pytest_asyncio
from kit import DONE, KEYS, FakeUpstream, Reply, Stage, answer, ask, events
from kit.answers import delta, event
from kit.books import acting_for, fresh_user, rows
from kit.stage import Record, endpoint, model
from kit.upstream import Behaviour

REPORT = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
RESPONSE_REPORT = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}}], "usage": REPORT}
WORDS = [f"word{number} " for number in range(40)]
ERROR = {"message": "overloaded", "code": 502}


def one_model(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("m", [endpoint(upstream, "m")])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage.open(tmp_path_factory.mktemp("seen"), one_model) as stage:
        yield stage


async def row_of(stage: Stage, behaviour: Behaviour, route: str, **fields: Any) -> tuple[Reply, dict[str, str]]:
    """The answer, and what the ledger has of it."""
    user = fresh_user()
    stage.upstream.endpoint("m").replies(behaviour)
    reply = await stage.post(ask("m", **fields), route, key=KEYS["panel"], headers=acting_for(user))
    (row,) = await rows(stage.gateway, user, 1)
    return reply, row


def packed(body: bytes) -> Behaviour:
    return answer(200, brotli.compress(body), [("content-encoding", "br")])


@pytest.mark.parametrize(
    "behaviour",
    [
        answer(200, b"\n\n " + json.dumps(WHOLE).encode()),
        answer(200, WHOLE | {"usage": {"prompt_tokens": 11.0, "completion_tokens": "7"}}),
        answer(200, {"padding": "x" * (17 << 20)} | WHOLE),
        answer(200, WHOLE | {"usage": REPORT | {"total_tokens": 0}, "padding": "x" * (17 << 20)}),
        packed(json.dumps({"padding": "hello " * (3 << 20)} | WHOLE).encode()),
    ],
    ids=["blank lines", "floats and texts", "17 MB before it", "17 MB behind it", "18 MB in Brotli"],
)
async def test_usage_of_a_whole_answer_is_read(stage: Stage, behaviour: Behaviour) -> None:
    reply, row = await row_of(stage, behaviour, "chat/completions")
    assert reply.status == 200
    assert (row["usage_source"], row["total_tokens"], row["outcome"]) == ("reported", "18", "ok")


async def test_usage_in_a_last_event_without_its_end_is_read_and_taken_out(stage: Stage) -> None:
    """Nobody but us has asked for it."""
    last = event({"choices": [], "usage": REPORT})[:-1]
    reply, row = await row_of(stage, events(delta("a"), last), "chat/completions", stream=True)
    assert (reply.body, row["usage_source"], row["total_tokens"]) == (delta("a"), "reported", "18")


async def test_usage_in_an_event_too_large_to_hold_is_read(stage: Stage) -> None:
    output = [{"type": "image_generation_call", "result": "A" * (2 << 20)}]
    completed = {"type": "response.completed", "response": {"output": output, "usage": RESPONSE_REPORT}}
    stream = event(completed, name="response.completed")
    reply, row = await row_of(stage, events(event({"type": "x"}), stream), "responses", stream=True)
    assert reply.body.endswith(stream)
    assert (row["usage_source"], row["total_tokens"]) == ("reported", "18")


@pytest.mark.parametrize("later", [b'data: {"choices":[],"usage":null}\n\n', b'data: {"usage": {}}\n\n'])
async def test_a_later_report_of_nothing_erases_no_usage(stage: Stage, later: bytes) -> None:
    stream = events(delta("a"), event({"choices": [], "usage": REPORT}), later, DONE)
    _, row = await row_of(stage, stream, "chat/completions", stream=True)
    assert (row["usage_source"], row["total_tokens"]) == ("reported", "18")


@pytest.mark.parametrize(
    "pieces",
    [
        [delta(word) for word in WORDS],
        [delta("".join(WORDS))],
        [delta("".join(WORDS[:20])), delta("".join(WORDS[20:]))],
        [delta(word, usage=None) for word in WORDS],
        [b"event: message\nid: 7\n" + delta(word).replace(b"data: ", b"data:") for word in WORDS],
        [delta(""), b"data: {}\n\n", b"data: : keep-alive\n\n", delta("".join(WORDS)), b"data:[DONE]\n\n"],
    ],
    ids=["many events", "one event", "equal events", "usage is null", "names and ids", "events without text"],
)
async def test_text_is_counted_where_no_usage_is_reported(stage: Stage, pieces: list[bytes]) -> None:
    """Four bytes a token, in however many events and whatever spelling it came."""
    _, row = await row_of(stage, events(*pieces), "chat/completions", stream=True)
    assert row["usage_source"] == "estimated"
    assert int(row["completion_tokens"]) == pytest.approx(len("".join(WORDS)) / 4, abs=1)


@pytest.mark.parametrize(
    ("behaviour", "stream"),
    [
        (answer(200, {"error": ERROR}), False),
        (answer(200, b"<!DOCTYPE html><title>Welcome</title>", content_type="text/html"), False),
        (events(delta("a"), event({"error": ERROR}), DONE), True),
        (events(delta("a"), event({"message": "no"}, name="error")), True),
    ],
    ids=["an error object", "a page", "an error event", "an event named so"],
)
async def test_what_is_no_answer_is_an_error_in_the_books(stage: Stage, behaviour: Behaviour, stream: bool) -> None:
    """It is relayed as it is, and nothing is paid for it."""
    reply, row = await row_of(stage, behaviour, "chat/completions", stream=stream)
    assert reply.status == 200
    assert (row["outcome"], row["usage_source"], row["total_tokens"]) == ("upstream_error", "none", "0")
