"""A chat in a real browser: a gateway whose upstream a test writes, and a reader at the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from browser_kit import browsing, visiting
from kit import KEYS, Behaviour, FakeEndpoint, FakeUpstream, Stage, events
from kit.answers import DONE, delta, usage_only
from kit.stage import Record, endpoint, model
from playwright.async_api import Browser, Locator, Page

ADA, BOB, NOBODY = KEYS["user"], "sk-bob-0123456789abcdefghijklm", "sk-nobody-0123456789abcdefghi"
PEOPLE: dict[str, Any] = {
    "keys": [
        {"id": "ada", "user": 42, "key": ADA},
        {"id": "bob", "user": 7, "key": BOB},
    ],
    "users": [{"id": 42, "tier": "paid", "name": "Ada"}, {"id": 7, "tier": "free", "name": "Bob"}],
}


def two_models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("gpt-4o", [endpoint(upstream, "first")], price={"input": 2.5, "output": 10})
    yield model("local-llama", [endpoint(upstream, "second")])


def said(*pieces: str) -> Behaviour:
    """A stream of these pieces, whole and with its usage."""
    return events(*map(delta, pieces), usage_only(), DONE)


class Desk:
    """A stage, a browser, and how to come to a page."""

    def __init__(self, stage: Stage, browser: Browser) -> None:
        self.stage = stage
        self.browser = browser

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, models: Any = two_models, **sections: Any) -> AsyncIterator[Desk]:
        async with Stage.open(directory, models, **PEOPLE | sections) as stage, browsing() as browser:
            yield cls(stage, browser)

    @property
    def first(self) -> FakeEndpoint:
        return self.stage.upstream.endpoint("first")

    @asynccontextmanager
    async def sitting(self, key: str = ADA, **context: Any) -> AsyncIterator[Page]:
        """A reader who is signed in, at the chat."""
        async with visiting(self.browser, self.stage, key, **context) as page:
            await message(page).wait_for()
            yield page


def message(page: Page) -> Locator:
    return page.get_by_label("Message", exact=True)


async def say(page: Page, text: str) -> None:
    await message(page).fill(text)
    await message(page).press("Enter")


async def settled(page: Page, count: int = 1) -> None:
    """Waits until so many answers have their receipt."""
    await page.locator(".answer .counted").nth(count - 1).wait_for()
