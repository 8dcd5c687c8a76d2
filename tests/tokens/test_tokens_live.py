"""Issuers over a gateway's life: files that change, reloads, two workers, a server of keys that is away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agree.agree_kit import running_redis
from kit import FakeUpstream, GatewayProcess, Reply, Wire, as_openai, ask, config, request_bytes
from kit.books import until
from kit.issuer import AUDIENCE, ISSUER, JwksServer, jwk, jwks, token
from kit.stage import endpoint, model


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    one = await FakeUpstream.start(as_openai())
    yield one
    await one.close()


def settings(upstream: FakeUpstream, *issuers: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return config([model("m", [endpoint(upstream, "m")])], auth={"jwt": list(issuers)}, **sections)


def entry(**changes: Any) -> dict[str, Any]:
    return {"issuer": ISSUER, "audience": AUDIENCE} | changes


async def chat(gateway: GatewayProcess, text: str) -> Reply:
    async with Wire.open(gateway.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask("m"), key=text))
        return await wire.reply()


async def comes_to(gateway: GatewayProcess, text: str, status: int) -> None:
    async def has_come() -> bool:
        return (await chat(gateway, text)).status == status

    await until(has_come)


async def test_a_file_of_keys_is_watched(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A rotated key holds and a withdrawn one ends without a restart; a broken file changes nothing."""
    keys = tmp_path / "keys.json"
    keys.write_bytes(jwks(jwk("ES256")))
    async with GatewayProcess.start(settings(upstream, entry(jwks_file="keys.json")), tmp_path) as gateway:
        old, new = token("ES256"), token("ES256", 1)
        assert (await chat(gateway, old)).status == 200
        assert (await chat(gateway, new)).status == 401
        keys.write_bytes(b"{")
        await gateway.log(lambda line: "not reloaded" in line["event"])
        assert (await chat(gateway, old)).status == 200
        keys.write_bytes(jwks(jwk("ES256", 1)))
        await comes_to(gateway, new, 200)
        await comes_to(gateway, old, 401)
        assert old not in gateway.output()


async def test_issuers_come_and_go_with_a_reload(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Verified tokens go with their issuer's entry; keys that were fetched stay at hand."""
    async with JwksServer.serving(jwk("RS256")) as server:
        whole = settings(upstream, entry(jwks_url=server.url))
        async with GatewayProcess.start(whole, tmp_path) as gateway:
            text = token()
            assert (await chat(gateway, text)).status == 200
            narrowed = settings(upstream, entry(jwks_url=server.url, audience="other"))
            (tmp_path / "gateway.yaml").write_text(json.dumps(narrowed))
            await comes_to(gateway, text, 401)
            assert (await chat(gateway, token(aud="other"))).status == 200
            (tmp_path / "gateway.yaml").write_text(json.dumps(config(whole["models"])))
            await comes_to(gateway, token(aud="other"), 401)
            (tmp_path / "gateway.yaml").write_text(json.dumps(whole))
            await comes_to(gateway, text, 200)
            assert server.asked <= 2


async def test_a_server_that_is_away_at_the_start_makes_503_until_it_is_there(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with JwksServer.serving(jwk("RS256")) as server:
        server.status = 500
        async with GatewayProcess.start(settings(upstream, entry(jwks_url=server.url)), tmp_path) as gateway:
            refused = await chat(gateway, token())
            assert (refused.status, refused.error()["code"]) == (503, "store_unavailable")
            assert refused.header("retry-after") == "1"
            assert (await gateway.get("/readyz")).json()["status"] == "degraded"
            server.status = 200
            await comes_to(gateway, token(), 200)
            assert (await gateway.get("/readyz")).json()["status"] == "ok"
        server.status = 500
        async with GatewayProcess.start(settings(upstream, entry(jwks_url=server.url)), tmp_path) as gateway:
            assert (await chat(gateway, token())).status == 200, "what was fetched outlives a restart"


async def test_two_workers_share_keys_and_fetches(tmp_path: Path, upstream: FakeUpstream) -> None:
    """However many unknown keys come to both of them; a user of Redis' records is switched off on both."""
    with running_redis(tmp_path) as redis:
        async with JwksServer.serving(jwk("RS256")) as server:
            store = {"kind": "redis", "url": redis.url}
            whole = settings(upstream, entry(jwks_url=server.url), store=store, server={"workers": 2})
            async with GatewayProcess.start(whole, tmp_path) as gateway:
                for number in range(20):
                    assert (await chat(gateway, token(jti=str(number)))).status == 200
                server.document = jwks(jwk("RS256"), jwk("RS256", 1))
                asked = server.asked
                for number in range(20):
                    assert (await chat(gateway, token(number=1, jti=str(number)))).status == 200
                    reply = await chat(gateway, token(header={"kid": f"made-up-{number}"}))
                    assert (reply.status, reply.error()["code"]) == (401, "invalid_api_key")
                assert server.asked == asked + 1
                with redis.client() as panel:
                    panel.set(f"gw:user:{ISSUER}:alice", json.dumps({"tier": "paid", "enabled": False}))
                    panel.publish("gw:changed", json.dumps({"kind": "user", "id": f"{ISSUER}:alice"}))

                async def is_off() -> bool:
                    return {(await chat(gateway, token())).status for _ in range(10)} == {401}

                await until(is_off)
