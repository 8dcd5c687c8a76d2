"""/v1/responses where no endpoint speaks WebSocket: each `create` is a streamed POST, its events are frames."""

from __future__ import annotations

import asyncio
import json

import pytest
from kit import RESET, answer, events
from kit.sockets import USAGE, Json
from websocket_kit import SECRET, Stand, said, streamed

USER: Json = {"type": "message", "role": "user", "content": "Hi"}


async def test_a_create_is_a_streamed_post_and_its_events_are_frames(stand: Stand) -> None:
    stand.plain.replies(events(*streamed(said("Hello")), b"data: [DONE]\n\n"))
    async with stand.client() as client:
        text = (
            '{"type":"response.create","stream_id":"a","model":"plain","input":"Hi","temperature":1.10,"generate":true}'
        )
        await client.socket.send_str(text)
        found = await client.end()
    kinds = ["response.created", "response.output_item.done", "response.completed"]
    assert [each["type"] for each in found] == kinds
    assert {each["stream_id"] for each in found} == {"a"}
    assert found[1]["item"] == said("Hello")
    request = await stand.plain.request()
    assert request.body == b'{"model":"provider/plain","input":"Hi","temperature":1.10,"stream":true}'
    assert request.route == "responses"
    (row,) = await stand.rows(1)
    assert (row["outcome"], row["total_tokens"], row["usage_source"]) == ("ok", 15, "reported")
    assert (row["route"], row["streamed"], row["model"]) == ("responses", 1, "id-plain")


async def test_a_chain_that_no_upstream_stores_is_sent_whole(stand: Stand) -> None:
    empty: Json = {"type": "reasoning", "id": "rs_1", "summary": []}
    sealed: Json = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "x"}
    stand.plain.replies(
        events(*streamed(empty, sealed, said("One"), number=1)), events(*streamed(said("Two", 2), number=2))
    )
    stand.plain.always(events(*streamed(said("Three", 3), number=3)))
    async with stand.client() as client:
        await client.create("plain", store=False)
        await client.end()
        await client.create("plain", store=False, previous_response_id="resp_1", input=[USER])
        await client.end()
        # Another lane forks from what the first has come to.
        await client.create("plain", store=False, previous_response_id="resp_2", input="More", stream_id="b")
        await client.end()
    bodies = [request.json() for request in stand.plain.requests]
    assert bodies[0]["input"] == "Hi"
    second = [USER, sealed, said("One"), USER]
    assert bodies[1]["input"] == second
    assert bodies[2]["input"] == [*second, said("Two", 2), USER | {"content": "More"}]
    assert not [body for body in bodies if "previous_response_id" in body]
    assert all(body["store"] is False for body in bodies)


async def test_what_was_not_kept_is_not_found(stand: Stand) -> None:
    stand.plain.always(events(*streamed(said("One"), kind="response.failed")))
    async with stand.client() as client:
        await client.create("plain", previous_response_id="resp_0", stream_id="a")
        refusal = await client.refusal()
        assert (refusal["status"], refusal["error"]["code"]) == (400, "previous_response_not_found")
        assert (refusal["error"]["param"], refusal["stream_id"]) == ("previous_response_id", "a")
        assert stand.plain.requests == []


async def test_of_a_lane_the_last_response_alone_is_kept(stand: Stand) -> None:
    stand.plain.replies(*[events(*streamed(said("x"), number=number)) for number in (1, 2)])
    async with stand.client() as client:
        for _ in range(2):
            await client.create("plain", store=False)
            await client.end()
        await client.create("plain", store=False, previous_response_id="resp_1")
        assert (await client.refusal())["error"]["code"] == "previous_response_not_found"


async def test_more_than_16_mb_are_not_kept(stand: Stand) -> None:
    """The lane that has not spoken for longest gives way."""
    stand.plain.replies(*[events(*streamed(said("x"), number=number)) for number in (1, 2, 3)])
    large = "x" * (9 << 20)
    async with stand.client() as client:
        for lane in ("a", "b"):
            await client.create("plain", input=large, stream_id=lane, store=False)
            await client.end()
        await client.create("plain", previous_response_id="resp_2", stream_id="b", store=False)
        assert (await client.end())[-1]["type"] == "response.completed"
        await client.create("plain", previous_response_id="resp_1", stream_id="a", store=False)
        assert (await client.refusal())["error"]["code"] == "previous_response_not_found"


async def test_generating_nothing_asks_nobody(stand: Stand) -> None:
    stand.plain.replies(events(*streamed(said("One"), number=1)))
    tools = [{"type": "function", "name": "f"}]
    async with stand.client() as client:
        await client.create("plain", generate=False, tools=tools, stream_id="a")
        created, ended = await client.end()
        assert (created["type"], ended["type"]) == ("response.created", "response.completed")
        assert (ended["response"]["output"], ended["response"]["usage"]["total_tokens"]) == ([], 0)
        assert {created["stream_id"], ended["stream_id"]} == {"a"}
        assert stand.plain.requests == []
        await client.create(
            "plain", previous_response_id=ended["response"]["id"], input=[USER | {"content": "Go"}], stream_id="a"
        )
        await client.end()
    assert stand.plain.requests[0].json()["input"] == [USER, USER | {"content": "Go"}]
    prepared, answered = await stand.rows(2)
    assert (prepared["outcome"], prepared["total_tokens"], prepared["usage_source"]) == ("ok", 0, "none")
    assert answered["total_tokens"] == 15


