"""OpenAI's library for agents, unchanged: tools, handoffs, streams and chains, by both of its models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from kit.gateway import KEYS, GatewayProcess, config

from gateway.demo.running import OPERATIONS

pytest.importorskip("agents.run", reason="OPENAI-AGENTS IS NOT INSTALLED and was not tested against the gateway")

from agents import (
    Agent,
    HandoffOutputItem,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    SQLiteSession,
    ToolCallOutputItem,
    function_tool,
)

UNTRACED = RunConfig(tracing_disabled=True)  # traces go to the provider, not to `base_url`


@pytest_asyncio.fixture
async def through(steady: str, tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client of a gateway whose model has two accounts."""
    accounts = [{"id": name, "url": steady, "api_key": f"sk-of-{name}-0123456789"} for name in ("one", "two")]
    record = {"id": 1, "name": "demo", "global": True, "operations": list(OPERATIONS), "endpoints": accounts}
    async with (
        GatewayProcess.start(config([record]), tmp_path) as gateway,
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=KEYS["user"], max_retries=0
        ) as client,
    ):
        yield client


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIChatCompletionsModel])
def model(request: pytest.FixtureRequest, through: openai.AsyncOpenAI) -> Model:
    made: Model = request.param(model="demo", openai_client=through)
    return made


def weather_agent(model: Model, asked: list[str], **more: Any) -> Agent[Any]:
    @function_tool
    def weather(city: str) -> str:
        """Tells the weather."""
        asked.append(city)
        return f"It rains in {city}."

    return Agent(name="forecaster", instructions="Tell the weather.", model=model, tools=[weather], **more)


async def test_a_tool_turn(model: Model) -> None:
    asked: list[str] = []
    result = await Runner.run(weather_agent(model, asked), "What is the weather?", run_config=UNTRACED)
    assert asked == ["demo"]
    assert [item.output for item in result.new_items if isinstance(item, ToolCallOutputItem)] == ["It rains in demo."]
    assert result.final_output
    assert result.context_wrapper.usage.requests == 2
    assert result.context_wrapper.usage.total_tokens > 0


async def test_a_tool_turn_as_a_stream(model: Model) -> None:
    asked: list[str] = []
    settings = ModelSettings(include_usage=True)
    agent = weather_agent(model, asked, model_settings=settings)
    streamed = Runner.run_streamed(agent, "What is the weather?", run_config=UNTRACED)
    kinds = [event.data.type async for event in streamed.stream_events() if event.type == "raw_response_event"]
    assert asked == ["demo"]
    assert "response.output_text.delta" in kinds
    assert kinds.count("response.completed") == 2
    assert streamed.final_output
    assert streamed.context_wrapper.usage.total_tokens > 0


async def test_a_handoff(model: Model) -> None:
    teller = Agent[Any](name="teller", instructions="Tell it.", model=model)
    first = Agent[Any](name="first", instructions="Hand over.", model=model, handoffs=[teller])
    result = await Runner.run(first, "Please transfer_to_teller", run_config=UNTRACED)
    (handed,) = [item for item in result.new_items if isinstance(item, HandoffOutputItem)]
    assert (handed.source_agent.name, handed.target_agent.name) == ("first", "teller")
    assert result.last_agent.name == "teller"
    assert result.final_output


async def test_a_session_of_its_own(model: Model) -> None:
    """The library keeps what was said, and sends all of it again."""
    session = SQLiteSession("one")
    agent = Agent[Any](name="talker", model=model)
    used = [
        (
            await Runner.run(agent, "Hello again", session=session, run_config=UNTRACED)
        ).context_wrapper.usage.input_tokens
        for _ in range(3)
    ]
    assert used[0] < used[1] < used[2]
    session.close()


async def test_a_chain_that_the_upstream_keeps(through: openai.AsyncOpenAI) -> None:
    """By the last response's id, over two accounts: also after a turn with a tool."""
    asked: list[str] = []
    model = OpenAIResponsesModel(model="demo", openai_client=through)
    previous: str | None = None
    used = []
    for _ in range(4):
        agent = weather_agent(model, asked)
        result = await Runner.run(agent, "Weather?", previous_response_id=previous, run_config=UNTRACED)
        previous = result.last_response_id
        used.append(result.raw_responses[-1].usage.input_tokens)
    assert asked == ["demo"] * 4
    assert used == sorted(set(used))
