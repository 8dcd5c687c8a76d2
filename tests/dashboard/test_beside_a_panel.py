"""The three ways of docs/beside-a-panel.md in a real browser: linked by a ticket, framed, by nginx' auth_request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from beside_kit import FOREIGN, NEIGHBOUR, PANEL, SERVICE_KEY, Scene, beside_a_panel
from playwright.async_api import Frame, Page, Route

MESSAGE = "Message"


async def ask_in(place: Page | Frame, words: str = "Hello?") -> None:
    """Ask, and have an answer with its receipt."""
    await place.get_by_label(MESSAGE, exact=True).fill(words)
    await place.get_by_label(MESSAGE, exact=True).press("Enter")
    await place.locator(".answer .counted").wait_for()


async def framed(page: Page) -> Frame:
    handle = await page.wait_for_selector("iframe")
    frame = await handle.content_frame()
    assert frame is not None
    return frame


async def test_linked_with_a_ticket(tmp_path: Path) -> None:
    """One click from the panel, on a host of another site: signed in as the panel's user."""
    async with beside_a_panel(tmp_path) as scene, scene.visitor() as page:
        await page.goto(scene.at(PANEL))
        await page.get_by_role("link", name="AI").click()
        await page.wait_for_url(f"{scene.at(FOREIGN)}/dashboard/ai-chat*")
        await page.get_by_role("button", name="Account: Bob").wait_for()
        assert "ticket" not in page.url
        await ask_in(page)
        cookies = {each["name"]: each for each in await page.context.cookies(scene.at(FOREIGN))}
        assert cookies["__Host-gw"]["sameSite"] == "Strict"
        assert cookies["__Host-gw"]["httpOnly"]
        assert cookies["__Host-gw"]["secure"]


@pytest.mark.parametrize("host", [NEIGHBOUR, FOREIGN])
async def test_framed(tmp_path: Path, host: str) -> None:
    """By the same site and by another one: a session of the frame's own, which the site itself does not see."""
    async with beside_a_panel(tmp_path) as scene, scene.visitor() as page:
        scene.panel.origin_of_pages = scene.at(host)
        await page.goto(f"{scene.at(PANEL)}/framed")
        frame = await framed(page)
        await frame.get_by_role("button", name="Account: Bob").wait_for()
        await ask_in(frame)
        await page.reload()  # a new ticket: the session before is there, so it asks or goes on
        frame = await framed(page)
        await frame.get_by_text("Somebody is signed in").wait_for()
        await frame.get_by_role("link", name="Stay").click()
        await frame.get_by_role("button", name="Account: Bob").wait_for()
        (cookie,) = [each for each in await page.context.cookies() if each["name"] == "__Host-gw"]
        assert cookie["sameSite"] == ("None" if host == FOREIGN else "Strict")
        other = await page.context.new_page()
        await other.goto(f"{scene.at(host)}/dashboard/ai-chat")
        # A frame's cookies are those of the site around it: another site's are apart, one's own are not.
        seen = other.get_by_label("Your key") if host == FOREIGN else other.get_by_role("button", name="Account: Bob")
        await seen.wait_for()


async def test_nobody_else_may_frame_it(tmp_path: Path) -> None:
    """A page of a third site gets an empty frame."""
    async with beside_a_panel(tmp_path) as scene, scene.visitor() as page:

        async def evil(route: Route) -> None:
            url = f"{scene.at(FOREIGN)}/dashboard/ai-chat"
            await route.fulfill(body=f"<iframe src={url}></iframe>", content_type="text/html")

        await page.route("https://evil.example/", evil)
        async with page.expect_event("framenavigated", lambda frame: frame.url.startswith("chrome-error:")):
            await page.goto("https://evil.example/")


async def test_a_browser_that_keeps_no_cookie_for_frames_gets_a_window(tmp_path: Path) -> None:
    """It says so before the ticket is used up: the window that it opens is signed in."""
    async with beside_a_panel(tmp_path) as scene, scene.visitor() as page:
        await page.add_init_script("Object.defineProperty(Document.prototype, 'cookie', {get: () => '', set() {}})")
        await page.goto(f"{scene.at(PANEL)}/framed")
        frame = await framed(page)
        await frame.get_by_text("Not inside this frame").wait_for()
        async with page.context.expect_page() as opened:
            await frame.get_by_role("link", name="Open in a window").click()
        window = await opened.value
        await window.get_by_role("button", name="Account: Bob").wait_for()
        await ask_in(window)


@asynccontextmanager
async def signed_in_at_the_panel(scene: Scene, user: int | None) -> AsyncIterator[aiohttp.ClientSession]:
    cookies = {} if user is None else {"panel": f"user-{user}"}
    headers = {"host": f"{PANEL}:{scene.port}"}
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(cookies=cookies, headers=headers, connector=connector) as session:
        yield session


async def test_the_panels_session_by_nginx(tmp_path: Path) -> None:
    """Who is signed in at the panel is signed in here, without a click; what a browser forges goes no further."""
    async with beside_a_panel(tmp_path, by_session=True) as scene:
        async with scene.visitor() as page:
            await page.goto(f"{scene.at(PANEL)}/dashboard/ai-chat")
            await page.get_by_role("button", name="Account: Bob").wait_for()
            await ask_in(page)
            assert await page.get_by_role("link", name="Fleet").count() == 0
        here = f"https://127.0.0.1:{scene.port}"
        async with signed_in_at_the_panel(scene, 7) as bob:
            forged = {"x-gateway-user": "42", "authorization": f"Bearer {SERVICE_KEY}", "x-api-key": SERVICE_KEY}
            for headers in ({}, forged, {"X-GATEWAY-USER": "42"}, {"x_gateway_user": "42"}):
                async with bob.get(f"{here}/api/ai/me", headers=headers) as answer:
                    assert (answer.status, (await answer.json())["user"]) == (200, 7)
            for path in ("/api/admin/users", "/api/soc/usage", "/metrics", "/API/admin/users"):
                async with bob.get(f"{here}{path}") as answer:
                    assert answer.status == 404, path  # the panel's own: it has no such page
            for body, status in (({}, 201), ({"scopes": ["ai:use", "act:as"]}, 403), ({"scopes": ["ai:manage"]}, 403)):
                async with bob.post(f"{here}/api/ai/keys", json=body) as answer:
                    assert answer.status == status, await answer.text()
            chat: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
            for site, status in (("same-origin", 200), ("cross-site", 403), ("same-site", 403)):
                text = {"sec-fetch-site": site, "content-type": "text/plain"}
                async with bob.post(f"{here}/v1/chat/completions", data=json.dumps(chat), headers=text) as answer:
                    assert answer.status == status
        async with signed_in_at_the_panel(scene, None) as nobody:
            for headers in ({}, forged):
                async with nobody.get(f"{here}/api/ai/me", headers=headers) as answer:
                    assert answer.status == 401
            # An answer of the panel that names nobody: never is it the panel itself that asks.
            async with nobody.get(f"{here}/api/ai/me", headers={"cookie": "panel=unnamed"}) as answer:
                assert answer.status == 401
