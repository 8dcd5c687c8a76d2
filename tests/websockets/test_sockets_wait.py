"""Contract §16: a relayed socket waits for an endpoint, when it opens and with each response."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from kit import KEYS, Wire, request_bytes
from kit.books import until
from kit.sockets import Json, Peer, completed, created
from websocket_kit import Client, Stand

MOST = 6
REALTIME, NARROW = "/v1/realtime?model=narrow", "narrow"
HANDSHAKE = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


@pytest.fixture
async def queued(tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand.open(tmp_path, queue={"max": MOST, "wait": 20}) as one:
        one.upstream.script = held
        yield one


async def held(peer: Peer) -> None:
    """Each response begins at once and a long one ends with an event of the client's."""
    number = 0
    while True:
        asked = await peer.next()
        if asked["type"] != "response.create":
            await peer.say("echo", of=asked["type"])
            continue
        number += 1
        lane = {"stream_id": asked["stream_id"]} if "stream_id" in asked else {}
        await peer.socket.send_str(json.dumps(created(number, **lane)))
        if asked["input"] == "long":
            assert (await peer.next())["type"] == "end"
        await peer.socket.send_str(json.dumps(completed(number, **lane)))


async def waiting(stand: Stand, count: int) -> None:
    """Until so many wait, as `/readyz` tells operators."""
    headers = {"authorization": f"Bearer {KEYS['reader']}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def is_so() -> bool:
            async with session.get(f"{stand.url}/readyz") as reply:
                return bool((await reply.json())["detail"]["queue"] == {"waiting": count, "max": MOST})

        await until(is_so)


async def begin_long(client: Client) -> None:
    await client.create(NARROW, input="long")
    assert (await client.event())["type"] == "response.created"


async def end_long(client: Client) -> None:
    await client.say(type="end")
    assert (await client.end())[-1]["type"] == "response.completed"


# -- realtime


async def echoing(peer: Peer) -> None:
    await peer.say("session.created")
    while True:
        await peer.say("echo", of=(await peer.next())["type"])


async def test_a_realtime_session_opens_once_an_endpoint_is_free(queued: Stand) -> None:
    queued.upstream.script = echoing
    async with queued.client(REALTIME) as first:
        await first.event()

        async def second() -> Json:
            async with queued.client(REALTIME) as client:
                return await client.event()

        opening = asyncio.create_task(second())
        await waiting(queued, 1)
        assert len(queued.upstream.handshakes) == 1
        await first.socket.close()
        assert (await opening)["type"] == "session.created"
    await waiting(queued, 0)


async def test_who_leaves_before_a_session_opens_is_out_at_once(queued: Stand) -> None:
    """And its place is another's: the endpoint is not lost with it."""
    queued.upstream.script = echoing
    async with queued.client(REALTIME) as first:
        await first.event()
        async with Wire.open(queued.gateway.port) as wire:
            await wire.send(request_bytes("GET", REALTIME, key=KEYS["user"], headers=HANDSHAKE))
            await waiting(queued, 1)
        await waiting(queued, 0)
        await first.socket.close()
    async with queued.client(REALTIME) as third:
        assert (await third.event())["type"] == "session.created"
    assert len(queued.upstream.handshakes) == 2


async def test_a_session_that_waits_in_vain_is_refused_as_http(tmp_path: Path) -> None:
    async with Stand.open(tmp_path, queue={"max": MOST, "wait": 0.3}) as stand:
        stand.upstream.script = echoing
        async with stand.client(REALTIME) as first, Wire.open(stand.gateway.port) as wire:
            await first.event()
            await wire.send(request_bytes("GET", REALTIME, key=KEYS["user"], headers=HANDSHAKE))
            reply = await wire.reply()
            assert (reply.status, reply.json()["error"]["code"]) == (503, "overloaded")
            assert reply.header("retry-after") == "1"


# -- responses


async def test_a_sockets_first_response_waits(queued: Stand) -> None:
    async with queued.client() as first, queued.client() as second:
        await begin_long(first)
        await second.create(NARROW)
        await waiting(queued, 1)
        assert len(queued.upstream.handshakes) == 1
        await end_long(first)
        assert (await second.end())[-1]["type"] == "response.completed"
    rows = await queued.rows(2)
    assert [(row["outcome"], row["status"]) for row in rows] == [("ok", 200)] * 2


async def test_a_later_response_waits_for_the_endpoint_that_its_socket_leads_to(queued: Stand) -> None:
    """What else the client says meanwhile goes up."""
    async with queued.client() as first, queued.client() as second:
        await second.create(NARROW)
        await second.end()
        await begin_long(first)
        await second.create(NARROW)
        await waiting(queued, 1)
        await second.say(type="response.steer")
        assert (await second.event())["of"] == "response.steer"
        assert len(queued.upstream.peers[0].received) == 2
        await end_long(first)
        assert [event["type"] for event in await second.end()] == ["response.created", "response.completed"]
    assert len(await queued.rows(3)) == 3


async def test_responses_of_one_socket_keep_their_order(queued: Stand) -> None:
    async with queued.client() as first, queued.client() as second:
        await begin_long(first)
        for name in ("a", "b", "c"):
            await second.create(NARROW, stream_id=name)
        await waiting(queued, 1)
        await end_long(first)
        lanes = [(await second.end())[-1]["stream_id"] for _ in range(3)]
        assert lanes == ["a", "b", "c"]
    assert len(queued.upstream.peers) == 2, "one client socket has one upstream socket"
    await queued.rows(4)


@pytest.mark.parametrize("is_bound", [False, True], ids=["first", "later"])
async def test_who_closes_the_socket_while_it_waits_is_out_at_once(queued: Stand, is_bound: bool) -> None:
    """No row tells of it, and what it had reserved is given back."""
    async with queued.client() as first:
        async with queued.client() as second:
            if is_bound:
                await second.create(NARROW)
                await second.end()
            await begin_long(first)
            for _ in range(2):
                await second.create(NARROW)
            await waiting(queued, 1)
            await second.socket.close()
            await waiting(queued, 0)
        await end_long(first)
        await first.create(NARROW)
        await first.end()
    rows = await queued.rows(3 if is_bound else 2)
    assert {row["outcome"] for row in rows} == {"ok"}
    statuses = [line["status"] for line in queued.gateway.logs if line.get("path") == "/v1/responses"]
    assert statuses.count(499) == 2


async def test_a_response_that_waits_in_vain_is_refused_and_the_socket_goes_on(tmp_path: Path) -> None:
    async with Stand.open(tmp_path, queue={"max": MOST, "wait": 0.3}) as stand:
        stand.upstream.script = held
        async with stand.client() as first, stand.client() as second:
            await begin_long(first)
            await second.create(NARROW)
            refusal = await second.refusal()
            assert (refusal["status"], refusal["error"]["code"]) == (503, "overloaded")
            await end_long(first)
            await second.create(NARROW)
            assert (await second.end())[-1]["type"] == "response.completed"
        rows = await stand.rows(3)
        assert sorted(row["status"] for row in rows) == [200, 200, 503]


async def test_a_drain_ends_the_waits(tmp_path: Path) -> None:
    async with Stand.open(
        tmp_path, may_end=True, queue={"max": MOST, "wait": 20}, server={"drain_seconds": 10}
    ) as stand:
        stand.upstream.script = held
        async with stand.client() as first, stand.client() as second:
            await begin_long(first)
            await second.create(NARROW)
            await waiting(stand, 1)
            stand.gateway.signal(signal.SIGTERM)
            refusal = await second.refusal()
            assert (refusal["status"], refusal["error"]["code"]) == (503, "shutting_down")
            assert await second.closed() == 1001
            await end_long(first)
            assert await first.closed() == 1001
        assert await stand.gateway.wait() == 0, stand.gateway.output()
