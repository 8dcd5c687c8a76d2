"""A real browser at the pages: Debian's Chromium by Playwright. Scripts' errors and broken policies fail any test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from kit import Stage
from playwright.async_api import Browser, Page, async_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The browser's program. Skips, loudly, where there is none."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("NO BROWSER: install chromium, the pages are not tried")
    return found


class Shared:
    """One browser for all tests of a process, which have its loop: starting one takes a second."""

    def __init__(self) -> None:
        self.is_on = False
        self._running = AsyncExitStack()
        self._browser: Browser | None = None

    async def browser(self) -> Browser:
        """The one that runs, or the first; another where it has crashed."""
        if self._browser is None or not self._browser.is_connected():
            self._browser = await self._running.enter_async_context(_started())
        return self._browser

    async def close(self) -> None:
        self.is_on, self._browser = False, None
        await self._running.aclose()


SHARED = Shared()


@asynccontextmanager
async def browsing(*arguments: str) -> AsyncIterator[Browser]:
    """A browser without a page: a new one where it takes `arguments`, or nobody shares."""
    if arguments or not SHARED.is_on:
        async with _started(*arguments) as browser:
            yield browser
        return
    browser = await SHARED.browser()
    try:
        yield browser
    finally:
        for each in browser.contexts:
            await each.close()


@asynccontextmanager
async def _started(*arguments: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        args = ["--no-sandbox", *arguments]
        browser = await playwright.chromium.launch(executable_path=chromium(), args=args)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, stage: Stage, key: str | None = None, **context: Any) -> AsyncIterator[Page]:
    """A page of a browser of its own (signed in by `key`); whatever its scripts or its policy complain of fails."""
    complaints: list[str] = []
    foreign: list[str] = []
    visitor = await browser.new_context(**context)
    try:
        page = await visitor.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None,
        )
        page.on(
            "request", lambda asked: None if asked.url.startswith((stage.url, "blob:")) else foreign.append(asked.url)
        )
        if key is not None:
            await sign_in(page, stage, key)
        yield page
        assert complaints == []
        assert foreign == []
    finally:
        await visitor.close()


def is_foreign(url: str, stage: Stage) -> bool:
    return not url.startswith((stage.url, "blob:"))


async def sign_in(page: Page, stage: Stage, key: str) -> None:
    await page.goto(f"{stage.url}/dashboard/session")
    await page.get_by_label("Your key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/dashboard/ai-chat")
