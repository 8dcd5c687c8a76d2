"""The official `anthropic` library over an upstream that speaks chat completions alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from kit import KEYS, RESET, Stage, events
from kit.answers import DONE, Step, answer, as_openai, chunk, delta, event, full, raw, upstream_error, usage_only
from kit.books import acting_for, fresh_user, rows, usage
from kit.stage import FreshModel

Json = dict[str, Any]

HELLO = "Hello from the fake upstream"
HI: Any = [{"role": "user", "content": "Hi"}]
TOOLS: Any = [{"name": "weather", "description": "Tell it.", "input_schema": {"type": "object"}}]
IMAGE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
CACHED = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "total_tokens": 107,
    "prompt_tokens_details": {"cached_tokens": 60},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(stage: Stage) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=stage.url, api_key=KEYS["user"], max_retries=0) as client:
        yield client


@pytest.fixture
def model(stage: Stage) -> FreshModel:
    return stage.model()


def asking(model: FreshModel, **fields: Any) -> Any:
    return {"model": model.name, "max_tokens": 64, "messages": HI} | fields


def piece(delta: Json, finish: str | None = None, **more: Any) -> bytes:
    return event({"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more)


def call(arguments: str, index: int = 0, **more: Any) -> bytes:
    function = {"arguments": arguments} | ({"name": "weather"} if more else {})
    return piece({"tool_calls": [{"index": index, "function": function} | more]})


def pinged(data: bytes) -> list[Json]:
    """The events behind the signs of life."""
    found = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ")]
    kinds = [each["type"] for each in found]
    assert kinds[0] == "ping"
    return [each for each in found if each["type"] != "ping"]


async def test_a_message(model: FreshModel, client: anthropic.AsyncAnthropic) -> None:
    """The chat's answer as a message, its usage counted once."""
    about = {"id": "c-1", "object": "chat.completion", "created": 1, "model": model.provider_name}
    choice = {"index": 0, "message": {"role": "assistant", "content": HELLO}, "finish_reason": "stop"}
    model.a.replies(answer(200, about | {"choices": [choice], "usage": CACHED}))
    message = await client.messages.create(**asking(model, system="Be brief.", stop_sequences=["END"]))
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": HELLO}]
    assert (message.stop_reason, message.model) == ("end_turn", model.provider_name)
    counted = message.usage
    assert (counted.input_tokens, counted.cache_read_input_tokens, counted.output_tokens) == (40, 60, 7)
    asked = model.a.requests[0]
    assert asked.route == "chat/completions"
    assert asked.json() == {
        "model": model.provider_name,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "max_completion_tokens": 64,
        "stop": ["END"],
    }


async def test_a_blocking_client(stage: Stage, model: FreshModel) -> None:
    def ask() -> tuple[str, str]:
        with anthropic.Anthropic(base_url=stage.url, auth_token=KEYS["user"], max_retries=0) as blocking:
            message = blocking.messages.create(**asking(model))
            with blocking.messages.stream(**asking(model)) as stream:
                return str(message.content[0].to_dict()["text"]), "".join(stream.text_stream)

    assert await asyncio.to_thread(ask) == (HELLO, HELLO)


async def test_a_stream(model: FreshModel, client: anthropic.AsyncAnthropic) -> None:
    """Word by word; usage is asked for, and stands at both ends."""
    async with client.messages.stream(**asking(model)) as stream:
        words = [word async for word in stream.text_stream]
        message = await stream.get_final_message()
    assert words == ["Hello", " from", " the", " fake", " upstream"]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 12)
    assert model.a.requests[0].json()["stream_options"] == {"include_usage": True}


