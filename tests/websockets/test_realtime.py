"""/v1/realtime: frame by frame, each response a request, each transcription a row."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kit import KEYS, GatewayProcess, config
from kit.books import stored, until
from kit.sockets import Json, Peer, SocketUpstream
from kit.stage import model
from kit.upstream import refusing_port
from websocket_kit import SECRET, Client, Stand

PATH = "/v1/realtime?model=ws"
USAGE: Json = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {"cached_tokens": 5, "text_tokens": 8, "audio_tokens": 12},
    "output_token_details": {"text_tokens": 4, "audio_tokens": 6},
}


def event(kind: str, number: int, **fields: Any) -> str:
    return json.dumps({"type": kind, "event_id": f"event_{number}", "response": {"id": f"resp_{number}"} | fields})


async def echo(peer: Peer) -> None:
    """Says that the session is there, and repeats each event's type; a `response.create` gets a response."""
    await peer.say("session.created", session={"model": "provider/ws"})
    number = 0
    while True:
        asked = await peer.next()
        if asked["type"] != "response.create":
            await peer.say("echo", of=asked["type"])
            continue
        number += 1
        await peer.socket.send_str(event("response.created", number))
        await peer.say("response.output_text.delta", response_id=f"resp_{number}", delta="Hello")
        await peer.socket.send_str(event("response.done", number, status="completed", usage=USAGE))


async def test_frames_go_through_and_each_response_is_booked(stand: Stand) -> None:
    stand.upstream.script = echo
    async with stand.client(PATH) as client:
        assert (await client.event())["type"] == "session.created"
        text = '{ "type":"input_audio_buffer.append", "audio":"AAAA", "x":1.10 }'
        await client.socket.send_str(text)
        assert (await client.event())["of"] == "input_audio_buffer.append"
        assert stand.upstream.peers[0].texts == [text]
        for _ in range(2):
            await client.say(type="response.create")
            kinds = [each["type"] for each in await client.until("response.done")]
            assert kinds == ["response.created", "response.output_text.delta", "response.done"]
    for row in await stand.rows(2):
        assert (row["route"], row["outcome"], row["status"], row["model"]) == ("realtime", "ok", 200, "id-ws")
        assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (20, 10, 30)
        assert (row["cached_tokens"], row["usage_source"]) == (5, "reported")


async def test_the_handshake_names_the_providers_model(stand: Stand) -> None:
    stand.upstream.script = echo
    async with stand.client(f"{PATH}&intent=x", headers={"openai-beta": "realtime=v1"}) as client:
        await client.event()
    handshake = stand.upstream.handshakes[0]
    assert (handshake.path, dict(handshake.query)) == ("/v1/realtime", {"intent": "x", "model": "provider/ws"})
    assert handshake.headers["authorization"] == f"Bearer {SECRET}-ws"
    assert handshake.headers["openai-beta"] == "realtime=v1"
    assert KEYS["user"] not in str(handshake.headers)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?model=granted", 403, "model_not_accessible"),
        ("?model=nobody-knows", 404, "model_not_found"),
        ("?model=plain", 404, "model_not_found"),
        ("?model=ws&call_id=rtc_1", 400, "field_not_allowed"),
        ("", 400, "model_required"),
    ],
)
async def test_what_cannot_be_served_is_refused_as_http(stand: Stand, query: str, status: int, code: str) -> None:
    headers = {"upgrade": "websocket", "connection": "upgrade", "authorization": f"Bearer {KEYS['user']}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stand.url}/v1/realtime{query}", headers=headers) as reply,
    ):
        assert reply.status == status
        assert (await reply.json())["error"]["code"] == code
    assert stand.upstream.handshakes == []


async def test_without_a_name_the_first_model_for_realtime_answers(tmp_path: Path) -> None:
    """One for anything at all is none of them."""
    async with (
        SocketUpstream.start() as upstream,
        GatewayProcess.start(
            config(
                [
                    model("any", [upstream.endpoint()]),
                    model("talks", [upstream.endpoint()], operations=["chat", "realtime"]),
                ]
            ),
            tmp_path,
        ) as gateway,
    ):
        upstream.script = echo
        headers = {"authorization": f"Bearer {KEYS['user']}"}
        url = f"http://127.0.0.1:{gateway.port}/v1/realtime?intent=transcription"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers) as socket:
            assert json.loads(await socket.receive_str())["type"] == "session.created"
        assert dict(upstream.handshakes[0].query) == {"intent": "transcription", "model": "provider/talks"}


