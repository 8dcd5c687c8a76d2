"""Signing in at the pages: cookies, tickets, what a session opens, and what another site cannot do."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agree.agree_kit import running_redis
from kit import KEYS, Reply, Stage, Wire, ask, request_bytes

OWNER = "sk-owner-0123456789abcdefghijk"


@asynccontextmanager
async def opened(directory: Path, **sections: Any) -> AsyncIterator[Stage]:
    keys = [
        {"id": "owner", "user": 42, "key": OWNER, "scopes": ["ai:use", "ai:manage", "usage:read", "act:as"]},
        {"id": "user", "user": 42, "key": KEYS["user"]},
        {"id": "panel", "user": "panel", "key": KEYS["panel"], "scopes": ["ai:use", "usage:read", "act:as"]},
    ]
    users = [{"id": 42, "tier": "paid", "name": "Ada"}, {"id": 7, "tier": "free", "name": "Bob"}]
    async with Stage.open(directory, keys=keys, users=users, **sections) as stage:
        yield stage


async def call(
    stage: Stage,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    cookie: str | None = None,
    **headers: str,
) -> Reply:
    """As a browser's page would ask, but for what `headers` replaces; an empty one is left out."""
    payload = None if body is None else json.dumps(body).encode()
    named = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    named |= {"cookie": cookie} if cookie else {}
    async with Wire.open(stage.port) as wire:
        host = named.pop("host", f"127.0.0.1:{stage.port}")
        fields = [(name, value) for name, value in named.items() if value]
        raw = request_bytes(method, path, payload, key=key, headers=fields)
        if payload is not None:
            raw = raw.replace(b"content-type: application/json\r\n", b"", 1)  # its own; ours follows
        await wire.send(re.sub(rb"(?i)\r\nhost: [^\r]*", f"\r\nhost: {host}".encode(), raw, count=1))
        return await wire.reply()


def cookie_of(reply: Reply) -> str:
    assert reply.status == 200, reply
    return str(reply.header("set-cookie")).partition(";")[0]


async def signed_in(stage: Stage, key: str = OWNER) -> str:
    return cookie_of(await call(stage, "POST", "/dashboard/session", {"key": key}))


async def test_a_key_signs_in_and_out(tmp_path: Path) -> None:
    """The cookie is the session's alone: HttpOnly, Strict, gone once signed out; the key's scopes but `act:as`."""
    async with opened(tmp_path) as stage:
        reply = await call(stage, "POST", "/dashboard/session", {"key": OWNER})
        flags = str(reply.header("set-cookie"))
        assert flags.startswith(f"gw-{stage.port}=")
        assert "HttpOnly" in flags
        assert "SameSite=Strict" in flags
        assert "Secure" not in flags
        cookie = cookie_of(reply)
        me = (await call(stage, "GET", "/api/ai/me", cookie=cookie)).json()
        assert (me["user"], me["scopes"]) == (42, ["ai:use", "ai:manage", "usage:read"])
        out = await call(stage, "DELETE", "/dashboard/session", cookie=cookie)
        assert out.status == 204
        assert (await call(stage, "GET", "/api/ai/me", cookie=cookie)).status == 401
        assert (await call(stage, "POST", "/dashboard/session", {"key": "sk-nobody"})).status == 401


