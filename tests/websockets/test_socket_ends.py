"""How sockets end: clients that leave or do not read, frames too large, lost keys, a drain; what is refused."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from agree.agree_kit import rewrite
from kit import DEADLINE_SECONDS, KEYS, Wire, events, raw, request_bytes
from kit.answers import STREAM_HEAD, chunk, event
from kit.sockets import Peer, SocketUpstream, answering, completed, created
from websocket_kit import Client, Stand, said, streamed

PROMISED_SECONDS, SCHEDULING_SECONDS = 0.100, 0.050
HANDSHAKE = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
BOTH = pytest.mark.parametrize("name", ["ws", "plain"])


async def stay(peer: Peer) -> None:
    """A response that has begun and goes no further until the gateway leaves."""
    await peer.next()
    await peer.socket.send_str(json.dumps(created(1)))
    await peer.next()


def masked(text: str) -> bytes:
    """A client's frame, by a mask of zeros."""
    content = text.encode()
    size = bytes([0x80 | len(content)]) if len(content) < 126 else bytes([0xFE, *divmod(len(content), 256)])
    return b"\x81" + size + b"\0\0\0\0" + content


@pytest.mark.parametrize("way", ["FIN", "RST", "half-close"])
@BOTH
async def test_a_client_that_leaves_takes_its_upstream_with_it(stand: Stand, way: str, name: str) -> None:
    """P3: within 100 ms; what was seen is booked."""
    stand.upstream.script = stay
    stand.plain.replies(
        events(streamed(said("x"))[0], event({"type": "response.output_text.delta", "delta": "Hello"}), asyncio.Event())
    )
    async with Wire.open(stand.gateway.port) as wire:
        await wire.send(request_bytes("GET", "/v1/responses", key=KEYS["user"], headers=HANDSHAKE))
        assert (await wire.any_head()).status == 101
        await wire.send(masked(json.dumps({"type": "response.create", "model": name, "input": "Hi"})))
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert b"response.created" in await wire.reader.readuntil(b"response.created")
        left = asyncio.get_running_loop().time()
        if way == "FIN":
            wire.writer.close()
        elif way == "RST":
            wire.reset()
        else:
            wire.half_close()
        closed = await (stand.upstream.peers[0] if name == "ws" else stand.plain.requests[0]).until_closed()
        assert closed - left <= PROMISED_SECONDS + SCHEDULING_SECONDS
    (row,) = await stand.rows(1)
    assert (row["outcome"], row["status"]) == ("cancelled", 499)
    assert row["prompt_tokens"] > 0


async def test_a_client_that_leaves_while_the_upstream_is_being_reached(stand: Stand) -> None:
    async def wait(peer: Peer) -> None:
        await peer.next()
        await peer.next()

    stand.upstream.script = wait
    async with stand.client() as client:
        await client.create()
        peer = await stand.upstream.peer()
        await peer.event()
    await peer.until_closed()
    (row,) = await stand.rows(1)
    assert (row["outcome"], row["status"]) == ("cancelled", 499)


async def test_a_clients_goodbye_is_answered_and_the_upstream_told(stand: Stand) -> None:
    async with stand.client() as client:
        await client.create()
        await client.end()
        await client.socket.close(code=1000)
        assert client.socket.close_code == 1000
        peer = stand.upstream.peers[0]
        await peer.until_closed()
        assert peer.socket.close_code == 1000


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1])
async def test_frames_may_have_max_body_mb(tmp_path: Path, size: int) -> None:
    async with Stand.open(tmp_path, server={"max_body_mb": 1}) as stand, stand.client() as client:
        text = json.dumps({"type": "response.create", "model": "ws", "input": ""})
        await client.socket.send_str(text.replace('""', '"' + "x" * (size - len(text)) + '"'))
        if size <= 1 << 20:
            assert (await client.end())[-1]["type"] == "response.completed"
        else:
            assert await client.closed() == 1009


