"""What a frame costs the chat while a long answer comes: `python -m bench.frames [--kilobytes 200] [--events 2000]`.

A state of the gallery in headless Chromium hears an answer (prose, lists, tables and code; or of one kind alone) in so
many events, evenly over `--seconds`. Told for each quarter of that time, and for the rest: frames of the page (its own
`requestAnimationFrame`), what each of them and a thousand characters cost its main thread in CPU time, and scripts,
styles and layout of it (DevTools' `Performance.getMetrics` in thread ticks: other processes are not in it). Were that
to grow from quarter to quarter, something would be done again and again. At last gaps between frames and long tasks,
by the clock, which a busy machine disturbs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from typing import NamedTuple

from playwright.async_api import Browser, CDPSession, Page

from bench.drawing import KINDS, SEEN, WATCH, at_the_gallery, in_the_chat, told
from gateway.demo.gallery.serving import Gallery

QUARTERS = 4
PARTS = {"ScriptDuration": "scripts", "RecalcStyleDuration": "styles", "LayoutDuration": "layout"}
ENDED = "() => document.querySelector('.answer .counted') && window.seen.still >= 5"
FRAMES = "() => window.seen.gaps.length"
CHARACTERS = "() => document.querySelector('.answer:last-child .words')?.textContent.length ?? 0"
# An answer is drawn whole once five frames added nothing to it.
STILL = """() => {
  const watched = document.querySelector(".turns");
  window.seen.still = 0;
  new MutationObserver(() => { window.seen.still = 0; }).observe(watched, {childList: true, subtree: true});
  const frame = () => { window.seen.still++; requestAnimationFrame(frame); };
  frame();
}"""


class Reading(NamedTuple):
    frames: int
    characters: int
    milliseconds: dict[str, float]  # CPU of the main thread, by part


async def reading(page: Page, session: CDPSession) -> Reading:
    metrics = {each["name"]: each["value"] for each in (await session.send("Performance.getMetrics"))["metrics"]}
    spent = {name: metrics[name] * 1000 for name in ("TaskDuration", *PARTS)}
    return Reading(await page.evaluate(FRAMES), await page.evaluate(CHARACTERS), spent)


def shown(name: str, before: Reading, after: Reading) -> str:
    frames = max(after.frames - before.frames, 1)
    spent = {part: (after.milliseconds[part] - before.milliseconds[part]) / frames for part in after.milliseconds}
    parts = ", ".join(f"{title} {spent[part]:4.1f}" for part, title in PARTS.items())
    drawn = f"{after.frames - before.frames:4} frames, {after.characters:7,} characters drawn"
    thousand = spent["TaskDuration"] * frames / max(after.characters - before.characters, 1) * 1000
    cpu = f"CPU of a frame {spent['TaskDuration']:5.2f} ms ({parts}), of 1,000 characters {thousand:5.1f} ms"
    return f"{name:8} {drawn}; {cpu}"


async def one(gallery: Gallery, browser: Browser, kind: str, given: argparse.Namespace) -> None:
    piece = given.kilobytes * 1000 // given.events
    every = given.seconds / given.events
    size = {"kilobytes": given.kilobytes, "kept": given.kept, "piece": piece}
    async with in_the_chat(gallery, browser, kind=kind, every=every, **size) as page:
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})
        await page.evaluate(WATCH)
        readings = [await reading(page, session)]
        await page.get_by_label("Message", exact=True).press("Enter")
        await page.evaluate(STILL)
        for _ in range(QUARTERS):
            await page.wait_for_timeout(given.seconds / QUARTERS * 1000)
            readings.append(await reading(page, session))
        await page.wait_for_function(ENDED, timeout=120_000)
        readings.append(await reading(page, session))
        names = [*(f"{number + 1}/{QUARTERS}" for number in range(QUARTERS)), "the rest"]
        for name, (before, after) in zip(names, itertools.pairwise(readings), strict=True):
            print(shown(name, before, after))
        print(f"{'by clock':8} {told(await page.evaluate(SEEN))}", flush=True)


async def measure(given: argparse.Namespace) -> None:
    async with at_the_gallery() as (gallery, browser):
        for kind in given.kind or KINDS:
            print(kind)
            await one(gallery, browser, kind, given)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kilobytes", type=int, default=200)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=16, help="over which the events come")
    parser.add_argument("--kept", type=int, default=30, help="conversations of 100 KB that the browser keeps already")
    parser.add_argument("--kind", action="append", choices=KINDS, help="of the answer; every one, where none is named")
    asyncio.run(measure(parser.parse_args()))
