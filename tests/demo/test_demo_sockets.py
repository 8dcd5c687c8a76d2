"""The demo speaks both WebSockets: by the official library."""

from __future__ import annotations

import openai
import pytest

pytest.importorskip("websockets", reason="WEBSOCKETS IS NOT INSTALLED: the library's sockets were not tested")


async def test_responses_follow_each_other_on_their_lane(client: openai.AsyncOpenAI) -> None:
    async with client.responses.connect() as connection:
        await connection.response.create(model="demo", input="Hi", generate=False, stream_id="a")
        prepared = [await connection.recv() for _ in range(2)]
        assert prepared[0].type == "response.created"
        while prepared[-1].type != "response.completed":
            prepared.append(await connection.recv())
        assert prepared[-1].response.output == []
        before = prepared[-1].response.id
        await connection.response.create(
            model="demo", input="And?", store=False, previous_response_id=before, stream_id="a"
        )
        async for event in connection:
            assert event.stream_id == "a"  # type: ignore[union-attr]
            if event.type == "response.completed":
                assert event.response.output_text
                break
        await connection.response.create(model="demo", input="x", previous_response_id="resp_nobody")
        error = await connection.recv()
        assert error.type == "error"
        assert error.error.code in ("previous_response_not_found", "object_not_found")  # type: ignore[union-attr]


async def test_a_realtime_session_answers_in_text(client: openai.AsyncOpenAI) -> None:
    async with client.realtime.connect(model="demo") as connection:
        assert (await connection.recv()).type == "session.created"
        await connection.input_audio_buffer.commit()
        assert (await connection.recv()).type == "input_audio_buffer.committed"
        assert (await connection.recv()).usage.total_tokens == 7  # type: ignore[union-attr]
        await connection.response.create()
        async for event in connection:
            if event.type == "response.done":
                assert event.response.usage is not None
                assert event.response.usage.total_tokens
                break
