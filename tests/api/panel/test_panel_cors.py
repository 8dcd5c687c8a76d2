"""CORS by configuration: a panel's front end on another origin can call the gateway and stream from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Reply, Stage, Wire, request_bytes
from kit.stage import Record, endpoint, model
from panel_kit import CHAT, talk, told

ORIGIN, OTHER = "https://panel.example.com", "https://evil.example.com"
EXPOSED = {
    "x-request-id",
    "x-gateway-model",
    "x-gateway-attempts",
    "x-gateway-requested-model",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "retry-after",
    "openai-processing-ms",
    "openai-version",
}
PATHS = ["/api/ai/chat", "/api/ai/models", "/v1/chat/completions", "/v1/models/a/b", "/api/admin/keys", "/nowhere"]


def one(upstream: FakeUpstream) -> list[Record]:
    return [model("only", [endpoint(upstream, "only")])]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def listed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Two origins may call."""
    origins = {"cors_origins": [ORIGIN, "http://localhost:5173"]}
    async with Stage.open(tmp_path_factory.mktemp("listed"), one, server=origins) as stage:
        yield stage


async def send(stage: Stage, method: str, target: str, origin: str | None, **more: str) -> Reply:
    headers = [(name.replace("_", "-"), value) for name, value in more.items()]
    if origin is not None:
        headers.append(("origin", origin))
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, target, headers=headers))
        return await wire.reply()


async def preflight(stage: Stage, target: str, origin: str, asked: str = "authorization,content-type") -> Reply:
    return await send(
        stage,
        "OPTIONS",
        target,
        origin,
        access_control_request_method="POST",
        access_control_request_headers=asked,
    )


def names(reply: Reply, header: str) -> set[str]:
    return {each.strip() for each in (reply.header(header) or "").split(",")}


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_is_answered_on_every_path(listed: Stage, path: str) -> None:
    """204 without a key; which paths there are is for the request itself to find out."""
    reply = await preflight(listed, path, ORIGIN)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.header("access-control-allow-origin") == ORIGIN
    assert {"GET", "POST", "PUT", "DELETE"} <= names(reply, "access-control-allow-methods")
    assert {"authorization", "content-type", "x-gateway-user"} <= names(reply, "access-control-allow-headers")
    assert reply.header("vary") == "Origin"
    assert reply.header("access-control-allow-credentials") is None


async def test_headers_of_client_libraries_are_allowed(listed: Stage) -> None:
    """`openai` in a browser sends a dozen of its own; what is no header's name is not echoed."""
    reply = await preflight(listed, "/v1/chat/completions", ORIGIN, "authorization, X-Stainless-Arch,x-stainless-lang")
    assert {"authorization", "x-stainless-arch", "x-stainless-lang"} <= names(reply, "access-control-allow-headers")
    reply = await preflight(listed, "/v1/chat/completions", ORIGIN, "x-good, (bad); caf\xe9")
    assert reply.status == 204
    assert "bad" not in (reply.header("access-control-allow-headers") or "")


@pytest.mark.parametrize("origin", [OTHER, "null", ORIGIN + ".evil.test", ORIGIN.upper(), "http" + ORIGIN[5:]])
async def test_other_origins_get_nothing(listed: Stage, origin: str) -> None:
    """Neither a preflight's answer nor leave to read one; caches are told that it depends on the origin."""
    refused = await preflight(listed, CHAT, origin)
    assert refused.status == 405
    for reply in (refused, await send(listed, "GET", "/healthz", origin), await send(listed, "GET", "/healthz", None)):
        assert [name for name, _ in reply.headers if name.startswith("access-control-")] == []
        assert reply.header("vary") == "Origin"


async def test_every_answer_may_be_read_by_the_page(listed: Stage) -> None:
    """Good ones, refusals and unknown paths: a page that cannot read an error cannot tell it."""
    for method, target, status in [("GET", "/healthz", 200), ("POST", CHAT, 401), ("GET", "/nowhere", 404)]:
        reply = await send(listed, method, target, ORIGIN)
        assert reply.status == status
        assert reply.all("access-control-allow-origin") == [ORIGIN]
        assert names(reply, "access-control-expose-headers") >= EXPOSED


@pytest.mark.parametrize(("path", "body"), [(CHAT, talk(stream=True)), ("/v1/chat/completions", {"stream": True})])
async def test_streams_too(listed: Stage, path: str, body: dict[str, object]) -> None:
    """The head of a stream bears what any answer bears, on the panel's route as on OpenAI's."""
    async with Wire.open(listed.port) as wire:
        await wire.send(request_bytes("POST", path, body, key=KEYS["user"], headers=[("origin", ORIGIN)]))
        reply = await wire.reply()
        assert reply.header("content-type") == "text/event-stream"
        assert reply.all("access-control-allow-origin") == [ORIGIN]
        assert names(reply, "access-control-expose-headers") >= EXPOSED
        if path == CHAT:
            assert told(reply.body)[-1] == "[DONE]"
        await wire.send(request_bytes("GET", "/healthz"))
        assert (await wire.reply()).header("access-control-allow-origin") is None, "left over from the request before"


async def test_any_origin(tmp_path: Path) -> None:
    """`*` is said as it is, and then nothing depends on the origin."""
    async with Stage.open(tmp_path, one, server={"cors_origins": ["*"]}) as anyone:
        assert (await preflight(anyone, CHAT, OTHER)).header("access-control-allow-origin") == "*"
        reply = await send(anyone, "GET", "/healthz", OTHER)
        assert reply.header("access-control-allow-origin") == "*"
        assert reply.header("vary") is None


async def test_off_by_default(panel: Stage) -> None:
    """Without configuration nothing speaks of origins, and OPTIONS is a method like any other."""
    refused = await preflight(panel, CHAT, ORIGIN)
    assert refused.status == 405
    for reply in (refused, await send(panel, "GET", "/healthz", ORIGIN)):
        assert [name for name, _ in reply.headers if name.startswith("access-control-") or name == "vary"] == []


async def test_a_feature_that_is_off_does_not_stop_a_preflight(tmp_path: Path) -> None:
    """The page can then read why."""
    settings = {"server": {"cors_origins": [ORIGIN]}, "features": {"ai": False}}
    async with Stage.open(tmp_path, one, **settings) as off:
        assert (await preflight(off, CHAT, ORIGIN)).status == 204
        reply = await send(off, "POST", CHAT, ORIGIN)
        assert (reply.status, reply.body) == (503, b'{"error":"feature_disabled"}')
        assert reply.header("access-control-allow-origin") == ORIGIN
