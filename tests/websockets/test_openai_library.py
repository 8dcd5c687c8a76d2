"""The official library's own sockets, which need nothing but `base_url` and a key."""

from __future__ import annotations

import json

import openai
import pytest
from kit import KEYS, events
from kit.sockets import USAGE, Peer
from websocket_kit import Stand, said, streamed

pytest.importorskip("websockets", reason="WEBSOCKETS IS NOT INSTALLED: the library's sockets were not tested")


def library(stand: Stand, prefix: str = "/v1") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=stand.url + prefix, api_key=KEYS["user"])


@pytest.mark.parametrize("prefix", ["/v1", "/api/ai/openai/v1"])
@pytest.mark.parametrize("model", ["ws", "plain"])
async def test_responses_connect(stand: Stand, model: str, prefix: str) -> None:
    stand.plain.always(events(*streamed(said("Hello"))))
    async with library(stand, prefix).responses.connect() as connection:
        for number in (1, 2):
            await connection.response.create(model=model, input="Hi", stream_id=f"lane-{number}")
            async for event in connection:
                assert event.stream_id == f"lane-{number}"  # type: ignore[union-attr]
                if event.type == "response.completed":
                    assert event.response.usage is not None
                    assert event.response.usage.total_tokens == 15
                    break
    assert len(await stand.rows(2)) == 2


@pytest.mark.parametrize("model", ["ws", "plain"])
async def test_errors_are_the_librarys_own(stand: Stand, model: str) -> None:
    async with library(stand).responses.connect() as connection:
        await connection.response.create(model="granted", input="Hi", stream_id="a")
        error = await connection.recv()
        assert (error.type, error.status, error.stream_id) == ("error", 403, "a")  # type: ignore[union-attr]
        assert error.error.code == "model_not_accessible"  # type: ignore[union-attr]
        await connection.response.steer(input="x", previous_response_id="resp_1")
        assert (await connection.recv()).type == "response.steer.failed"


async def test_realtime_connect(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("session.created", event_id="e", session={"type": "realtime"})
        await peer.next()
        await peer.say("session.updated", event_id="e", session={"type": "realtime"})
        await peer.next()
        await peer.say("response.created", event_id="e", response={"id": "resp_1"})
        done = {"id": "resp_1", "status": "completed", "usage": USAGE}
        await peer.socket.send_str(json.dumps({"type": "response.done", "event_id": "e", "response": done}))
        await peer.next()

    stand.upstream.script = script
    async with library(stand).realtime.connect(model="ws") as connection:
        assert (await connection.recv()).type == "session.created"
        await connection.session.update(session={"type": "realtime", "model": "same"})
        assert (await connection.recv()).type == "session.updated"
        await connection.response.create()
        assert [(await connection.recv()).type for _ in range(2)] == ["response.created", "response.done"]
    peer = stand.upstream.peers[0]
    assert peer.received[0]["session"] == {"type": "realtime", "model": "provider/same"}
    assert [row["total_tokens"] for row in await stand.rows(1)] == [15]
