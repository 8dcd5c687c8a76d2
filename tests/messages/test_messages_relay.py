"""Messages are relayed byte for byte by endpoints that speak them, and by no others."""

from __future__ import annotations

import asyncio
import json

import pytest
from kit import KEYS, RESET, Stage, Wire, answer, event, events, raw, request_bytes
from kit.answers import STREAM_HEAD, chunk, full
from kit.messages import (
    PING,
    STOP,
    VERSION,
    ask,
    block,
    delta,
    ending,
    fresh,
    fresh_pair,
    message,
    named,
    refusal,
    spoken,
    start,
    text,
)
from kit.stage import upstream_key

PATHS = ("/v1/messages", "/api/ai/anthropic/v1/messages")


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_is_the_upstreams_bytes(stage: Stage, path: str) -> None:
    model = fresh(stage)
    body = b' { "type":"message", "content":[{"type":"text","text":"\\u00e9 1.10"}],\n "usage":{"output_tokens":1e0}}'
    model.a.replies(answer(200, body, [("request-id", "req_up"), ("anthropic-ratelimit-tokens-limit", "5")]))
    reply = await stage.post(ask(model.name), path.rpartition("/v1/")[2], prefix=path.rpartition("messages")[0])
    assert (reply.status, reply.body) == (200, body)
    assert reply.header("request-id") == reply.header("x-request-id")
    assert reply.header("x-upstream-request-id") == "req_up"
    assert reply.header("x-gateway-model") == model.name
    assert reply.header("anthropic-ratelimit-tokens-limit") is None
    request = model.a.requests[0]
    assert request.route == "messages"
    assert request.json()["model"] == model.provider_name


async def test_only_the_model_changes_of_a_request(stage: Stage) -> None:
    model = fresh(stage)
    sent = f'{{"model": "{model.name}" , "max_tokens": 1.0e1, "thinking":{{"type":"enabled","budget_tokens":1024}},  '
    sent += '"messages":[{"role":"user","content":[{"type":"text","text":"\\u0041","cache_control":{"ttl":"1h"}}]}]}'
    await stage.post(sent.encode(), "messages")
    assert model.a.requests[0].body == sent.replace(model.name, model.provider_name, 1).encode()


async def test_credentials_and_versions(stage: Stage) -> None:
    """The endpoint's key goes up bare; version, beta and query as the client sent them, its own key never."""
    model = fresh(stage)
    headers = [("x-api-key", KEYS["user"]), VERSION, ("anthropic-beta", "a-2025-01-01,b"), ("anthropic-beta", "c")]
    await stage.post(ask(model.name), "messages?beta=true&x=%20", key=None, headers=headers)
    request = model.a.requests[0]
    assert request.target.endswith("/v1/messages?beta=true&x=%20")
    assert request.header("x-api-key") == upstream_key(model.a.name)
    assert request.header("authorization") is None
    assert request.header("anthropic-version") == "2023-06-01"
    assert request.header("anthropic-beta") == "a-2025-01-01,b, c"
    assert KEYS["user"].encode() not in request.head


async def test_a_version_is_sent_where_the_client_names_none_and_as_it_is_where_it_does(stage: Stage) -> None:
    model = fresh(stage)
    await stage.post(ask(model.name), "messages")
    await stage.post(ask(model.name), "messages", headers=[("anthropic-version", "2099-12-31")])
    versions = [
        [value for name, value in request.headers if name == "anthropic-version"] for request in model.a.requests
    ]
    assert versions == [["2023-06-01"], ["2099-12-31"]]


async def test_an_endpoints_own_headers_hold(stage: Stage) -> None:
    await stage.post(ask("own-version"), "messages", headers=[VERSION, ("anthropic-beta", "client")])
    sent = stage.upstream.endpoint("own-version.a").requests[-1].headers
    assert [value for name, value in sent if name == "anthropic-version"] == ["2024-01-01"]
    assert [value for name, value in sent if name == "anthropic-beta"] == ["own"]


async def test_the_header_of_the_key_follows_the_protocol_unless_it_is_configured(stage: Stage) -> None:
    await stage.post(ask("both"), "messages")
    await stage.post(ask("both"), "chat/completions")
    await stage.post(ask("bearer"), "messages")
    messages, chat = stage.upstream.endpoint("both").requests[-2:]
    assert (messages.header("x-api-key"), messages.header("authorization")) == (upstream_key("both"), None)
    assert (chat.header("x-api-key"), chat.header("authorization")) == (None, f"Bearer {upstream_key('both')}")
    assert (
        stage.upstream.endpoint("bearer.a").requests[-1].header("authorization") == f"Bearer {upstream_key('bearer.a')}"
    )


@pytest.mark.parametrize(("route", "asked"), [("messages", "mixed.a"), ("chat/completions", "mixed.o")])
async def test_endpoints_of_another_protocol_are_no_candidates(stage: Stage, route: str, asked: str) -> None:
    others = {"mixed.a": "mixed.o", "mixed.o": "mixed.a"}
    before = len(stage.upstream.endpoint(others[asked]).requests)
    for _ in range(4):
        assert (await stage.post(ask("mixed"), route)).status == 200
    assert len(stage.upstream.endpoint(others[asked]).requests) == before


async def test_a_model_that_speaks_messages_alone_serves_no_chat(stage: Stage) -> None:
    model = fresh(stage)
    reply = await stage.post(ask(model.name), "chat/completions")
    assert (reply.status, reply.error()["code"], reply.error()["param"]) == (404, "model_not_found", "model")
    assert "anthropic" in reply.error()["message"]
    assert model.a.requests == []