async def test_what_a_session_opens(tmp_path: Path) -> None:
    """The panel's routes and chat completions; nothing else of the OpenAI surface. A key beside it wins."""
    async with opened(tmp_path) as stage:
        cookie, name = await signed_in(stage), stage.model().name
        chat = await call(stage, "POST", "/v1/chat/completions", ask(name), cookie=cookie)
        assert (chat.status, chat.header("cache-control")) == (200, "no-store")
        assert (await call(stage, "GET", "/api/ai/my-models", cookie=cookie)).status == 200
        assert (await call(stage, "GET", "/api/admin/keys", cookie=cookie)).status == 200
        for path, body in (("/v1/responses", ask(name)), ("/api/ai/openai/v1/chat/completions", ask(name))):
            assert (await call(stage, "POST", path, body, cookie=cookie)).status == 401
        beside = await call(stage, "GET", "/api/ai/me", cookie=cookie, key=KEYS["user"])
        assert beside.json()["scopes"] == ["ai:use"]
        for without_key in ("Bearer ", "Basic Zm9v"):
            assert (await call(stage, "GET", "/api/ai/me", cookie=cookie, authorization=without_key)).status == 200
        acting = await call(stage, "GET", "/api/ai/me", cookie=cookie, x_gateway_user="7")
        assert (acting.status, acting.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"sec_fetch_site": ""}, 403),
        ({"sec_fetch_site": "", "origin": "http://evil.example"}, 403),
        ({"sec_fetch_site": "", "origin": "null"}, 403),
        ({"sec_fetch_site": "", "origin": "http://127.0.0.1:{port}"}, 200),
        ({"content_type": "text/plain"}, 403),
        ({"content_type": "application/json; charset=utf-8"}, 200),
    ],
)
async def test_another_site_changes_nothing(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """Neither with a session, nor by signing somebody in; reading needs no proof."""
    async with opened(tmp_path) as stage:
        given = {name: value.replace("{port}", str(stage.port)) for name, value in headers.items()}
        cookie = await signed_in(stage)
        assert (await call(stage, "GET", "/api/ai/me", cookie=cookie, **given)).status == 200
        for path, body in (("/api/ai/chat", {"message": "hi"}), ("/dashboard/session", {"key": OWNER})):
            reply = await call(stage, "POST", path, body, cookie=cookie, **given)
            assert reply.status == status
            if status == 403:
                assert reply.json()["error"] == "cross_site"


@pytest.mark.parametrize("store", ["embedded", "redis"])
async def test_a_ticket_signs_in_once(tmp_path: Path, store: str) -> None:
    """A panel sends its user over; the ticket is used up by the POST alone, and brings no scope of the panel's."""
    if store == "redis":
        with running_redis(tmp_path) as server:
            await ticket_once(tmp_path, {"kind": "redis", "url": server.url})
    else:
        await ticket_once(tmp_path, {"kind": "embedded"})


async def ticket_once(directory: Path, store: dict[str, Any]) -> None:
    async with opened(directory, store=store) as stage:
        plain = {"sec_fetch_site": "", "x_gateway_user": "7", "host": "ai.example"}
        made = await call(stage, "POST", "/api/ai/tickets", {}, key=KEYS["panel"], **plain)
        assert made.status == 201
        ticket = made.json()["ticket"]
        assert made.json()["url"] == f"http://ai.example/dashboard/session?ticket={ticket}"
        for _ in range(2):  # a link's preview uses nothing up
            page = await call(stage, "GET", f"/dashboard/session?ticket={ticket}")
            assert (page.status, page.header("cache-control"), page.header("referrer-policy")) == (
                200,
                "no-store",
                "no-referrer",
            )
        body = {"ticket": ticket, "next": "/dashboard/usage"}
        reply = await call(stage, "POST", "/dashboard/session", body)
        assert (reply.json()["user"], reply.json()["scopes"], reply.json()["next"]) == (
            7,
            ["ai:use"],
            "/dashboard/usage",
        )
        again = await call(stage, "POST", "/dashboard/session", body)
        assert (again.status, again.json()["error"]) == (401, "invalid_ticket")
        assert ticket not in stage.gateway.output()
        too_much = await call(stage, "POST", "/api/ai/tickets", {"scopes": ["ai:manage"]}, key=KEYS["panel"], **plain)
        assert (too_much.status, too_much.json()["error"]) == (403, "insufficient_scope")
        more = await call(stage, "POST", "/api/ai/tickets", {"scopes": ["usage:read"]}, key=KEYS["panel"], **plain)
        scopes = (await call(stage, "POST", "/dashboard/session", {"ticket": more.json()["ticket"]})).json()["scopes"]
        assert scopes == ["ai:use", "usage:read"]
        unnamed = await call(stage, "POST", "/api/ai/tickets", {}, key=KEYS["panel"], sec_fetch_site="")
        assert (unnamed.status, unnamed.json()["error"]) == (400, "invalid_request"), "for whom?"
        nobody = await call(stage, "POST", "/api/ai/tickets", {}, key=KEYS["user"], sec_fetch_site="")
        assert (nobody.status, nobody.json()["error"]) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/v1/models", "/dashboard/../x", "/dashboard/%2E./x", "\\x"]
)
async def test_signing_in_goes_nowhere_else(tmp_path: Path, target: str) -> None:
    async with opened(tmp_path) as stage:
        reply = await call(stage, "POST", "/dashboard/session", {"key": OWNER, "next": target})
        assert reply.json()["next"] == "/dashboard/ai-chat"


