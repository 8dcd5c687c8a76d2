"""P14 on sockets: stored responses are their owner's alone, on sockets and beside them."""

from __future__ import annotations

import json

import pytest
from kit import KEYS, events
from kit.sockets import Json, Peer, completed, created
from websocket_kit import Client, Stand, said, streamed


async def numbered(peer: Peer) -> None:
    number = 0
    while True:
        await peer.next()
        number += 1
        for event in (created(number), completed(number)):
            await peer.socket.send_str(json.dumps(event))


async def answered(client: Client, **fields: object) -> Json:
    await client.create(**fields)  # type: ignore[arg-type]
    return (await client.end())[-1]


async def test_a_stored_response_is_its_owners_alone(stand: Stand) -> None:
    stand.upstream.script = numbered
    async with stand.client() as client:
        assert (await answered(client))["type"] == "response.completed"
    async with stand.client() as client:
        assert (await answered(client, previous_response_id="resp_1"))["type"] == "response.completed"
    async with stand.client(key=KEYS["stranger"]) as client:
        refusal = await answered(client, previous_response_id="resp_1", stream_id="a")
        assert (refusal["status"], refusal["error"]["code"]) == (404, "object_not_found")
        assert (refusal["error"]["param"], refusal["stream_id"]) == ("previous_response_id", "a")
    assert len(stand.upstream.peers) == 2


async def test_what_is_not_stored_is_known_on_its_socket_alone(stand: Stand) -> None:
    stand.upstream.script = numbered
    async with stand.client() as client:
        await answered(client, store=False)
        assert (await answered(client, store=False, previous_response_id="resp_1"))["type"] == "response.completed"
    async with stand.client() as client:
        refusal = await answered(client, store=False, previous_response_id="resp_1")
        assert refusal["error"]["code"] == "object_not_found"


@pytest.mark.parametrize("key", ["user", "stranger"])
async def test_the_bridge_leaves_stored_responses_to_the_upstream(stand: Stand, key: str) -> None:
    """Of their owner; of anybody else they are not found."""
    stand.plain.replies(events(*streamed(said("One"), number=1)))
    stand.plain.always(events(*streamed(said("Two"), number=2)))
    async with stand.client() as client:
        await answered(client, model="plain")
    async with stand.client(key=KEYS[key]) as client:
        last = await answered(client, model="plain", previous_response_id="resp_1")
        if key == "user":
            assert last["type"] == "response.completed"
            assert stand.plain.requests[1].json()["previous_response_id"] == "resp_1"
        else:
            assert last["error"]["code"] == "previous_response_not_found"
