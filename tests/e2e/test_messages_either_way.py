"""A request may be asked of one model in its own words and of the next in others: fallbacks, native and translated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Stage, answer, events
from kit.answers import event, upstream_error
from kit.stage import Record, endpoint, model

ASKED: Any = {"max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
DOCUMENT: Any = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}


def models(upstream: FakeUpstream) -> Iterator[Record]:
    chat, native = [endpoint(upstream, "chat")], [endpoint(upstream, "native", protocols=["anthropic"])]
    yield model("chat-first", chat, fallbacks=["native-only"])
    yield model("native-first", native, fallbacks=["chat-only"])
    yield model("native-only", [endpoint(upstream, "native-only", protocols=["anthropic"])])
    yield model("chat-only", [endpoint(upstream, "chat-only")], max_tokens_field="max_tokens", reasoning=True)
    mixed = [endpoint(upstream, "mixed.a", priority=0), endpoint(upstream, "mixed.b", priority=1)]
    mixed[1]["protocols"] = ["openai", "anthropic"]
    yield model("mixed", mixed)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage.open(tmp_path_factory.mktemp("either-way"), models) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(stage: Stage) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=stage.url, api_key=KEYS["user"], max_retries=0) as client:
        yield client


def told(text: str) -> bytes:
    """A message's stream by an upstream that speaks the protocol."""
    begun = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
    begun |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1}}
    each = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    return b"".join([event(one, name=str(one["type"])) for one in each])


async def test_a_translated_model_falls_back_to_a_native_one(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    """Byte for byte from there on."""
    stage.upstream.endpoint("chat").replies(answer(500))
    native = stage.upstream.endpoint("native-only").replies(events(told("From the native one.")))
    async with client.messages.stream(model="chat-first", **ASKED, metadata={"user_id": "u"}) as stream:
        message = await stream.get_final_message()
        assert "x-gateway-dropped" not in stream.response.headers
    assert message.content[0].to_dict()["text"] == "From the native one."
    assert native.requests[-1].json()["metadata"] == {"user_id": "u"}


async def test_a_native_model_falls_back_to_a_translated_one(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    """In the words of that model's own settings."""
    stage.upstream.endpoint("native").replies(answer(529))
    chat = stage.upstream.endpoint("chat-only")
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    async with client.messages.stream(model="native-first", **ASKED, thinking=thinking) as stream:
        message = await stream.get_final_message()
    assert message.content[0].to_dict()["text"] == "Hello from the fake upstream"
    asked = chat.requests[-1].json()
    assert (asked["max_tokens"], asked["reasoning_effort"]) == (64, "low")


async def test_the_first_refusal_is_told_in_its_own_words(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    """Whichever protocol was asked last: a chat's 404 in Anthropic's shape, a native one as it came."""
    stage.upstream.endpoint("chat").replies(upstream_error(404, "No such deployment."))
    stage.upstream.endpoint("native-only").replies(answer(500))
    with pytest.raises(anthropic.NotFoundError) as translated:
        await client.messages.create(model="chat-first", **ASKED)
    body: Any = translated.value.body
    assert (body["type"], body["error"]["message"]) == ("error", "No such deployment.")
    own = {"type": "error", "error": {"type": "not_found_error", "message": "Nowhere."}, "request_id": "theirs"}
    stage.upstream.endpoint("native").replies(answer(404, own))
    stage.upstream.endpoint("chat-only").replies(answer(500))
    with pytest.raises(anthropic.NotFoundError) as native:
        await client.messages.create(model="native-first", **ASKED)
    assert native.value.body == own


async def test_a_fallback_without_a_translation_is_passed_over(stage: Stage, client: anthropic.AsyncAnthropic) -> None:
    stage.upstream.endpoint("native").replies(answer(529))
    before = len(stage.upstream.endpoint("chat-only").requests)
    asked: Any = ASKED | {"messages": [{"role": "user", "content": [DOCUMENT]}]}
    with pytest.raises(anthropic.InternalServerError):
        await client.messages.create(model="native-first", **asked)
    assert len(stage.upstream.endpoint("chat-only").requests) == before


async def test_a_model_with_one_endpoint_that_speaks_it_is_not_translated(
    stage: Stage, client: anthropic.AsyncAnthropic
) -> None:
    """That one is asked, whatever the others' priority."""
    mixed = stage.upstream.endpoint("mixed.b").replies(events(told("Hello")))
    async with client.messages.stream(model="mixed", **ASKED) as stream:
        await stream.get_final_message()
    assert mixed.requests[-1].route == "messages"
    assert stage.upstream.endpoint("mixed.a").requests == []
