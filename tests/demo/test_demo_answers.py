"""The demo's upstream answers the whole surface as the official library's types have it."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import wave
import zlib
from typing import Any

import httpx2 as httpx
import openai
import pytest
from kit.gateway import KEYS
from openai import AsyncOpenAI
from pydantic import BaseModel

MESSAGES: Any = [{"role": "user", "content": "Hello there"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
TOOLS: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
BEARER = {"authorization": f"Bearer {KEYS['user']}"}
GREETING = "Hello! This is the demo upstream"


class City(BaseModel):
    name: str
    people: int
    districts: list[str]


async def test_chat_with_choices_bounds_and_forms(client: AsyncOpenAI) -> None:
    chat = await client.chat.completions.create(model="demo", messages=MESSAGES, n=2)
    assert [each.message.content or "" for each in chat.choices] == [chat.choices[0].message.content] * 2
    assert (chat.choices[0].message.content or "").startswith(GREETING)
    assert chat.usage is not None
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
    short = await client.chat.completions.create(model="demo", messages=MESSAGES, max_completion_tokens=3)
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("Hello! This is", "length")
    parsed = await client.chat.completions.parse(model="demo", messages=MESSAGES, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="demo", people=1, districts=["demo"])


async def test_a_chat_streams_and_reports_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="demo", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith(GREETING)
    assert text.endswith("works.")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(text.split())


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_tool_is_called_and_its_result_ends_it(client: AsyncOpenAI, is_stream: bool) -> None:
    if is_stream:
        async with client.chat.completions.stream(model="demo", messages=MESSAGES, tools=CHAT_TOOLS) as stream:
            message: Any = (await stream.get_final_completion()).choices[0].message
    else:
        message = (
            (await client.chat.completions.create(model="demo", messages=MESSAGES, tools=CHAT_TOOLS)).choices[0].message
        )
    call = message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"demo","days":1}')
    result = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
    history = [*MESSAGES, message.model_dump(include={"role", "content", "tool_calls"}), result]
    done = await client.chat.completions.create(model="demo", messages=history, tools=CHAT_TOOLS)
    assert done.choices[0].finish_reason == "stop"


async def test_stored_chats(client: AsyncOpenAI, url: str, steady: str) -> None:
    made = [
        await client.chat.completions.create(model="demo", messages=MESSAGES, store=True, metadata={"n": str(number)})
        for number in range(3)
    ]
    await client.chat.completions.create(model="demo", messages=MESSAGES)
    # Of one second, so in no order that holds everywhere.
    assert {each.id async for each in client.chat.completions.list(limit=2)} == {each.id for each in made}
    if url == steady:  # a gateway's list is made from answers, in which there is no metadata yet
        found = await client.chat.completions.list(metadata={"n": "1"})
        assert [each.id for each in found.data] == [made[1].id]
    assert (await client.chat.completions.retrieve(made[0].id)).id == made[0].id
    assert (await client.chat.completions.update(made[0].id, metadata={"a": "b"})).metadata == {"a": "b"}
    # The library's type knows the assistant's messages alone; the users' are what is stored.
    raw = await client.chat.completions.messages.with_raw_response.list(made[0].id)
    assert [each["content"] for each in raw.http_response.json()["data"]] == ["Hello there"]
    assert (await client.chat.completions.delete(made[0].id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.retrieve(made[0].id)


async def test_responses_chains_and_items(client: AsyncOpenAI, url: str) -> None:
    first = await client.responses.create(model="demo", input="Hello there", instructions="Be kind")
    assert first.output_text.startswith(GREETING)
    second = await client.responses.create(model="demo", input="And then?", previous_response_id=first.id)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    items = await client.responses.input_items.list(second.id)
    assert len(items.data) == 1
    count = await client.responses.input_tokens.count(model="demo", input="a b c")
    assert count.input_tokens == 3
    async with AsyncOpenAI(base_url=url, api_key=KEYS["user"]) as lenient:  # its type has no place for a user's message
        compacted = await lenient.responses.compact(model="demo", input="a b c")
        assert [item.type for item in compacted.output] == ["message", "compaction"]
    await client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(first.id)
    with pytest.raises(openai.APIStatusError) as caught:
        await client.responses.create(model="demo", input="Hi", previous_response_id=first.id)
    assert caught.value.code in ("previous_response_not_found", "object_not_found"), "there, or here already"
    assert caught.value.param == "previous_response_id"
    kept = await client.responses.create(model="demo", input="Hi", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(kept.id)


async def test_responses_stream_their_events(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="demo", input="Hi") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text.startswith(GREETING)
    assert events[-1].type == "response.completed"
    again = await client.responses.retrieve(final.id, stream=True, starting_after=3)
    assert [event.sequence_number async for event in again] == [event.sequence_number for event in events][4:]


async def test_responses_call_tools_and_write_forms(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="demo", input="Hi", tools=TOOLS) as stream:
        call: Any = (await stream.get_final_response()).output[0]
    assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city":"demo","days":1}')
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    done = await client.responses.create(model="demo", input=[call.model_dump(), result], tools=TOOLS)
    assert done.output_text.startswith(GREETING)
    parsed = await client.responses.parse(model="demo", input="Hi", text_format=City)
    assert parsed.output_parsed == City(name="demo", people=1, districts=["demo"])
    sealed = await client.responses.create(model="demo", input="Hi", include=["reasoning.encrypted_content"])
    assert sealed.output[0].type == "reasoning"


async def test_responses_in_the_background(client: AsyncOpenAI) -> None:
    running = await client.responses.create(model="demo", input="Hi", background=True)
    assert (running.status, running.output) == ("queued", [])
    cancelled = await client.responses.cancel(running.id)
    assert cancelled.status == "cancelled"
    running = await client.responses.create(model="demo", input="Hi", background=True)
    while (found := await client.responses.retrieve(running.id)).status in ("queued", "in_progress"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert (found.status, found.output_text[:6]) == ("completed", "Hello!")
    plain = await client.responses.create(model="demo", input="Hi")
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(plain.id)


async def test_conversations(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create(
        metadata={"a": "b"}, items=[{"type": "message", "role": "user", "content": "Hi"}]
    )
    await client.responses.create(model="demo", input="Hello there", conversation=conversation.id)
    items = [item async for item in client.conversations.items.list(conversation.id, order="asc", limit=2)]
    assert len(items) == 3
    name = items[0].id or ""
    assert (await client.conversations.items.retrieve(name, conversation_id=conversation.id)).type == "message"
    await client.conversations.items.delete(name, conversation_id=conversation.id)
    added = await client.conversations.items.create(
        conversation.id, items=[{"type": "message", "role": "user", "content": "More"}]
    )
    assert len(added.data) == 1
    assert (await client.conversations.update(conversation.id, metadata={"c": "d"})).metadata == {"c": "d"}
    assert (await client.conversations.delete(conversation.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(conversation.id)


async def test_texts_and_numbers(client: AsyncOpenAI, url: str) -> None:
    text = await client.completions.create(model="demo", prompt=["a", "b"])
    assert len(text.choices) == 2
    # Its type has no place for the null that ends no chunk but the last.
    async with AsyncOpenAI(base_url=url, api_key=KEYS["user"]) as lenient:
        stream = await lenient.completions.create(model="demo", prompt="a", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]).startswith(GREETING)
        # Nor for a vector in base64, which the library itself asks for.
        vectors = await lenient.embeddings.create(model="demo", input=["a", "b", "a"], dimensions=8)
    plain = await client.embeddings.create(model="demo", input="a", dimensions=8, encoding_format="float")
    assert vectors.data[0].embedding == vectors.data[2].embedding != vectors.data[1].embedding
    assert plain.data[0].embedding == pytest.approx(vectors.data[0].embedding, abs=1e-6)
    verdict = await client.moderations.create(input=["a", "b"])
    assert [each.flagged for each in verdict.results] == [False, False]
    assert [each.id async for each in client.models.list()] == ["demo"]
    assert (await client.models.retrieve("demo")).id == "demo"
    body = {"model": "demo", "query": "red boat", "documents": ["a tower", "a red boat", "red"], "top_n": 2}
    async with httpx.AsyncClient() as plain_client:
        ranked = (await plain_client.post(f"{url}/rerank", json=body, headers=BEARER)).json()
    assert [each["index"] for each in ranked["results"]] == [1, 2]


async def test_pictures(client: AsyncOpenAI) -> None:
    made = await client.images.generate(model="demo", prompt="A boat", n=2)
    assert made.usage is not None
    drawn = base64.b64decode((made.data or [])[0].b64_json or "")
    assert is_png(drawn)
    edited = await client.images.edit(model="demo", prompt="Redder", image=[("a.png", drawn), ("b.png", drawn)])
    assert is_png(base64.b64decode((edited.data or [])[0].b64_json or ""))
    with pytest.deprecated_call():
        assert (await client.images.create_variation(image=drawn, n=2)).data
    stream = await client.images.generate(model="demo", prompt="A boat", stream=True, partial_images=2)
    kinds = [event.type async for event in stream]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    stream = await client.images.edit(model="demo", prompt="A boat", image=drawn, stream=True)
    assert [event.type async for event in stream] == ["image_edit.completed"]


def is_png(data: bytes) -> bool:
    """Whether its chunks have the right sums and its pixels the right number."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    return len(zlib.decompress(chunks[b"IDAT"])) == height * (1 + 3 * width)


async def test_sounds(client: AsyncOpenAI) -> None:
    speech = await client.audio.speech.create(model="demo", input="Hi", voice="alloy")
    with wave.open(io.BytesIO(speech.content)) as sound:
        assert sound.getnframes() > 0
    sent = ("a.wav", speech.content)
    heard = await client.audio.transcriptions.create(model="demo", file=sent)
    assert heard.text.startswith(GREETING)
    whole = await client.audio.transcriptions.create(model="demo", file=sent, response_format="verbose_json")
    assert whole.segments
    text = await client.audio.transcriptions.create(model="demo", file=sent, response_format="srt")
    assert "-->" in str(text)
    stream = await client.audio.transcriptions.create(model="demo", file=sent, stream=True)
    assert [event.type async for event in stream][-1] == "transcript.text.done"
    with pytest.deprecated_call():
        assert (await client.audio.translations.create(model="demo", file=sent)).text
    spoken = client.audio.speech.with_streaming_response
    async with spoken.create(model="demo", input="Hi", voice="alloy", stream_format="sse") as response:
        assert "speech.audio.done" in await response.text()