async def test_a_fallback_answers_for_the_model_of_the_query(tmp_path: Path) -> None:
    """Named again within the session, it is still the fallback's; the row has the model that answered."""
    with refusing_port() as port:
        async with SocketUpstream.start() as upstream:
            away = upstream.endpoint(id="away", url=f"http://127.0.0.1:{port}/v1")
            models = [
                model("own", [away], fallbacks=["backup"]),
                model("backup", [upstream.endpoint()], **{"global": False}),
            ]
            async with GatewayProcess.start(config(models), tmp_path) as gateway:
                upstream.script = echo
                headers = {"authorization": f"Bearer {KEYS['user']}"}
                url = f"http://127.0.0.1:{gateway.port}/v1/realtime?model=own"
                async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers) as socket:
                    client = Client(socket)
                    assert (await client.event())["type"] == "session.created"
                    await client.say(type="session.update", session={"model": "own"})
                    assert (await client.event())["of"] == "session.update"
                    await client.say(type="response.create")
                    await client.until("response.done")
                await until(partial(has_rows, tmp_path, 1))
        assert dict(upstream.handshakes[0].query) == {"model": "provider/backup"}
        assert upstream.peers[0].received[0]["session"] == {"model": "provider/backup"}
        [row] = stored(tmp_path)
        assert (row["model"], row["outcome"], row["total_tokens"]) == ("id-backup", "ok", 30)


async def has_rows(directory: Path, count: int) -> bool:
    return len(stored(directory)) >= count


async def test_an_upstream_that_cannot_be_reached_is_an_http_error(stand: Stand) -> None:
    stand.upstream.refuses = 503
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        async with stand.client(PATH):
            pass
    assert refusal.value.status == 502


@pytest.mark.parametrize(
    ("session", "sent"),
    [
        ({"model": "same"}, {"model": "provider/same"}),
        ({"model": "ws", "voice": "x"}, {"model": "provider/ws", "voice": "x"}),
        (
            {"audio": {"input": {"transcription": {"model": "same", "language": "en"}}}},
            {"audio": {"input": {"transcription": {"model": "provider/same", "language": "en"}}}},
        ),
        ({"input_audio_transcription": {"model": "same"}}, {"input_audio_transcription": {"model": "provider/same"}}),
    ],
)
async def test_models_that_a_session_names_are_replaced(stand: Stand, session: Json, sent: Json) -> None:
    stand.upstream.script = echo
    async with stand.client(PATH) as client:
        await client.event()
        await client.say(type="session.update", session=session)
        assert (await client.event())["of"] == "session.update"
    assert stand.upstream.peers[0].received == [{"type": "session.update", "session": sent}]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"session": {"model": "granted"}}, "model_not_accessible", "session.model"),
        ({"session": {"model": "apart"}}, "model_not_accessible", "session.model"),
        ({"session": {"model": "nobody-knows"}}, "model_not_accessible", "session.model"),
        ({"session": {"Model": "same"}}, "field_not_allowed", "session.Model"),
        (
            {"session": {"audio": {"input": {"transcription": {"model": "granted"}}}}},
            "model_not_accessible",
            "session.audio.input.transcription.model",
        ),
        ({"type": "response.create", "response": {"model": "granted"}}, "model_not_accessible", "response.model"),
        ({"model": "granted"}, "field_not_allowed", "model"),
    ],
)
@pytest.mark.parametrize("is_text", [True, False], ids=["text", "binary"])
async def test_models_that_may_not_be_used_do_not_go_up(
    stand: Stand, fields: Json, code: str, param: str, is_text: bool
) -> None:
    stand.upstream.script = echo
    async with stand.client(PATH) as client:
        await client.event()
        text = json.dumps({"type": "session.update", "event_id": "mine"} | fields)
        await (client.socket.send_str(text) if is_text else client.socket.send_bytes(text.encode()))
        refusal = await client.refusal()
        assert (refusal["error"]["code"], refusal["error"]["param"]) == (code, param)
        assert refusal["error"]["event_id"] == "mine"
        await client.say(type="ping")
        assert (await client.event())["of"] == "ping", "the session goes on"
    assert [each["type"] for each in stand.upstream.peers[0].received] == ["ping"]


