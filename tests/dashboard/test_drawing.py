"""A long answer is drawn without a freeze, whatever else the browser keeps."""

from __future__ import annotations

from gallery_kit import at_the_gallery
from tasks_kit import longest_task

from bench.drawing import in_the_chat

LONGEST_MILLISECONDS = 50


async def test_two_hundred_kilobytes_freeze_nothing() -> None:
    """They come at once, among thirty long conversations; the main thread is never busy for three frames."""
    async with at_the_gallery() as (gallery, browser), in_the_chat(gallery, browser, kilobytes=200, kept=30) as page:
        async with longest_task(browser, page) as longest:
            await page.get_by_label("Message", exact=True).press("Enter")
            await page.get_by_text("412 tokens").wait_for(timeout=120_000)
            # The receipt is there while the last words are still drawn, some a frame. What is not shown was marks.
            await page.wait_for_function("() => document.querySelector('.answer .words').textContent.length > 120_000")
        assert longest.cpu < LONGEST_MILLISECONDS, longest
