"""The demo's upstream answers Messages as the official library's types have it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio

MESSAGES: Any = [{"role": "user", "content": "Hello there"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS: Any = [{"name": "weather", "input_schema": SCHEMA}]
GREETING = "Hello! This is the demo upstream"


@pytest_asyncio.fixture
async def asker(steady: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=steady.removesuffix("/v1"), api_key="none", max_retries=0, _strict_response_validation=True
    ) as asker:
        yield asker


async def test_whole_and_streamed(asker: anthropic.AsyncAnthropic) -> None:
    whole = await asker.messages.create(model="demo", max_tokens=100, messages=MESSAGES, system="Be kind")
    assert whole.content[0].type == "text"
    assert whole.content[0].text.startswith(GREETING)
    assert (whole.stop_reason, whole.usage.input_tokens) == ("end_turn", 4)
    async with asker.messages.stream(model="demo", max_tokens=3, messages=MESSAGES) as stream:
        final = await stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 3)
    assert (await asker.messages.count_tokens(model="demo", messages=MESSAGES)).input_tokens == 2


async def test_tools(asker: anthropic.AsyncAnthropic) -> None:
    async with asker.messages.stream(model="demo", max_tokens=99, messages=MESSAGES, tools=TOOLS) as stream:
        final = await stream.get_final_message()
    call = final.content[0]
    assert call.type == "tool_use"
    assert (call.name, call.input, final.stop_reason) == ("weather", {"city": "demo", "days": 1}, "tool_use")
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}]}
    said: Any = [*MESSAGES, {"role": "assistant", "content": [call.to_dict()]}, result]
    told = await asker.messages.create(model="demo", max_tokens=99, messages=said, tools=TOOLS)
    assert told.stop_reason == "end_turn"


async def test_errors(asker: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        await asker.messages.create(model="", max_tokens=1, messages=MESSAGES)
    assert raised.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