async def test_responses_of_a_session_that_has_changed_its_model_are_the_new_ones(stand: Stand) -> None:
    stand.upstream.script = echo
    async with stand.client(PATH) as client:
        await client.event()
        await client.say(type="session.update", session={"model": "same"})
        await client.event()
        await client.say(type="response.create")
        await client.until("response.done")
    assert [row["model"] for row in await stand.rows(1)] == ["id-same"]


async def test_a_response_that_limits_refuse_is_cancelled(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        for number in (1, 2):
            await peer.socket.send_str(event("response.created", number))
            if number == 2:
                await peer.next()
            await peer.say("response.output_text.delta", response_id=f"resp_{number}", delta="Hello")
            await peer.socket.send_str(event("response.done", number, status="completed", usage=USAGE))
        await peer.say("rate_limits.updated")
        await peer.next()

    stand.upstream.script = script
    async with stand.client("/v1/realtime?model=tight") as client:
        await client.until("response.done")
        kinds = await client.until("rate_limits.updated")
        assert [each["type"] for each in kinds] == ["response.created", "error", "response.done", "rate_limits.updated"]
        assert kinds[1]["error"]["code"] == "rate_limit_exceeded"
    assert stand.upstream.peers[0].received == [{"type": "response.cancel", "response_id": "resp_2"}]
    await stand.rows(1)


@pytest.mark.parametrize("name", ["ws", "tight"])
async def test_each_transcription_is_a_row_whatever_the_limits_say(stand: Stand, name: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.next()
        for number in (1, 2):
            usage = {"type": "tokens", "input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
            kind = "conversation.item.input_audio_transcription.completed"
            await peer.say(kind, item_id=f"item_{number}", transcript="Hi", usage=usage)
        await peer.next()

    stand.upstream.script = script
    async with stand.client(f"/v1/realtime?model={name}") as client:
        if name == "ws":
            session = {"input_audio_transcription": {"model": "same"}}
            await client.say(type="session.update", session=session)
        else:
            await client.say(type="input_audio_buffer.commit")
        for _ in range(2):
            await client.event()
    for row in await stand.rows(2):
        assert (row["model"], row["outcome"]) == ("id-same" if name == "ws" else "id-tight", "ok")
        assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (7, 3, 10)


async def test_a_client_that_leaves_settles_what_ran(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.send_str(event("response.created", 1))
        await peer.say("response.output_text.delta", response_id="resp_1", delta="word " * 100)
        await peer.next()

    stand.upstream.script = script
    async with stand.client(PATH) as client:
        await client.until("response.output_text.delta")
        left = asyncio.get_running_loop().time()
        await client.socket.close()
    assert await stand.upstream.peers[0].until_closed() - left < 0.15
    (row,) = await stand.rows(1)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("cancelled", 499, "estimated")
    assert row["completion_tokens"] > 50


async def test_a_lost_upstream_is_told_of(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.send_str(event("response.created", 1))

    stand.upstream.script = script
    async with stand.client(PATH) as client:
        events = await client.until("error")
        assert events[-1]["error"]["code"] == "stream_incomplete"
        assert await client.closed() == 1000
    assert [row["outcome"] for row in await stand.rows(1)] == ["upstream_error"]


async def test_errors_go_through_with_secrets_masked(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("error", error={"message": f"no {SECRET}-ws"})
        await peer.next()

    stand.upstream.script = script
    async with stand.client(PATH) as client:
        assert (await client.refusal())["error"]["message"] == "no ***"


async def test_azures_path_and_deployment_are_the_same(tmp_path: Path, stand: Stand) -> None:
    stand.upstream.script = echo
    async with stand.client("/openai/realtime?deployment=ws&api-version=1") as client:
        assert (await client.event())["type"] == "session.created"
    assert dict(stand.upstream.handshakes[0].query) == {"model": "provider/ws"}