async def test_a_session_ends_with_its_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as stage:
        made = (await call(stage, "POST", "/api/admin/keys", {"user": 7}, key=OWNER)).json()
        cookie = await signed_in(stage, made["key"])
        assert (await call(stage, "GET", "/api/ai/me", cookie=cookie)).status == 200
        await call(stage, "DELETE", f"/api/admin/keys/{made['id']}", key=OWNER)
        assert (await call(stage, "GET", "/api/ai/me", cookie=cookie)).status == 401


async def test_https_is_what_a_trusted_proxy_says(tmp_path: Path) -> None:
    """Then the cookie is Secure, and its name cannot be set by a neighbour."""
    async with opened(tmp_path, server={"trusted_proxies": ["127.0.0.1/32"]}) as stage:
        reply = await call(stage, "POST", "/dashboard/session", {"key": OWNER}, x_forwarded_proto="https")
        assert str(reply.header("set-cookie")).startswith("__Host-gw=")
        assert "; Secure" in str(reply.header("set-cookie"))
    async with opened(tmp_path) as stage:
        reply = await call(stage, "POST", "/dashboard/session", {"key": OWNER}, x_forwarded_proto="https")
        assert "Secure" not in str(reply.header("set-cookie"))


async def test_pages_and_their_files(tmp_path: Path) -> None:
    """Strict headers; files by hash, for ever; nothing foreign is named."""
    async with opened(tmp_path) as stage:
        for name in ("ai-chat", "ai-studio", "usage", "keys", "models", "users", "fleet", "soc", "session"):
            page = await call(stage, "GET", f"/dashboard/{name}")
            assert page.status == 200
            policy = str(page.header("content-security-policy"))
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            named = re.findall(rb'(?:src|href)="([^"]+)"', page.body)
            assert named
            for address in named:
                assert address.startswith(b"/dashboard/static/")
                file = await call(stage, "GET", address.decode())
                assert (file.status, file.header("cache-control")) == (200, "public, max-age=31536000, immutable")
        gone = await call(stage, "GET", "/dashboard/static/000000000000/style.css")
        assert gone.status == 404
    async with opened(tmp_path, server={"dashboard": False}) as stage:
        assert (await call(stage, "GET", "/dashboard/ai-chat")).status == 404
        for path, body, key in (("/dashboard/session", {"key": OWNER}, None), ("/api/ai/tickets", {}, KEYS["panel"])):
            nowhere = await call(stage, "POST", path, body, key=key, x_gateway_user="" if key is None else "7")
            assert (nowhere.status, nowhere.json()["error"]) == (404, "not_found"), path
    async with opened(tmp_path, features={"ai": False}) as stage:
        off = await call(stage, "GET", "/dashboard/ai-chat")
        assert (off.status, off.json()) == (503, {"error": "feature_disabled"})
        assert (await call(stage, "GET", "/dashboard/fleet")).status == 200


async def test_a_frame_of_another_site_has_its_own_cookie(tmp_path: Path) -> None:
    """Partitioned, and only over https for origins that may frame the pages."""
    server = {"trusted_proxies": ["127.0.0.1/32"], "dashboard_frames": ["https://panel.example"]}
    async with opened(tmp_path, server=server) as stage:
        page = await call(stage, "GET", "/dashboard/usage")
        assert "frame-ancestors https://panel.example;" in str(page.header("content-security-policy"))
        framed = {"x_gateway_framed": "1", "x_forwarded_proto": "https"}
        flags = str((await call(stage, "POST", "/dashboard/session", {"key": OWNER}, **framed)).header("set-cookie"))
        assert flags.endswith("SameSite=None; Secure; Partitioned")
        plain = await call(stage, "POST", "/dashboard/session", {"key": OWNER}, x_gateway_framed="1")
        assert str(plain.header("set-cookie")).endswith("SameSite=Strict")
    async with opened(tmp_path, server={"trusted_proxies": ["127.0.0.1/32"]}) as stage:
        flags = str((await call(stage, "POST", "/dashboard/session", {"key": OWNER}, **framed)).header("set-cookie"))
        assert "SameSite=Strict" in flags
