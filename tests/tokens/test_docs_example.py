"""The example of docs/jwt.md, as it is written there: its configuration, its token, what it says of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from kit import FakeUpstream, GatewayProcess, Wire, as_openai, ask, config, request_bytes
from kit.issuer import JwksServer, jwk, token
from kit.stage import endpoint, model

PAGE = (Path(__file__).parents[2] / "docs" / "jwt.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    one = await FakeUpstream.start(as_openai())
    yield one
    await one.close()


async def test_it_does_what_the_page_says(tmp_path: Path, upstream: FakeUpstream) -> None:
    sections, claims = yaml.safe_load(block("yaml")), json.loads(block("json"))
    served = [model("gpt-4o", [endpoint(upstream, "m")], **{"global": False})]
    async with JwksServer.serving(jwk("RS256")) as server:
        sections["auth"]["jwt"][0]["jwks_url"] = server.url
        async with GatewayProcess.start(config(served, **sections), tmp_path) as gateway:
            key = token(**claims)
            me = (await gateway.get("/api/ai/me", key=key)).json()
            assert (me["user"], me["tier"], me["scopes"]) == ("staff:ada", "enterprise", ["ai:use"])
            (mine,) = (await gateway.get("/api/ai/my-models", key=key)).json()
            assert (mine["model"]["name"], mine["source"]) == ("gpt-4o", "organisation")
            async with Wire.open(gateway.port) as wire:
                await wire.send(request_bytes("POST", "/v1/chat/completions", ask("gpt-4o"), key=key))
                assert (await wire.reply()).status == 200
