"""Upstreams whose certificates come from an authority of one's own: `ca_file`, for requests and for sockets."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
import trustme
from kit import DEADLINE_SECONDS, KEYS, GatewayProcess, Reply, Wire, ask, config, request_bytes
from kit.sockets import SocketUpstream
from kit.stage import model
from servers.scripted import Peer, Server, serving

ADMIN = "sk-admin-0123456789abcdefghijkl"
OURS, THEIRS = trustme.CA(), trustme.CA()
ANSWER = b'{"id":"c","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'


def shown_by(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def write(path: Path, *authorities: trustme.CA) -> None:
    path.write_bytes(b"".join(each.cert_pem.bytes() for each in authorities))


async def chats(peer: Peer) -> None:
    while True:
        await peer.answer(ANSWER, b"content-type: application/json")


@pytest_asyncio.fixture(loop_scope="session")
async def upstream() -> AsyncIterator[Server]:
    async with serving(chats, shown_by(OURS)) as server:
        yield server


def at(server: Server, **more: Any) -> dict[str, Any]:
    return {"id": "a", "url": f"https://127.0.0.1:{server.origin.port}/v1", "api_key": "sk-up"} | more


def settings(*endpoints: dict[str, Any]) -> dict[str, Any]:
    models = [model(f"m{number}", [each]) for number, each in enumerate(endpoints)]
    made = config(models, server={"private_endpoints": ["127.0.0.0/8"]})
    made["keys"].append({"id": "admin", "user": "root", "key": ADMIN, "scopes": ["ai:use", "ai:manage"]})
    return made


async def send(gateway: GatewayProcess, target: str, body: Any, method: str = "POST", key: str = ADMIN) -> Reply:
    async with Wire.open(gateway.port) as wire:
        await wire.send(request_bytes(method, target, body, key=key))
        return await wire.reply()


async def chat(gateway: GatewayProcess, name: str = "m0") -> int:
    return (await send(gateway, "/v1/chat/completions", ask(name), key=KEYS["user"])).status


async def chats_with(gateway: GatewayProcess, status: int, name: str = "m0") -> None:
    """Asks until the answer has this status."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while (found := await chat(gateway, name)) != status:
        assert time.monotonic() < ends, found
        await asyncio.sleep(0.05)


async def test_the_files_authorities_alone_are_trusted(tmp_path: Path, upstream: Server) -> None:
    """Relative to gateway.yaml; what the system trusts does not help, and one that it does not trust is refused."""
    write(tmp_path / "ours.pem", OURS)
    write(tmp_path / "theirs.pem", THEIRS)
    both = settings(at(upstream, ca_file="ours.pem"), at(upstream, ca_file="theirs.pem"), at(upstream))
    async with GatewayProcess.start(both, tmp_path) as gateway:
        assert [await chat(gateway, name) for name in ("m0", "m1", "m2")] == [200, 502, 502]
        told = await gateway.log(lambda line: line.get("model") == "m1" and "why" in line)
        assert "certificate refused" in told["why"]


async def test_a_file_that_changes_holds_for_the_next_request(tmp_path: Path, upstream: Server) -> None:
    """Also where a line is open that the old authority vouched for; a broken file changes nothing."""
    path = tmp_path / "authorities.pem"
    write(path, THEIRS, OURS)
    async with GatewayProcess.start(settings(at(upstream, ca_file="authorities.pem")), tmp_path) as gateway:
        assert await chat(gateway) == 200
        write(path, THEIRS)
        await chats_with(gateway, 502)
        write(path, OURS)
        await chats_with(gateway, 200)
        path.write_text("no certificate")
        told = await gateway.log(lambda line: "the file has problems" in line["event"])
        assert told["problems"][0].endswith(
            "models[0].endpoints[0].ca_file: the file holds no certificate in PEM form, or a broken one"
        )
        assert await chat(gateway) == 200


async def test_an_admins_record_names_an_absolute_path(tmp_path: Path, upstream: Server) -> None:
    """And learns nothing about other files; another `ca_file` wants the credential again."""
    write(tmp_path / "ours.pem", OURS)
    async with GatewayProcess.start(settings(at(upstream)), tmp_path) as gateway:
        route, body = "/api/admin/ai/models", {"name": "mine", "global": True}
        words = set()
        for path in ("ours.pem", str(tmp_path / "nothing.pem"), str(tmp_path / "gateway.yaml"), "/dev/zero"):
            reply = await send(gateway, route, body | {"endpoints": [at(upstream, ca_file=path)]})
            assert (reply.status, reply.json()["error"]) == (400, "invalid_request")
            words.add(reply.json()["message"])
        assert len(words) == 1, words
        given = at(upstream, ca_file=str(tmp_path / "ours.pem"))
        made = (await send(gateway, route, body | {"endpoints": [given]})).json()
        assert made["endpoints"][0]["ca_file"] == str(tmp_path / "ours.pem")
        assert await chat(gateway, "mine") == 200
        other = given | {"ca_file": None, "api_key": "set"}
        reply = await send(gateway, f"{route}/{made['id']}", body | {"endpoints": [other]}, "PUT")
        assert (reply.status, "ca_file" in reply.json()["message"]) == (400, True)


async def test_sockets_hold_to_it_too(tmp_path: Path) -> None:
    write(tmp_path / "ours.pem", OURS)
    async with SocketUpstream.start(shown_by(OURS)) as upstream:
        trusted, untrusted = upstream.endpoint(ca_file="ours.pem"), upstream.endpoint()
        async with (
            GatewayProcess.start(settings(trusted, untrusted), tmp_path) as gateway,
            aiohttp.ClientSession(headers={"authorization": f"Bearer {KEYS['user']}"}) as session,
            session.ws_connect(f"http://127.0.0.1:{gateway.port}/v1/responses") as socket,
        ):
            await socket.send_json({"type": "response.create", "model": "m0", "input": "Hi"})
            assert (await socket.receive_json(timeout=DEADLINE_SECONDS))["type"] == "response.created"
            async with session.ws_connect(f"http://127.0.0.1:{gateway.port}/v1/responses") as other:
                await other.send_json({"type": "response.create", "model": "m1", "input": "Hi"})
                assert (await other.receive_json(timeout=DEADLINE_SECONDS))["type"] == "error"
        assert len(upstream.peers) == 1
