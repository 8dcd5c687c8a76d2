"""Hostile answers and names in the chat: nothing runs, nothing is loaded, nothing holds the page up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chat_kit import Desk, message, said, say
from hostile_words import ANSWERS, NAMES
from kit import FakeUpstream
from kit.stage import Record, endpoint, model
from playwright.async_api import Page
from tasks_kit import longest_task

LONGEST_MILLISECONDS = 100  # of the main thread's own time: what is promised
_FOREIGN = """() => [...document.querySelectorAll(".words *")].filter((node) =>
  !["P", "SPAN", "A", "CODE", "PRE", "FIGURE", "FIGCAPTION", "BUTTON", "UL", "OL", "LI", "STRONG", "EM", "DEL", "HR",
    "BLOCKQUOTE", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD", "DIV", "H3", "H4", "H5", "H6"].includes(node.tagName)
  || [...node.attributes].some((each) => each.name.startsWith("on") || each.name === "style" || each.name === "src")
  || (node.tagName === "A" && (!/^(https?|mailto):/.test(node.getAttribute("href"))
      || node.rel !== "noopener noreferrer" || node.target !== "_blank"))
).map((node) => node.outerHTML.slice(0, 200))"""

_IS_DRAWN = """() => {
  const words = document.querySelector(".answer .words");
  const size = words.querySelectorAll("*").length + words.textContent.length;
  const was = window.wasSize;
  window.wasSize = size;
  return was === size;
}"""


async def drawn(page: Page) -> None:
    """Waits until nothing is left to draw."""
    await page.locator(".answer .counted").wait_for()
    await page.wait_for_function(_IS_DRAWN, polling=100)


async def test_hostile_answers_are_only_words(tmp_path: Path) -> None:
    """Forty of them: no script, no foreign element, no address that runs, no request to anywhere, no long freeze."""
    assert len(ANSWERS) == 40
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        slow = {}
        for number, words in enumerate(ANSWERS):
            pieces = [words[at : at + 100_000] for at in range(0, len(words), 100_000)]
            desk.first.replies(said(*pieces))
            await page.get_by_role("button", name="+ New").click()
            async with longest_task(desk.browser, page) as longest:
                await say(page, f"Number {number}")
                await drawn(page)
            assert await page.evaluate("() => window.ran") is None, words[:200]
            assert await page.evaluate(_FOREIGN) == [], words[:200]
            slow[words[:20]] = longest.cpu
        assert max(slow.values()) < LONGEST_MILLISECONDS, slow


async def test_hostile_names_are_only_words(tmp_path: Path) -> None:
    """In the picker, above answers, and in the account's dialog."""

    def models(upstream: FakeUpstream) -> Iterator[Record]:
        for number, name in enumerate(NAMES):
            yield model(name, [endpoint(upstream, f"m{number}")]) | {"id": number}

    users = [{"id": 42, "name": NAMES[0], "tier": "paid"}]
    async with Desk.open(tmp_path, models, users=users) as desk, desk.sitting() as page:
        shown = await page.get_by_label("Model", exact=True).locator("option").all_inner_texts()
        assert len(shown) == len(NAMES)
        assert shown[0] == NAMES[0]
        assert all(len(each) <= 81 for each in shown)
        for number, name in enumerate(NAMES):
            await page.get_by_label("Model", exact=True).select_option(name)
            await say(page, "Who are you?")
            await page.locator(".answer .counted").nth(number).wait_for()
        await page.get_by_role("button", name="Account").click()
        await page.get_by_role("button", name="Close").click()
        assert await page.evaluate("() => window.ran") is None
        assert await page.locator("img, script:not([type=module])").count() == 0
        await message(page).wait_for()