async def test_a_round_trip_with_tools(model: FreshModel, client: anthropic.AsyncAnthropic) -> None:
    """Calls come as blocks, one behind the other; results, their images and errors go up."""
    model.a.replies(
        events(
            piece({"role": "assistant", "content": "Let me see."}),
            call("", id="call_a"),
            call('{"city":'),
            call("", index=1, id="call_b"),
            call('"Bern"}'),
            call('{"city":"Basel"}', index=1),
            piece({}, "tool_calls"),
            usage_only(),
            DONE,
        )
    )
    async with client.messages.stream(**asking(model, tools=TOOLS, tool_choice={"type": "any"})) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason == "tool_use"
    inputs = [block.input for block in message.content if block.type == "tool_use"]
    assert inputs == [{"city": "Bern"}, {"city": "Basel"}]
    results: Any = [
        {"type": "tool_result", "tool_use_id": "call_a", "content": [{"type": "text", "text": "Sun"}, IMAGE]},
        {"type": "tool_result", "tool_use_id": "call_b", "content": "no such city", "is_error": True},
    ]
    turns = [*HI, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    await client.messages.create(**asking(model, tools=TOOLS, messages=turns))
    first, second = (request.json() for request in model.a.requests)
    assert first["tool_choice"] == "required"
    assert first["tools"][0]["function"]["parameters"] == {"type": "object"}
    said, *after = second["messages"][1:]
    assert [each["function"]["arguments"] for each in said["tool_calls"]] == ['{"city":"Bern"}', '{"city":"Basel"}']
    assert said["content"] == "Let me see."
    assert after == [
        {"role": "tool", "tool_call_id": "call_a", "content": "Sun"},
        {"role": "tool", "tool_call_id": "call_b", "content": "Error: no such city"},
        {"role": "user", "content": [IMAGE_PART]},
    ]


async def test_a_large_image(model: FreshModel, client: anthropic.AsyncAnthropic) -> None:
    """Megabytes go up as they came."""
    source = IMAGE["source"] | {"data": "iVBO" * 500_000}
    said: Any = [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "What?"}]}]
    await client.messages.create(**asking(model, messages=said))
    picture, text = model.a.requests[0].json()["messages"][0]["content"]
    assert picture["image_url"]["url"] == f"data:image/png;base64,{source['data']}"
    assert text == {"type": "text", "text": "What?"}


async def test_hints_are_dropped_and_named(model: FreshModel, client: anthropic.AsyncAnthropic) -> None:
    fields = asking(
        model, metadata={"user_id": "u"}, extra_body={"top_k": 3}, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    raw_answer = await client.messages.with_raw_response.create(**fields)
    assert raw_answer.headers["x-gateway-dropped"].split(", ") == ["metadata", "thinking", "top_k"]
    assert model.a.requests[0].json().keys() == {"model", "messages", "max_completion_tokens"}
    streamed = await client.messages.with_raw_response.create(**fields, stream=True)
    assert "metadata" in streamed.headers["x-gateway-dropped"]
    plain = await client.messages.with_raw_response.create(**asking(model))
    assert "x-gateway-dropped" not in plain.headers


async def test_what_speaks_of_the_protocol_stays_here(stage: Stage, model: FreshModel) -> None:
    """The rest of what a client sends along goes up as on any route."""
    headers = [("anthropic-version", "2023-06-01"), ("anthropic-beta", "new-2026"), ("x-client-request-id", "mine")]
    reply = await stage.post(asking(model), "messages?beta=true", headers=headers)
    assert reply.status == 200
    asked = model.a.requests[0]
    assert asked.target.endswith("/chat/completions")
    assert asked.header("x-client-request-id") == "mine"
    assert (asked.header("anthropic-version"), asked.header("anthropic-beta")) == (None, None)


async def test_what_has_no_counterpart_is_refused(model: FreshModel, client: anthropic.AsyncAnthropic) -> None:
    document: Any = [{"role": "user", "content": [{"type": "document", "source": IMAGE["source"]}]}]
    with pytest.raises(anthropic.BadRequestError) as caught:
        await client.messages.create(**asking(model, messages=document))
    error: Any = caught.value.body
    assert error["error"]["code"] == "not_translatable"
    assert error["error"]["param"] == "messages[0].content[0].type"
    assert error["error"]["type"] == "invalid_request_error"
    assert model.asked() == [0]


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.RequestTooLargeError, "request_too_large"),
        (422, anthropic.UnprocessableEntityError, "invalid_request_error"),
    ],
)
async def test_a_refusal_keeps_status_and_message(
    model: FreshModel, client: anthropic.AsyncAnthropic, status: int, error: type[anthropic.APIStatusError], kind: str
) -> None:
    model.a.replies(upstream_error(status, "That is too much."))
    with pytest.raises(error) as caught:
        await client.messages.create(**asking(model, stream=True))
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"], body["error"]["message"]) == ("error", kind, "That is too much.")
    assert body["request_id"] == caught.value.request_id == caught.value.response.headers["x-request-id"]


