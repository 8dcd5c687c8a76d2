"""/v1/responses where the endpoint speaks WebSocket: one socket up, frame by frame, each response a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kit import KEYS, GatewayProcess, config
from kit.books import stored, until
from kit.sockets import Peer, SocketUpstream, answering, completed, created
from kit.stage import model
from kit.upstream import refusing_port
from websocket_kit import SECRET, Client, Stand


async def test_frames_go_through_as_they_are_and_each_response_is_booked(stand: Stand) -> None:
    texts: list[str] = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.next()
            number = len(peer.received)
            # Spelled as no serialiser would: what arrives has to be the very same.
            created_text = '{ "type" : "response.created", "response":{"id":"resp_N","x":1.10} }'.replace(
                "N", str(number)
            )
            for text in (created_text, json.dumps(completed(number))):
                texts.append(text)
                await peer.socket.send_str(text)

    stand.upstream.script = script
    async with stand.client() as client:
        for _ in range(2):
            await client.socket.send_str('{"type":"response.create", "temperature":1.10, "model":"ws","input":"Hi"}')
            got = [(await client.message()).data, (await client.message()).data]
            assert got == texts[-2:]
    peer = stand.upstream.peers[0]
    assert peer.texts == ['{"type":"response.create", "temperature":1.10, "model":"provider/ws","input":"Hi"}'] * 2
    assert len(stand.upstream.peers) == 1, "one client socket has one upstream socket"
    for row in await stand.rows(2):
        assert (row["route"], row["outcome"], row["status"], row["streamed"]) == ("responses", "ok", 200, 1)
        assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (10, 5, "reported")
        assert (row["model"], row["endpoint_id"], row["attempts"]) == ("id-ws", "ws", 1)


async def test_the_handshake_bears_the_endpoints_credential_and_never_the_clients(stand: Stand) -> None:
    headers = {"openai-beta": "responses_websockets=2026-02-06", "cookie": "a=b", "x-client-request-id": "mine"}
    async with stand.client("/v1/responses?include[]=x&model=y", headers=headers) as client:
        await client.create()
        await client.end()
    handshake = stand.upstream.handshakes[0]
    assert handshake.headers["authorization"] == f"Bearer {SECRET}-ws"
    assert handshake.headers["openai-beta"] == "responses_websockets=2026-02-06"
    assert handshake.headers["x-client-request-id"] == "mine"
    assert handshake.headers["via"].startswith("1.1 gw-")
    assert handshake.raw_path == "/v1/responses?include%5B%5D=x"
    assert not {"cookie", "sec-websocket-protocol", "sec-websocket-extensions"} & {n.lower() for n in handshake.headers}
    assert KEYS["user"] not in str(handshake.headers)


async def test_browsers_show_their_key_as_a_subprotocol(stand: Stand) -> None:
    offered = ("realtime", f"openai-insecure-api-key.{KEYS['user']}")
    async with stand.client(key=None, protocols=offered) as client:
        assert client.socket.protocol == "realtime"
        await client.create()
        assert (await client.end())[-1]["type"] == "response.completed"
    assert "sec-websocket-protocol" not in stand.upstream.handshakes[0].headers


async def test_lanes_run_side_by_side(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        lanes = [(await peer.next())["stream_id"], (await peer.next())["stream_id"]]
        for number, lane in enumerate(lanes):
            await peer.socket.send_str(json.dumps(created(number, stream_id=lane)))
        for number, lane in reversed(list(enumerate(lanes))):
            await peer.socket.send_str(json.dumps(completed(number, stream_id=lane)))
        await peer.next()

    stand.upstream.script = script
    async with stand.client() as client:
        await client.create(stream_id="a")
        await client.create(stream_id="b")
        ends = [(await client.end())[-1], (await client.end())[-1]]
        assert [end["stream_id"] for end in ends] == ["b", "a"]
    assert [row["outcome"] for row in await stand.rows(2)] == ["ok", "ok"]


async def test_a_steered_successor_is_a_request_of_its_own(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.socket.send_str(json.dumps(created(1)))
        assert (await peer.next())["type"] == "response.steer"
        incomplete = completed(1, kind="response.incomplete")
        for event in (incomplete, created(2), completed(2)):
            await peer.socket.send_str(json.dumps(event))
        await peer.next()

    stand.upstream.script = script
    async with stand.client() as client:
        await client.create()
        await client.until("response.created")
        await client.say(type="response.steer", previous_response_id="resp_1", input="Rather so")
        await client.until("response.incomplete")
        assert [each["type"] for each in await client.end()] == ["response.created", "response.completed"]
    assert [row["total_tokens"] for row in await stand.rows(2)] == [15, 15]


async def test_another_model_of_the_same_account_is_served_and_others_are_apart(stand: Stand) -> None:
    async with stand.client() as client:
        await client.create()
        await client.end()
        await client.create("same")
        await client.end()
        await client.create("apart", stream_id="lane")
        refusal = await client.refusal()
        assert (refusal["status"], refusal["error"]["code"]) == (400, "objects_apart")
        assert refusal["stream_id"] == "lane"
        await client.create()
        await client.end()
    assert [event["model"] for event in stand.upstream.peers[0].received] == [
        "provider/ws",
        "provider/same",
        "provider/ws",
    ]
    assert [row["model"] for row in await stand.rows(3)] == ["id-ws", "id-same", "id-ws"]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "granted"}, 403, "model_not_accessible"),
        ({"models": ["x"]}, 400, "field_not_allowed"),
        ({"Model": "x"}, 400, "field_not_allowed"),
        ({"stream_id": 7}, 400, "invalid_request"),
    ],
)
async def test_what_http_refuses_is_an_error_event(
    stand: Stand, fields: dict[str, Any], status: int, code: str
) -> None:
    async with stand.client() as client:
        await client.create(**fields)
        refusal = await client.refusal()
        assert (refusal["status"], refusal["error"]["code"]) == (status, code)
        await client.create()
        assert (await client.end())[-1]["type"] == "response.completed", "the socket goes on"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"type":"response.create","type":"x"}'])
async def test_what_is_no_object_is_an_error_event(stand: Stand, text: str) -> None:
    async with stand.client() as client:
        await client.socket.send_str(text)
        assert (await client.refusal())["error"]["code"] == "invalid_json"


async def test_limits_count_each_response(stand: Stand) -> None:
    async with stand.client() as client:
        await client.create("tight")
        await client.end()
        await client.create("tight", stream_id="s")
        refusal = await client.refusal()
        assert (refusal["status"], refusal["error"]["code"]) == (429, "rate_limit_exceeded")
        assert refusal["stream_id"] == "s"
        assert 1 <= int(refusal["headers"]["retry-after"]) <= 60
    await stand.rows(1)


async def test_an_endpoint_that_refuses_the_handshake_gives_way_to_the_next(stand: Stand) -> None:
    stand.upstream.refuses = 503
    async with stand.client() as client:
        await client.create("pair")
        refusal = await client.refusal()
        assert (refusal["status"], refusal["error"]["code"]) == (502, "upstream_error")
        assert len(stand.upstream.handshakes) == 2
        assert SECRET not in json.dumps(refusal)
        stand.upstream.refuses = None
        await client.create("pair")
        assert (await client.end())[-1]["type"] == "response.completed"
    failed, good = await stand.rows(2)
    assert (failed["outcome"], failed["attempts"], failed["status"]) == ("upstream_error", 2, 502)
    assert good["outcome"] == "ok"


@pytest.mark.parametrize("first", ["error", "nothing"])
async def test_a_first_event_that_fails_is_tried_elsewhere(stand: Stand, first: str) -> None:
    async def script(peer: Peer) -> None:
        if len(stand.upstream.peers) == 1:
            await peer.next()
            if first == "error":
                await peer.say(
                    "error", status=429, error={"message": "slow", "type": "x"}, headers={"retry-after": "9"}
                )
                await peer.next()
            return
        await answering()(peer)

    stand.upstream.script = script
    async with stand.client() as client:
        await client.create("pair")
        assert (await client.end())[-1]["type"] == "response.completed"
    (row,) = await stand.rows(1)
    assert (row["endpoint_id"], row["attempts"], row["outcome"]) == ("b", 2, "ok")


async def test_after_the_first_event_there_is_no_second_endpoint(stand: Stand) -> None:
    """P4: what broke off is told, once, and the socket ends."""

    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.socket.send_str(json.dumps(created(1)))

    stand.upstream.script = script
    async with stand.client() as client:
        await client.create("pair", stream_id="a")
        events = await client.end()
        assert [each["type"] for each in events] == ["response.created", "error"]
        assert (events[-1]["error"]["code"], events[-1]["sequence_number"]) == ("stream_incomplete", 1)
        assert events[-1]["stream_id"] == "a"
        await client.closed()
    assert len(stand.upstream.peers) == 1
    (row,) = await stand.rows(1)
    assert (row["outcome"], row["attempts"]) == ("upstream_error", 1)


async def test_an_upstreams_error_goes_through_with_its_secrets_masked(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.say("error", status=400, error={"message": f"no {SECRET}-ws", "type": "invalid_request_error"})
        await answering()(peer)

    stand.upstream.script = script
    async with stand.client() as client:
        await client.create()
        refusal = await client.refusal()
        assert (refusal["status"], refusal["error"]["message"]) == (400, "no ***")
        await client.create()
        await client.end()
    refused, good = await stand.rows(2)
    assert (refused["outcome"], refused["status"], refused["total_tokens"]) == ("upstream_error", 400, 0)
    assert good["outcome"] == "ok"


async def test_an_upstream_that_falls_silent_is_told_of(stand: Stand) -> None:
    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.socket.send_str(json.dumps(created(1)))
        await peer.next()

    stand.upstream.script = script
    async with stand.client() as client:
        await client.create("hasty")
        assert (await client.end())[-1]["error"]["code"] == "upstream_timeout"
        assert await client.closed() == 1011
    (row,) = await stand.rows(1)
    assert row["outcome"] == "upstream_error"


async def test_without_a_report_the_text_is_counted(stand: Stand) -> None:
    text = "word " * 400

    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.socket.send_str(json.dumps(created(1)))
        for place in range(0, len(text), 100):
            await peer.say("response.output_text.delta", delta=text[place : place + 100])
        end = completed(1)
        end["response"] |= {"usage": None}
        await peer.socket.send_str(json.dumps(end))
        await peer.next()

    stand.upstream.script = script
    async with stand.client() as client:
        await client.create()
        await client.end()
    (row,) = await stand.rows(1)
    assert row["usage_source"] == "estimated"
    assert abs(row["completion_tokens"] - len(text) / 4) < len(text) / 4 * 0.3


async def test_a_fallback_answers_where_no_endpoint_of_its_own_can_be_reached(tmp_path: Path) -> None:
    """And the socket goes on with it, whichever of the two is named."""
    with refusing_port() as port:
        async with SocketUpstream.start() as upstream:
            away = upstream.endpoint(id="away", url=f"http://127.0.0.1:{port}/v1")
            models = [
                model("own", [away], fallbacks=["plain", "backup"]),
                model("plain", [upstream.endpoint(websocket=False)]),
                model("backup", [upstream.endpoint()]),
            ]
            async with GatewayProcess.start(config(models), tmp_path) as gateway:
                headers = {"authorization": f"Bearer {KEYS['user']}"}
                url = f"http://127.0.0.1:{gateway.port}/v1/responses"
                async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers) as socket:
                    client = Client(socket)
                    for name in ("own", "own", "backup"):
                        await client.create(name)
                        assert (await client.end())[-1]["type"] == "response.completed"

                async def all_there() -> bool:
                    return len(stored(tmp_path)) == 3

                await until(all_there)
        assert [each["model"] for each in upstream.peers[0].received] == ["provider/backup"] * 3
        rows = sorted(stored(tmp_path), key=lambda row: str(row["request_id"]))
        assert [(row["model"], row["outcome"], row["attempts"]) for row in rows] == [
            ("id-backup", "ok", 2),
            ("id-backup", "ok", 1),
            ("id-backup", "ok", 1),
        ]
