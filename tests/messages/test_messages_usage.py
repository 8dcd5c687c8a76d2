"""What the ledger has of a message: reported in two parts, counted by its text, or nothing where it is free."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from kit import KEYS, RESET, Reply, Stage, Wire, answer, event, events, request_bytes
from kit.books import acting_for, fresh_user, rows, usage
from kit.messages import USAGE, ask, block, delta, ending, fresh, message, named, refusal, spoken, start, text

from gateway.dialects.anthropic import read_message_report

BIG = 1_200_000


async def booked(stage: Stage, body: dict[str, Any], route: str = "messages") -> tuple[Reply, dict[str, str]]:
    """One request of a user that nobody else is, and its row."""
    user = fresh_user()
    reply = await stage.post(body, route, key=KEYS["panel"], headers=acting_for(user))
    return reply, (await rows(stage.gateway, user, 1))[0]


def tokens(row: dict[str, str]) -> tuple[int, int, int, str]:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    prompt, completion, total = (int(row[name]) for name in names)
    return prompt, completion, total, row["usage_source"]


async def test_a_whole_message(stage: Stage) -> None:
    """The prompt is what was not cached, what was read from the cache and what was written into it."""
    _, row = await booked(stage, ask(fresh(stage).name))
    assert tokens(row) == (9 + 200 + 30, 12, 251, "reported")
    assert (row["route"], row["outcome"], row["cached_tokens"]) == ("messages", "ok", "200")


@pytest.mark.parametrize(
    ("begun", "ended", "expected"),
    [
        (None, None, (239, 12)),
        ({"input_tokens": 9, "output_tokens": 1}, {"output_tokens": 15}, (9, 15)),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 7, "output_tokens": 3}, (7, 3)),
        ({"input_tokens": 9, "output_tokens": 1}, {"input_tokens": 11, "output_tokens": 15}, (11, 15)),
        ({"input_tokens": 9, "output_tokens": 4}, {"output_tokens": None}, (9, 4)),
        ({"input_tokens": 9, "cache_read_input_tokens": None, "output_tokens": 1}, {"output_tokens": "8"}, (9, 8)),
        (
            {"input_tokens": 9, "cache_read_input_tokens": 5, "output_tokens": 1},
            {"output_tokens": 8, "cache_read_input_tokens": 6, "input_tokens": None},
            (15, 8),
        ),
    ],
)
@pytest.mark.parametrize("cut", [None, 1, 3])
async def test_the_last_report_of_each_field(
    stage: Stage, begun: dict[str, Any] | None, ended: dict[str, Any] | None, expected: tuple[int, int], cut: int | None
) -> None:
    model = fresh(stage)
    sent = b"".join([start(begun), *block(0, text(""), {"type": "text_delta", "text": "Hi"}), *ending(ended)])
    pieces = [sent] if cut is None else [sent[at : at + cut] for at in range(0, len(sent), cut)]
    model.a.replies(events(*pieces))
    _, row = await booked(stage, ask(model.name, stream=True))
    assert tokens(row) == (*expected, sum(expected), "reported")


async def test_several_reports_on_the_way(stage: Stage) -> None:
    model = fresh(stage)
    steps = [named("message_delta", delta={}, usage={"output_tokens": count}) for count in (5, 9, 14)]
    model.a.replies(events(start(), *steps, *ending({"output_tokens": 14})))
    _, row = await booked(stage, ask(model.name, stream=True))
    assert tokens(row) == (239, 14, 253, "reported")


async def test_a_stream_that_breaks_has_what_was_reported(stage: Stage) -> None:
    """The answer has not been counted to its end; its last report stands."""
    model = fresh(stage)
    model.a.replies(events(start(), delta("Hello"), RESET))
    _, row = await booked(stage, ask(model.name, stream=True))
    assert tokens(row) == (239, 1, 240, "reported")
    assert (row["outcome"], row["status"]) == ("upstream_error", "200")


async def test_text_counts_where_nothing_is_reported(stage: Stage) -> None:
    """Text, thinking and what tools are given, streamed or whole."""
    model = fresh(stage)
    words = "lighthouse " * 40
    thinking = block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": words})
    told = block(1, text(""), *({"type": "text_delta", "text": each} for each in words.split(" ")))
    tool = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
    given = block(2, tool, {"type": "input_json_delta", "partial_json": f'{{"a":"{words}"}}'})
    begun = named("message_start", message=message(usage=None))
    end = [named("message_delta", delta={"stop_reason": "tool_use"}), named("message_stop")]
    model.a.replies(events(begun, *thinking, *told, *given, *end))
    blocks = [{"type": "thinking", "thinking": words}, text(words), tool | {"input": {"a": words}}]
    model.a.replies(answer(200, message(*blocks, usage=None)))
    for streams in (True, False):
        _, row = await booked(stage, ask(model.name, stream=streams))
        _, completion, _, source = tokens(row)
        assert source == "estimated"
        assert completion == pytest.approx(3 * len(words) / 4, rel=0.3)


async def test_signatures_and_pings_are_no_text(stage: Stage) -> None:
    model = fresh(stage)
    begun = named("message_start", message=message(usage=None))
    signature = {"type": "signature_delta", "signature": "E" * 4000}
    model.a.replies(events(begun, *block(0, {"type": "thinking", "thinking": ""}, signature), named("message_stop")))
    _, row = await booked(stage, ask(model.name, stream=True))
    assert tokens(row)[1] == 0


async def test_usage_is_found_in_events_and_answers_of_any_size(stage: Stage) -> None:
    model = fresh(stage)
    huge = delta("x" * BIG)
    late = named("message_delta", delta={"x": "y" * BIG}, usage={"output_tokens": 77})
    model.a.replies(events(start(), huge, late, named("message_stop")))
    model.a.replies(answer(200, message(text("x" * BIG))))
    _, row = await booked(stage, ask(model.name, stream=True))
    assert tokens(row) == (239, 77, 316, "reported")
    _, row = await booked(stage, ask(model.name))
    assert tokens(row) == (239, 12, 251, "reported")


async def test_a_tools_input_is_no_usage(stage: Stage) -> None:
    """Whatever the model calls its arguments."""
    model = fresh(stage)
    tool = {"type": "tool_use", "id": "t", "name": "n", "input": {"usage": {"input_tokens": 10**6}}}
    model.a.replies(answer(200, message(tool)))
    model.a.replies(events(start(), *block(0, tool), *ending()))
    for streams in (False, True):
        _, row = await booked(stage, ask(model.name, stream=streams))
        assert tokens(row)[0] == 239


async def test_refusals_and_errors_use_nothing(stage: Stage) -> None:
    model = fresh(stage)
    model.a.replies(refusal(400, "invalid_request_error"))
    _, row = await booked(stage, ask(model.name))
    assert (*tokens(row), row["outcome"], row["status"]) == (0, 0, 0, "none", "upstream_error", "400")
    model.a.replies(answer(200, {"type": "error", "error": {"type": "api_error", "message": "x"}}))
    _, row = await booked(stage, ask(model.name))
    assert (*tokens(row), row["outcome"]) == (0, 0, 0, "none", "upstream_error")
    error = event({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "error")
    model.a.replies(events(start({"input_tokens": 0, "output_tokens": 0}), error))
    _, row = await booked(stage, ask(model.name, stream=True))
    assert row["outcome"] == "upstream_error"


async def test_counting_tokens_is_free(stage: Stage) -> None:
    """It is relayed as it is, has a row with no tokens, and is no request in reports or limits of tokens."""
    model = fresh(stage)
    model.a.replies(answer(200, b'{ "input_tokens" : 14 }'))
    user = fresh_user()
    asked = {"model": model.name, "messages": [{"role": "user", "content": "Hi" * 5000}]}
    reply = await stage.post(asked, "messages/count_tokens", key=KEYS["panel"], headers=acting_for(user))
    assert (reply.status, reply.body) == (200, b'{ "input_tokens" : 14 }')
    assert model.a.requests[0].route == "messages/count_tokens"
    row = (await rows(stage.gateway, user, 1))[0]
    assert tokens(row) == (0, 0, 0, "none")
    totals = (await usage(stage.gateway, user))["totals"]
    assert totals["tokens"] == 0


async def test_counting_tokens_is_no_request_of_limits(stage: Stage) -> None:
    """Neither `rpm` nor `requests` of the model count it, and a total that is used up does not refuse it."""
    for _ in range(3):
        assert (await stage.post({"model": "strict", "messages": []}, "messages/count_tokens")).status == 200
    assert (await stage.post(ask("strict"), "messages")).status == 200
    assert (await stage.post(ask("strict"), "messages")).status == 429
    assert (await stage.post({"model": "strict", "messages": []}, "messages/count_tokens")).status == 200


async def test_a_client_that_leaves_pays_for_what_was_seen(stage: Stage) -> None:
    model = fresh(stage)
    user = fresh_user()
    model.a.replies(events(start({"input_tokens": 50, "output_tokens": 1}), delta("Hello"), asyncio.Event()))
    body = ask(model.name, stream=True)
    async with Wire.open(stage.port) as wire:
        headers = acting_for(user)
        await wire.send(request_bytes("POST", "/v1/messages", body, key=KEYS["panel"], headers=headers))
        await wire.head()
        await wire.event()
    row = (await rows(stage.gateway, user, 1))[0]
    assert (*tokens(row), row["outcome"], row["status"]) == (50, 1, 51, "reported", "cancelled", "499")


async def test_kinds_are_kept_apart(stage: Stage) -> None:
    """Reads, and writes for five minutes and an hour, each has its price."""
    report = read_message_report(USAGE)
    assert report is not None
    assert report.details is not None
    kinds = report.details.cache_write_tokens, report.details.cache_write_1h_tokens
    assert (report.prompt_tokens, report.cached_tokens, *kinds) == (239, 200, 20, 10)


@pytest.mark.parametrize("streams", [False, True])
async def test_each_kind_is_priced(stage: Stage, streams: bool) -> None:
    """9 uncached at 3, 200 read at 0.3, 20 written at 3.75 and 10 at 6, 12 written by the model at 15 a million."""
    _, row = await booked(stage, ask("priced", stream=streams))
    assert tokens(row) == (239, 12, 251, "reported")
    assert Decimal(row["cost"]) == Decimal("0.000402")


async def test_a_whole_stream_is_counted_once(stage: Stage) -> None:
    model = fresh(stage)
    model.a.replies(events(*spoken("one two")))
    _, row = await booked(stage, ask(model.name, stream=True))
    assert tokens(row) == (239, 12, 251, "reported")