async def test_steering_comes_back(stand: Stand) -> None:
    async with stand.client() as client:
        await client.say(type="response.steer", previous_response_id="resp_1", input="Rather so")
        failed = await client.event()
        assert failed["type"] == "response.steer.failed"
        assert failed["steer"] == {"input": "Rather so", "previous_response_id": "resp_1"}
        assert failed["error"]["code"] == "steering_not_supported"


async def test_a_refusal_of_the_upstreams_is_an_event_with_its_status(stand: Stand) -> None:
    error = {"message": f"no {SECRET}-plain", "type": "invalid_request_error", "param": "input", "code": "odd"}
    stand.plain.replies(answer(400, json.dumps({"error": error}).encode()))
    async with stand.client() as client:
        await client.create("plain", stream_id="a")
        refusal = await client.refusal()
        assert (refusal["status"], refusal["stream_id"]) == (400, "a")
        assert {name: refusal["error"][name] for name in error} == error | {"message": "no ***"}
    (row,) = await stand.rows(1)
    assert (row["outcome"], row["status"]) == ("upstream_error", 400)


async def test_all_endpoints_failed_is_an_event(stand: Stand) -> None:
    stand.plain.always(answer(500, b"{}"))
    async with stand.client() as client:
        await client.create("plain")
        refusal = await client.refusal()
        assert (refusal["status"], refusal["error"]["code"]) == (502, "upstream_error")


async def test_a_stream_that_breaks_off_ends_with_an_event(stand: Stand) -> None:
    stand.plain.replies(events(*streamed(said("One"))[:2], RESET))
    async with stand.client() as client:
        await client.create("plain", stream_id="a")
        found = await client.end()
        assert [each["type"] for each in found] == ["response.created", "response.output_item.done", "error"]
        assert found[-1]["error"]["code"] == "stream_incomplete"
        assert (found[-1]["stream_id"], found[-1]["sequence_number"]) == ("a", 2)
    (row,) = await stand.rows(1)
    assert row["outcome"] == "upstream_error"


async def test_a_whole_answer_is_told_in_events(stand: Stand) -> None:
    whole = {"id": "resp_9", "object": "response", "status": "completed", "output": [said("One")], "usage": USAGE}
    stand.plain.replies(answer(200, json.dumps(whole).encode()))
    stand.plain.always(events(*streamed(said("Two"))))
    async with stand.client() as client:
        await client.create("plain")
        created, ended = await client.end()
        assert created["type"] == "response.created"
        assert ended == {"type": "response.completed", "sequence_number": 1, "response": whole}
        await client.create("plain", previous_response_id="resp_9")
        await client.end()
    assert stand.plain.requests[1].json()["input"] == [USER, said("One"), USER]


async def test_lanes_run_side_by_side_and_within_one_in_order(stand: Stand) -> None:
    go = asyncio.Event()
    slow = streamed(said("slow"), number=1)
    stand.plain.replies(events(*slow[:2], go, slow[2]), events(*streamed(said("fast"), number=2)))
    stand.plain.always(events(*streamed(said("last"), number=3)))
    async with stand.client() as client:
        await client.create("plain", stream_id="a")
        await client.until("response.output_item.done")
        await client.create("plain", stream_id="a")
        await client.create("plain", stream_id="b")
        assert (await client.end())[-1]["stream_id"] == "b"
        assert len(stand.plain.requests) == 2
        go.set()
        ends = [(await client.end())[-1]["response"]["id"] for _ in range(2)]
        assert ends == ["resp_1", "resp_3"]


async def test_limits_refuse_with_an_event(stand: Stand) -> None:
    async with stand.client() as client:
        stand.plain.always(events(*streamed(said("One"))))
        await client.create("tight-plain")
        await client.end()
        await client.create("tight-plain")
        refusal = await client.refusal()
        assert (refusal["status"], refusal["error"]["code"]) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize("spelled", ["named", "bare"])
async def test_errors_of_every_spelling_are_error_events(stand: Stand, spelled: str) -> None:
    name = b"event: error\n" if spelled == "named" else b""
    broken = name + b'data: {"error":{"message":"out of memory","type":"server_error"}}\n\n'
    stand.plain.replies(events(*streamed(said("One"))[:2], broken))
    async with stand.client() as client:
        await client.create("plain", stream_id="a")
        last = (await client.end())[-1]
        assert (last["type"], last["stream_id"]) == ("error", "a")
        assert last["error"]["message"] == "out of memory"