async def test_an_upstream_out_of_order_is_an_error_of_ours(
    model: FreshModel, client: anthropic.AsyncAnthropic
) -> None:
    model.a.always(answer(500))
    with pytest.raises(anthropic.InternalServerError) as caught:
        await client.messages.create(**asking(model))
    body: Any = caught.value.body
    assert (body["error"]["type"], body["error"]["code"]) == ("api_error", "upstream_error")


@pytest.mark.parametrize("body", [b'{"choices":[]}', b"<html>", b'{"object":"chat.completion"}'])
async def test_an_answer_that_is_none_is_an_error_of_ours(
    model: FreshModel, client: anthropic.AsyncAnthropic, body: bytes
) -> None:
    model.a.replies(answer(200, body))
    with pytest.raises(anthropic.InternalServerError):
        await client.messages.create(**asking(model))


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([delta("Hello"), RESET], "stream_incomplete"),
        ([delta("Hello"), event({"error": {"message": "Out of memory.", "code": "oom"}})], "oom"),
        ([delta("Hello"), b'data: {"choices": [\n\n'], "stream_incomplete"),
    ],
)
async def test_a_stream_that_breaks_says_so(
    model: FreshModel, client: anthropic.AsyncAnthropic, steps: list[Step], code: str
) -> None:
    model.a.replies(events(*steps))
    words = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with client.messages.stream(**asking(model)) as stream:
            words += [word async for word in stream.text_stream]
    body: Any = caught.value.body
    assert words in ([], ["Hello"])
    assert (body["error"]["type"], body["error"]["code"]) == ("api_error", code)


async def test_an_error_as_the_first_event_is_tried_elsewhere(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    pair = stage.model("pair")
    pair.a.replies(events(event({"error": {"message": "Not now."}})))
    async with client.messages.stream(**asking(pair)) as stream:
        assert (await stream.get_final_message()).content[0].to_dict()["text"] == HELLO
    assert pair.asked() == [1, 1]


async def test_every_byte_alone(model: FreshModel, client: anthropic.AsyncAnthropic) -> None:
    """However the bytes arrive, the message is the same."""
    stream = [piece({"content": "Grüße\r\n"}), call('{"city":"Zürich"}', id="a"), piece({}, "tool_calls"), usage_only()]
    data = b"".join([*stream, DONE]).replace(b"\n", b"\r\n")
    model.a.replies(events(*(data[place : place + 1] for place in range(len(data)))))
    async with client.messages.stream(**asking(model)) as open_stream:
        message = await open_stream.get_final_message()
    assert message.content[0].to_dict() == {"type": "text", "text": "Grüße\r\n"}
    assert message.content[1].to_dict()["input"] == {"city": "Zürich"}
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 12)


async def test_an_event_larger_than_what_is_relayed_at_once(
    model: FreshModel, client: anthropic.AsyncAnthropic
) -> None:
    text = "word " * 600_000
    model.a.replies(events(piece({"content": text}), piece({}, "stop"), DONE))
    async with client.messages.stream(**asking(model)) as stream:
        assert (await stream.get_final_message()).content[0].to_dict()["text"] == text


async def test_signs_of_life_are_pings(strict: Stage) -> None:
    model, go_on = strict.model(), asyncio.Event()
    model.a.replies(raw(b"", go_on, *_streamed(delta("Hello"), piece({}, "stop"), DONE)))
    async with strict.asking(asking(model, stream=True), "messages") as wire:
        head = await wire.head()
        assert head.status == 200
        first = await wire.event()
        go_on.set()
        reply = await wire.body()
    kinds = [each["type"] for each in pinged(first + reply.body)]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


