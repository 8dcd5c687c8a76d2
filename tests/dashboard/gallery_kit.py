"""The gallery of `gateway demo --pages` under a real browser."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from browser_kit import browsing
from playwright.async_api import Browser, Page

from gateway.demo.gallery.serving import Gallery, gallery_served
from gateway.demo.gallery.states import State

REACHED = "() => document.documentElement.dataset.scene"
PHONE, DESKTOP = {"width": 360, "height": 780}, {"width": 1440, "height": 900}


@asynccontextmanager
async def at_the_gallery() -> AsyncIterator[tuple[Gallery, Browser]]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        async with gallery_served(sock) as gallery, browsing() as browser:
            yield gallery, browser


@asynccontextmanager
async def in_state(
    gallery: Gallery, browser: Browser, state: State, *, window: dict[str, int] = PHONE, scheme: str = "light"
) -> AsyncIterator[Page]:
    """A page that a scene has brought to this state; scripts' errors and broken policies fail."""
    complaints: list[str] = []
    visitor = await browser.new_context(
        viewport=window,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    try:
        page = await visitor.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
        await page.goto(gallery.url_of(state), wait_until="commit")
        await page.wait_for_function(REACHED)
        assert await page.evaluate(REACHED) == "set", (state.name, complaints)
        yield page
        assert complaints == [], state.name
    finally:
        await visitor.close()