async def test_messages_that_never_end_are_held_within_memory_mb(tmp_path: Path) -> None:
    """P12: a client that finds no room is cut, the others go on."""
    async with Stand.open(tmp_path, server={"memory_mb": 48}) as stand, AsyncExitStack() as stack:
        wires = []
        for _ in range(4):
            wire = await stack.enter_async_context(Wire.open(stand.gateway.port))
            await wire.send(request_bytes("GET", "/v1/responses", key=KEYS["user"], headers=HANDSHAKE))
            assert (await wire.any_head()).status == 101
            wires.append(wire)
        cut = 0
        for wire in wires:
            head = b"\x81\xff" + (30 << 20).to_bytes(8) + b"\0\0\0\0"
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await wire.send(head + b"x" * (20 << 20))
                    wire.writer.write(b"x")
                    await wire.writer.drain()
            except ConnectionError:
                cut += 1
        assert cut >= 1
        wires[0].writer.close()
        async with stand.client() as client:
            await client.create()
            assert (await client.end())[-1]["type"] == "response.completed"


async def test_an_upstreams_frame_that_is_too_large_ends_the_socket(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.socket.send_str(json.dumps(created(1)))
        await peer.socket.send_str("x" * ((1 << 20) + 1))
        await peer.next()

    async with Stand.open(tmp_path, server={"max_body_mb": 1}) as stand, stand.client() as client:
        stand.upstream.script = script
        await client.create()
        assert (await client.end())[-1]["error"]["code"] == "stream_incomplete"
        assert await client.closed() == 1009


async def test_there_is_no_compression(stand: Stand) -> None:
    async with stand.client(compress=15) as client:
        assert client.socket.compress == 0


async def test_pings_are_answered(stand: Stand) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"authorization": f"Bearer {KEYS['user']}"}
        async with session.ws_connect(f"{stand.url}/v1/responses", headers=headers, autoping=False) as socket:
            await socket.ping(b"there?")
            async with asyncio.timeout(DEADLINE_SECONDS):
                message = await socket.receive()
            assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_pings_go_out_both_ways(tmp_path: Path) -> None:
    async with (
        Stand.open(tmp_path, server={"stream_heartbeat_seconds": 0.3}) as stand,
        aiohttp.ClientSession() as session,
    ):
        pinged = asyncio.Event()

        async def script(peer: Peer) -> None:
            await answering()(peer)

        stand.upstream.script = script
        headers = {"authorization": f"Bearer {KEYS['user']}"}
        async with session.ws_connect(f"{stand.url}/v1/responses", headers=headers, autoping=False) as socket:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while (await socket.receive()).type is not aiohttp.WSMsgType.PING:
                    pass
            pinged.set()
        assert pinged.is_set()


async def endless(peer: Peer) -> None:
    await peer.next()
    await peer.socket.send_str(json.dumps(created(1)))
    text = json.dumps({"type": "response.output_text.delta", "delta": "x" * 60_000})
    peer.received.clear()
    while True:
        await peer.socket.send_str(text)
        peer.texts.append("")


async def paused_at(sent: Callable[[], int]) -> int:
    """How much an upstream had sent when nothing more was taken for three tenths of a second."""
    before = -1
    while sent() != before:  # that nothing comes is seen by looking again
        before = sent()
        await asyncio.sleep(0.3)
    return before


@BOTH
async def test_a_client_that_stops_reading_makes_the_upstream_wait_and_is_cut(tmp_path: Path, name: str) -> None:
    """P9: bounded memory, the upstream is paused, and `write` ends it."""
    async with Stand.open(tmp_path, server={"timeouts": {"write": 3}}) as stand:
        stand.upstream.script = endless
        piece = chunk(event({"type": "response.output_text.delta", "delta": "x" * 60_000}))

        async def flood(request: object) -> None:
            await raw(STREAM_HEAD, chunk(streamed(said("x"))[0]), *[piece] * 4000)(request)  # type: ignore[arg-type]

        stand.plain.always(flood)
        async with Wire.open(stand.gateway.port, receive_buffer=1 << 16) as wire:
            await wire.send(request_bytes("GET", "/v1/responses", key=KEYS["user"], headers=HANDSHAKE))
            assert (await wire.any_head()).status == 101
            await wire.send(masked(json.dumps({"type": "response.create", "model": name, "input": "Hi"})))
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            if name == "ws":
                peer = await stand.upstream.peer()
                assert await paused_at(lambda: len(peer.texts) * 60_000) < 32 << 20
                await peer.until_closed()
            else:
                request = await stand.plain.request()
                assert await paused_at(lambda: request.sent_bytes) < 32 << 20
                await request.until_closed()
        (row,) = await stand.rows(1)
        assert row["outcome"] == "cancelled"


