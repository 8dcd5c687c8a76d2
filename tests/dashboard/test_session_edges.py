"""Where a session's cookie is no credential, and what a cookie or a sign-in may look like at worst."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from agree.agree_kit import running_redis
from kit import Wire, ask, request_bytes
from test_dashboard_sessions import OWNER, call, cookie_of, opened, signed_in

from gateway.access.authenticate import Authenticator
from gateway.access.sessions import Sessions
from gateway.errors import InvalidKey
from gateway.observability.logging import make_logger
from gateway.redis.link_forms import link_to
from gateway.store.passes import EmbeddedPasses, RedisPasses
from gateway.types import ApiKey, Caller, Secret, User

SOCKET = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-version", "13")]
ELSEWHERE = [
    ("GET", "/v1/chat/completions", None),  # what is kept, not what is asked
    ("GET", "/v1/models", None),
    ("POST", "/v1/embeddings", {"input": "x"}),
    ("POST", "/v1/messages", {"messages": [], "max_tokens": 1}),
    ("POST", "/api/ai/anthropic/v1/messages", {"messages": [], "max_tokens": 1}),
    ("POST", "/api/ai/openai/v1/embeddings", {"input": "x"}),
    ("GET", "/v1/files", None),
    ("GET", "/metrics", None),
]


async def test_a_cookie_opens_nothing_else(tmp_path: Path) -> None:
    """Neither protocol's surface, what upstreams keep, nor a socket."""
    async with opened(tmp_path) as stage:
        cookie = await signed_in(stage)
        for method, path, body in ELSEWHERE:
            reply = await call(stage, method, path, body, cookie=cookie)
            assert reply.status == 401, (method, path)
        nonce = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        for path in ("/v1/responses", "/v1/realtime?model=m", "/api/ai/openai/v1/responses"):
            async with Wire.open(stage.port) as wire:
                await wire.send(request_bytes("GET", path, headers=[*SOCKET, nonce, ("cookie", cookie)]))
                assert (await wire.reply()).status == 401, path
        assert (await call(stage, "POST", "/v1/chat/completions", ask(stage.model().name), cookie=cookie)).status == 200


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_an_answer_to_a_session_has_one_rule_for_caches(tmp_path: Path, fast_lane: bool) -> None:
    """Streams and new keys too, which say one of their own where there is no session."""
    async with opened(tmp_path, server={"fast_lane": fast_lane}) as stage:
        cookie, name = await signed_in(stage), stage.model().name
        asked: list[tuple[str, str, Any]] = [
            ("POST", "/v1/chat/completions", ask(name, stream=True)),
            ("POST", "/api/ai/chat", {"message": "Hi", "stream": True}),
            ("POST", "/api/ai/keys", {"name": "mine"}),
            ("GET", "/api/admin/ai/requests", None),
        ]
        for method, path, body in asked:
            async with Wire.open(stage.port) as wire:
                fields = [("cookie", cookie), ("sec-fetch-site", "same-origin")]
                sent = request_bytes(method, path, body, key=None, headers=fields)
                await wire.send(re.sub(rb"(?i)\r\nhost: [^\r]*", b"\r\nhost: 127.0.0.1:%d" % stage.port, sent, count=1))
                head = await wire.head()
            assert (head.status // 100, head.all("cache-control")) == (2, ["no-store"]), (path, head.headers)


@pytest.mark.parametrize("value", ['"\xff\xfe"', '"\\377"', "\xff", '"', "", "x" * 8000, "é"])
async def test_a_cookie_of_any_bytes_is_nobody(tmp_path: Path, value: str) -> None:
    async with opened(tmp_path) as stage:
        for method, path in (("GET", "/api/ai/me"), ("GET", "/api/admin/keys")):
            assert (await call(stage, method, path, cookie=f"gw-{stage.port}={value}")).status == 401
        out = await call(stage, "DELETE", "/dashboard/session", cookie=f"gw-{stage.port}={value}")
        assert out.status == 204


async def test_nobody_sends_much_before_signing_in(tmp_path: Path) -> None:
    """Whoever has no key is not read 32 MB from; a sign-in with a long address behind it is."""
    async with opened(tmp_path) as stage:
        long = await call(stage, "POST", "/dashboard/session", {"key": "k" * 20_000})
        assert (long.status, long.json()["error"]) == (413, "request_too_large")
        body = {"key": OWNER, "next": "/dashboard/usage?" + "a" * 4000}
        assert cookie_of(await call(stage, "POST", "/dashboard/session", body))


class SigningOut:
    """Finds everybody; meanwhile, once it is asked to, they sign out in another tab."""

    def __init__(self) -> None:
        self.meanwhile: tuple[Sessions, str] | None = None

    async def caller_by_hash(self, sha256: str, user: int, *_: Any) -> Caller:
        if self.meanwhile is not None:
            sessions, token = self.meanwhile
            await sessions.end(token)
        return Caller(User(id=user, tier="free"), ApiKey(id="k", user=user, sha256=sha256))

    async def caller(self, *_: Any) -> Caller:
        return await self.caller_by_hash("0" * 64, 42)


@pytest.mark.parametrize("store", ["embedded", "redis"])
async def test_signed_out_is_signed_out(tmp_path: Path, store: str) -> None:
    """A request that was under way does not bring the session back, though it was its first use for a while."""
    now, finder = datetime.now(UTC), SigningOut()
    async with AsyncExitStack() as held:
        if store == "redis":
            server = held.enter_context(running_redis(tmp_path))
            link = link_to(Secret(server.url), make_logger("console"))
            await link.start()
            held.push_async_callback(link.stop)
            passes: Any = RedisPasses(link)
        else:
            passes = EmbeddedPasses(tmp_path)
            held.push_async_callback(passes.close)
        sessions = Sessions(passes, cast(Authenticator, finder), lambda: now)
        token, _ = await sessions.begin_by_key("k", "127.0.0.1", framed=False)
        now += timedelta(hours=1)
        assert (await sessions.caller(token, None, "127.0.0.1")).user.id == 42
        now += timedelta(hours=1)
        finder.meanwhile = sessions, token
        await sessions.caller(token, None, "127.0.0.1")
        finder.meanwhile = None
        with pytest.raises(InvalidKey):
            await sessions.caller(token, None, "127.0.0.1")
