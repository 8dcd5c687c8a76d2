"""What others try with a session, a ticket or a key: fixed cookies, late tickets, another site, a revoked key."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from browser_kit import browsing, visiting
from kit import KEYS, Stage, Wire, ask, events, request_bytes
from kit.answers import DONE, delta
from test_dashboard_sessions import OWNER, call, cookie_of, opened, signed_in


async def test_a_cookie_given_before_is_not_the_session(tmp_path: Path) -> None:
    """Session fixation: neither an invented value nor a living session of somebody else's becomes the new session."""
    async with opened(tmp_path) as stage:
        invented = f"gw-{stage.port}=" + "A" * 43
        of_the_attacker = await signed_in(stage, KEYS["user"])
        for fixed in (invented, of_the_attacker):
            reply = await call(stage, "POST", "/dashboard/session", {"key": OWNER}, cookie=fixed)
            assert cookie_of(reply) != fixed
            assert (await call(stage, "GET", "/api/ai/me", cookie=fixed)).status == 401
            assert (await call(stage, "GET", "/api/ai/me", cookie=cookie_of(reply))).status == 200


def passes_age(directory: Path, kind: str, seconds: float) -> int:
    """So many seconds go by for what is kept; how many rows that is."""
    (file,) = directory.rglob("passes.db")
    with closing(sqlite3.connect(file, timeout=10)) as database, database:
        return database.execute("UPDATE passes SET ends = ends - ? WHERE kind = ?", (seconds, kind)).rowcount


@pytest.mark.parametrize(("seconds", "status"), [(50, 200), (61, 401)])
async def test_a_ticket_holds_for_a_minute(tmp_path: Path, seconds: float, status: int) -> None:
    async with opened(tmp_path) as stage:
        headers = {"sec_fetch_site": "", "x_gateway_user": "7"}
        ticket = (await call(stage, "POST", "/api/ai/tickets", {}, key=KEYS["panel"], **headers)).json()["ticket"]
        assert passes_age(tmp_path, "ticket", seconds) == 1
        reply = await call(stage, "POST", "/dashboard/session", {"ticket": ticket})
        assert reply.status == status
        if status == 401:
            assert reply.json()["error"] == "invalid_ticket"


@pytest.mark.parametrize(("seconds", "status"), [(11 * 3600, 200), (12 * 3600 + 1, 401)])
async def test_a_session_ends_after_twelve_hours_without_use(tmp_path: Path, seconds: float, status: int) -> None:
    async with opened(tmp_path) as stage:
        cookie = await signed_in(stage)
        assert passes_age(tmp_path, "session", seconds) == 1
        assert (await call(stage, "GET", "/api/ai/me", cookie=cookie)).status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://ai.lan:{port}", 200), ("http://evil.lan:{port}", 403), ("http://ai.lan", 403), ("", 403), ("null", 403)],
)
async def test_plain_http_on_a_name_goes_by_the_origin(tmp_path: Path, origin: str, status: int) -> None:
    """Browsers send no `sec-fetch-*` there."""
    async with opened(tmp_path) as stage:
        lan = {"host": f"ai.lan:{stage.port}", "sec_fetch_site": "", "origin": origin.format(port=stage.port)}
        cookie = await signed_in(stage)
        assert (await call(stage, "GET", "/api/ai/me", cookie=cookie, **lan)).status == 200
        for path, body in (("/api/ai/chat", {"message": "hi"}), ("/dashboard/session", {"key": OWNER})):
            assert (await call(stage, "POST", path, body, cookie=cookie, **lan)).status == status


@asynccontextmanager
async def streaming(
    stage: Stage, method: str, path: str, cookie: str, body: bytes | None = None
) -> AsyncIterator[Wire]:
    fields = [("cookie", cookie), ("sec-fetch-site", "same-origin")]
    async with Wire.open(stage.port) as wire:
        raw = request_bytes(method, path, body, key=None, headers=fields)
        await wire.send(re.sub(rb"(?i)\r\nhost: [^\r]*", f"\r\nhost: 127.0.0.1:{stage.port}".encode(), raw, count=1))
        yield wire


async def test_a_revoked_key_ends_pages_streams_and_no_answer(tmp_path: Path) -> None:
    """The live stream of an operator's page ends; an answer that runs comes to its end; the session is over."""
    async with opened(tmp_path) as stage:
        made: Any = {"user": 42, "scopes": ["ai:use", "ai:manage", "usage:read"]}
        made = (await call(stage, "POST", "/api/admin/keys", made, key=OWNER)).json()
        cookie = await signed_in(stage, made["key"])
        release = asyncio.Event()
        fresh = stage.model()
        fresh.a.replies(events(delta("begun "), release, delta("and ended"), DONE))
        body = json.dumps(ask(fresh.name, stream=True)).encode()
        async with (
            streaming(stage, "GET", "/api/admin/ai/requests", cookie) as live,
            streaming(stage, "POST", "/v1/chat/completions", cookie, body) as chat,
        ):
            assert (await live.head()).status == 200
            assert (await chat.head()).status == 200
            assert b"begun" in await chat.event()
            assert (await call(stage, "DELETE", f"/api/admin/keys/{made['id']}", key=OWNER)).status == 200
            await live.body()  # it ends
            release.set()
            assert b"and ended" in await chat.event()
            assert b"[DONE]" in (await chat.body()).body
        assert (await call(stage, "GET", "/api/ai/me", cookie=cookie)).status == 401


async def test_what_is_switched_off_has_a_face_for_browsers(tmp_path: Path) -> None:
    """503 either way: JSON for programs, a page for whoever reads."""
    async with opened(tmp_path, features={"ai": False}) as stage:
        plain = await call(stage, "GET", "/dashboard/usage")
        assert (plain.status, plain.json()) == (503, {"error": "feature_disabled"})
        page = await call(stage, "GET", "/dashboard/usage", accept="text/html,application/xhtml+xml")
        assert page.status == 503
        assert str(page.header("content-type")).startswith("text/html")
        async with browsing() as browser, visiting(browser, stage) as reader:
            await reader.goto(f"{stage.url}/dashboard/session?next=/dashboard/fleet")
            await reader.get_by_label("Your key").fill(OWNER)
            await reader.get_by_role("button", name="Sign in").click()
            await reader.get_by_role("link", name="Users").wait_for()
            await reader.goto(f"{stage.url}/dashboard/ai-chat")
            await reader.get_by_text("Your operator has switched it off for now.").wait_for()


async def test_two_people_at_one_browser(tmp_path: Path) -> None:
    """A link for somebody else asks first; whoever goes on is apart from who was there."""
    async with opened(tmp_path) as stage, browsing() as browser, visiting(browser, stage, OWNER) as page:
        headers = {"sec_fetch_site": "", "x_gateway_user": "7"}
        ticket = (await call(stage, "POST", "/api/ai/tickets", {}, key=KEYS["panel"], **headers)).json()["ticket"]
        await page.goto(f"{stage.url}/dashboard/session?ticket={ticket}&next=/dashboard/keys")
        await page.get_by_text("You are signed in as Ada.").wait_for()
        assert ticket not in page.url
        await page.get_by_role("button", name="Go on").click()
        await page.wait_for_url("**/dashboard/keys")
        await page.get_by_role("button", name="Account: Bob").wait_for()
        assert await page.get_by_role("link", name="Fleet").count() == 0