async def test_a_stream_is_the_upstreams_events(stage: Stage) -> None:
    """Thinking, signatures, tools and cache fields pass as they are, at whichever split."""
    model = fresh(stage)
    thinking = [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "EqQB"}]
    tool = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    parts = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", '{"city"', ': "Bern"}')]
    sent = [
        start(),
        *block(0, {"type": "thinking", "thinking": "", "signature": ""}, *thinking),
        PING,
        *block(1, tool, *parts),
        *ending(reason="tool_use"),
    ]
    whole = b"".join(sent)
    pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    model.a.replies(events(*pieces))
    reply = await stage.post(ask(model.name, stream=True), "messages", headers=[VERSION])
    assert reply.body == whole
    assert reply.header("content-type") == "text/event-stream"
    assert (reply.header("cache-control"), reply.header("x-accel-buffering")) == ("no-cache", "no")
    assert reply.header("request-id") == reply.header("x-request-id")


async def test_pings_are_no_first_event(stage: Stage) -> None:
    """The head waits for the first event, and a first event that is an error is a failed attempt."""
    model = fresh_pair(stage)
    error = named("error", error={"type": "overloaded_error", "message": "Overloaded"})
    model.a.replies(events(PING, PING, error))
    reply = await stage.post(ask(model.name, stream=True), "messages")
    assert reply.body == b"".join(spoken("Hello from the fake upstream"))
    assert reply.header("x-gateway-attempts") == "2"


async def test_an_overloaded_endpoint_is_left_for_the_next(stage: Stage) -> None:
    model = fresh_pair(stage)
    model.a.replies(refusal(529, "overloaded_error"))
    reply = await stage.post(ask(model.name), "messages")
    assert (reply.status, reply.header("x-gateway-attempts")) == (200, "2")


async def test_signs_of_life_are_pings(stage: Stage) -> None:
    model = fresh(stage)
    go = asyncio.Event()
    model.a.replies(events(go, *spoken("late words")))
    async with stage.asking(ask(model.name, stream=True), "messages") as wire:
        head = await wire.head()
        assert head.status == 200
        assert head.header("request-id") == head.header("x-request-id")
        first = await wire.event()
        assert first == PING
        go.set()
        rest = (await wire.body()).body
    told = (first + rest).replace(PING, b"")
    assert told == b"".join(spoken("late words")).replace(PING, b"")


async def test_a_whole_message_after_a_sign_of_life_becomes_events(stage: Stage) -> None:
    model = fresh(stage)
    go = asyncio.Event()
    whole = message(
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        text("Hello"),
        {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
    )
    model.a.replies(raw(go, full(200, whole)))
    async with stage.asking(ask(model.name, stream=True), "messages") as wire:
        await wire.head()
        go.set()
        told = (await wire.body()).body
    kinds = [line[7:] for line in told.replace(PING, b"").decode().splitlines() if line.startswith("event: ")]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 3
    assert '"partial_json":"{\\"a\\":1}"' in told.decode()


async def test_a_whole_message_in_a_streams_place_is_relayed_as_it_is(stage: Stage) -> None:
    model = fresh(stage)
    model.a.replies(answer(200, message(text("Hi"))))
    reply = await stage.post(ask(model.name, stream=True), "messages")
    assert reply.json()["content"] == [text("Hi")]


@pytest.mark.parametrize("end", [RESET, None])
async def test_a_stream_that_breaks_says_so_after_its_last_whole_event(stage: Stage, end: object) -> None:
    model = fresh(stage)
    whole = start() + delta("Hel")
    steps = [STREAM_HEAD, chunk(whole), chunk(delta("lo")[:-5]), RESET if end is RESET else b"zz\r\n"]
    model.a.replies(raw(*steps))
    reply = await stage.post(ask(model.name, stream=True), "messages")
    assert reply.body.startswith(whole)
    name, data = reply.body[len(whole) :].decode().strip().split("\n")
    assert name == "event: error"
    told = json.loads(data.removeprefix("data: "))
    assert told["type"] == "error"
    assert (told["error"]["type"], told["error"]["code"]) == ("api_error", "stream_incomplete")
    assert told["request_id"] == reply.header("request-id")


async def test_a_stream_that_said_stop_is_whole(stage: Stage) -> None:
    model = fresh(stage)
    sent = spoken("all of it")
    model.a.replies(events(*sent, RESET))
    reply = await stage.post(ask(model.name, stream=True), "messages")
    assert reply.body == b"".join(sent)
    assert reply.body.endswith(STOP)


async def test_there_is_no_second_try_after_the_first_event(stage: Stage) -> None:
    model = fresh_pair(stage)
    model.a.replies(events(start(), RESET))
    reply = await stage.post(ask(model.name, stream=True), "messages")
    assert reply.body.startswith(start())
    assert model.asked() == [1, 0]


async def test_a_client_that_leaves_closes_its_upstream(stage: Stage) -> None:
    model = fresh(stage)
    model.a.replies(events(start(), delta("Hel"), asyncio.Event()))
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("POST", "/v1/messages", ask(model.name, stream=True), key=KEYS["user"]))
        await wire.head()
        await wire.event()
        request = await model.a.request()
    await request.until_closed()


async def test_odd_events_pass(stage: Stage) -> None:
    """An unknown event is not ours to judge."""
    model = fresh(stage)
    sent = [start(), event({"type": "message_limit", "x": 1}, "message_limit"), *ending()]
    model.a.replies(events(*sent))
    assert (await stage.post(ask(model.name, stream=True), "messages")).body == b"".join(sent)