@pytest.mark.parametrize("status", [400, 500])
async def test_behind_a_ping_what_is_no_stream_is_told_as_events(strict: Stage, status: int) -> None:
    """A refusal with its message, a failure in our words."""
    model, go_on = strict.model(), asyncio.Event()
    error = {"error": {"message": "That is too much.", "type": "upstream_type", "param": None, "code": "much"}}
    model.a.replies(raw(b"", go_on, full(status, error)))
    async with strict.asking(asking(model, stream=True), "messages") as wire:
        assert (await wire.head()).status == 200
        first = await wire.event()
        go_on.set()
        reply = await wire.body()
    [last] = pinged(first + reply.body)
    assert last["type"] == "error"
    assert last["error"]["type"] == ("invalid_request_error" if status == 400 else "api_error")
    assert ("too much" in last["error"]["message"]) == (status == 400)


async def test_behind_a_ping_a_whole_answer_is_told_as_events(strict: Stage) -> None:
    model, go_on = strict.model(), asyncio.Event()
    choice = {"index": 0, "message": {"role": "assistant", "content": HELLO}, "finish_reason": "stop"}
    model.a.replies(raw(b"", go_on, full(200, {"id": "c-1", "choices": [choice], "usage": CACHED})))
    async with strict.asking(asking(model, stream=True), "messages") as wire:
        await wire.head()
        first = await wire.event()
        go_on.set()
        reply = await wire.body()
    found = pinged(first + reply.body)
    assert [each["delta"]["text"] for each in found if each["type"] == "content_block_delta"] == [HELLO]
    assert found[-2]["usage"]["cache_read_input_tokens"] == 60
    assert found[-1] == {"type": "message_stop"}


def _streamed(*pieces: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    yield from map(chunk, pieces)
    yield b"0\r\n\r\n"


async def test_tokens_are_estimated(stage: Stage, model: FreshModel, client: anthropic.AsyncAnthropic) -> None:
    """No upstream is asked, and the answer says what it is."""
    fields: Any = {"model": model.name, "messages": [{"role": "user", "content": "word " * 4000}], "tools": TOOLS}
    raw_answer = await client.messages.with_raw_response.count_tokens(**fields)
    assert raw_answer.headers["x-gateway-estimated"] == "tokens"
    assert 3500 < (await _parsed(raw_answer)).input_tokens < 6500
    assert model.asked() == [0]
    with pytest.raises(anthropic.BadRequestError):
        await client.messages.count_tokens(**fields | {"messages": [{"role": "user", "content": [{"type": "new"}]}]})


async def test_an_estimate_is_a_call_with_a_row_of_its_own(stage: Stage, model: FreshModel) -> None:
    """It counts in what such calls may be in a minute, in no totals, and can be looked up."""
    user = fresh_user()
    asked = {"model": model.name, "messages": HI}
    reply = await stage.post(asked, "messages/count_tokens", key=KEYS["panel"], headers=acting_for(user))
    names = [name for name, _ in reply.headers]
    assert names.count("x-request-id") == names.count("request-id") == 1
    assert dict(reply.headers)["x-ratelimit-limit-requests"] == "600"
    [row] = await rows(stage.gateway, user, 1)
    assert (row["request_id"], row["route"]) == (dict(reply.headers)["x-request-id"], "POST messages/count_tokens")
    assert (row["status"], row["outcome"], row["total_tokens"], row["attempts"]) == ("200", "ok", "0", "0")
    assert (await usage(stage.gateway, user))["totals"]["requests"] == 0


async def _parsed(raw_answer: Any) -> Any:
    found = raw_answer.parse()
    return await found if asyncio.iscoroutine(found) else found


async def test_the_ledger_counts_what_the_upstream_reports(stage: Stage) -> None:
    """Once, under the route that was asked."""
    user, model = fresh_user(), stage.model()
    model.a.replies(as_openai())
    model.a.replies(events(delta("Hello"), piece({}, "stop"), event({"choices": [], "usage": CACHED}), DONE))
    for fields in ({}, {"stream": True}):
        reply = await stage.post(asking(model, **fields), "messages", key=KEYS["panel"], headers=acting_for(user))
        assert reply.status == 200
    found = sorted(await rows(stage.gateway, user, 2), key=lambda row: int(row["prompt_tokens"]))
    assert [(row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) for row in found] == [
        ("9", "12", "21"),
        ("100", "7", "107"),
    ]
    assert {(row["route"], row["outcome"], row["usage_source"]) for row in found} == {("messages", "ok", "reported")}