@BOTH
async def test_a_key_that_is_taken_away_closes_its_sockets(tmp_path: Path, name: str) -> None:
    """P5, by the file: within a second, idle or with a response that runs."""
    async with Stand.open(tmp_path) as stand, stand.client() as idle, stand.client() as busy:
        stand.upstream.script = stay
        stand.plain.always(
            events(
                streamed(said("x"))[0], event({"type": "response.output_text.delta", "delta": "Hello"}), asyncio.Event()
            )
        )
        await busy.create(name)
        await busy.until("response.created")
        settings = json.loads((tmp_path / "gateway.yaml").read_text())
        settings["keys"] = [key for key in settings["keys"] if key["id"] != "user"]
        rewrite(tmp_path, settings)
        assert await idle.closed() == 1008
        assert await busy.closed() == 1008
        (row,) = await stand.rows(1)
        assert row["outcome"] == "cancelled"


@pytest.mark.parametrize("key", [None, "sk-nobody-0123456789abcdefghij", KEYS["reader"]])
async def test_a_key_is_looked_at_before_the_handshake_is_answered(stand: Stand, key: str | None) -> None:
    for path in ("/v1/responses", "/v1/realtime?model=ws"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            async with stand.client(path, key=key):
                pass
        assert refusal.value.status == (403 if key == KEYS["reader"] else 401)
    assert stand.upstream.handshakes == []


async def drained(stand: Stand, client: Client) -> None:
    stand.gateway.signal(signal.SIGTERM)
    await stand.gateway.log(lambda line: line.get("event") == "draining")


@BOTH
async def test_a_drain_closes_idle_sockets_and_waits_for_running_responses(tmp_path: Path, name: str) -> None:
    """P8."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.socket.send_str(json.dumps(created(1)))
        await go.wait()
        await peer.socket.send_str(json.dumps(completed(1)))
        await peer.next()

    async with (
        Stand.open(tmp_path, may_end=True, server={"drain_seconds": 20}) as stand,
        stand.client() as idle,
        stand.client() as busy,
    ):
        stand.upstream.script = script
        told = streamed(said("x"))
        stand.plain.always(events(*told[:2], go, told[2]))
        await busy.create(name)
        await busy.event()
        await drained(stand, busy)
        assert await idle.closed() == 1012
        await busy.create(name, stream_id="late")
        late = (await busy.until("error"))[-1]
        assert (late["status"], late["error"]["code"], late["stream_id"]) == (503, "shutting_down", "late")
        go.set()
        assert (await busy.end())[-1]["type"] == "response.completed"
        assert await busy.closed() == 1001
        assert await stand.gateway.wait() == 0
        (row,) = await stand.rows(1)
        assert row["outcome"] == "ok"


@BOTH
async def test_what_still_runs_at_the_drains_end_is_incomplete(tmp_path: Path, name: str) -> None:
    async with Stand.open(tmp_path, may_end=True, server={"drain_seconds": 0.5}) as stand, stand.client() as busy:
        stand.upstream.script = stay
        stand.plain.always(events(*streamed(said("x"))[:2], asyncio.Event()))
        await busy.create(name, stream_id="a")
        await busy.event()
        await drained(stand, busy)
        last = (await busy.end())[-1]
        assert (last["error"]["code"], last.get("stream_id")) == ("stream_incomplete", "a")
        assert await busy.closed() == 1001
        assert await stand.gateway.wait() == 0
        (row,) = await stand.rows(1)
        assert row["outcome"] == "interrupted"


async def test_binary_messages_are_no_responses_events(stand: Stand) -> None:
    async with stand.client() as client:
        await client.socket.send_bytes(b"{}")
        assert await client.closed() == 1003


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """It would lead the endpoint's credential away."""
    async with SocketUpstream.start() as elsewhere, Stand.open(tmp_path) as stand:
        stand.upstream.redirects = f"{elsewhere.url}/responses"
        async with stand.client() as client:
            await client.create()
            assert (await client.refusal())["error"]["code"] == "upstream_error"
        assert elsewhere.handshakes == []
