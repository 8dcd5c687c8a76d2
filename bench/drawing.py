"""How smoothly the chat draws a long answer: `python -m bench.drawing [--kilobytes 200] [--rounds 3]`.

A state of the gallery (no gateway in between) in headless Chromium streams an answer of prose, lists, tables and code
as fast as the page takes it. Told are the frames (the page's own `requestAnimationFrame`), the longest gap between two
of them, the longest task, and, beside it, the same of a page that does nothing: what the machine itself loses.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / each) for each in ("", "dashboard")]

from gallery_kit import DESKTOP, at_the_gallery, in_state  # noqa: E402
from playwright.async_api import Browser, Page  # noqa: E402

from gateway.demo.gallery.answers import words  # noqa: E402
from gateway.demo.gallery.fixtures import ANSWER  # noqa: E402
from gateway.demo.gallery.serving import Gallery  # noqa: E402
from gateway.demo.gallery.states import CHAT, SEND, State, conversation  # noqa: E402

PIECE = 48  # characters an event, as models send them
PROSE = "Restarting is safe: worlds are *saved* before the process ends, and `systemctl` waits for it. " * 6 + "\n\n"
LONG_CODE = "```python\n" + "".join(f"def f{each}(x):\n    return x * {each}\n\n" for each in range(150)) + "```\n\n"
LONG_TABLE = (
    "| a | b | c |\n|--|--|--|\n" + "".join(f"| {each} | `x{each}` | **{each * 7}** |\n" for each in range(150)) + "\n"
)
LIST = "".join(
    f"{each}. point number {each}, with [a link](https://example.com/{each})\n   - and one below\n"
    for each in range(1, 40)
)
WATCH = """() => {
  const seen = window.seen = {gaps: [], tasks: [], at: performance.now()};
  const take = list => list.getEntries().forEach(each => seen.tasks.push(each.duration));
  new PerformanceObserver(take).observe({type: "longtask"});
  const frame = now => { seen.gaps.push(now - seen.at); seen.at = now; seen.next = requestAnimationFrame(frame); };
  requestAnimationFrame(now => { seen.at = now; requestAnimationFrame(frame); });
}"""
SEEN = "() => { const {gaps, tasks} = window.seen; cancelAnimationFrame(window.seen.next); return {gaps, tasks}; }"


KINDS = {
    "mixed": PROSE + LIST + "\n" + "".join(ANSWER) + "\n" + LONG_CODE + PROSE * 3 + LONG_TABLE,
    "paragraph": PROSE.strip() + " ",
    "list": LIST,
    "code": LONG_CODE.replace("```\n\n", ""),
    "table": LONG_TABLE.strip() + "\n",
    "quote": f"> {PROSE.strip()}\n>\n",
    "item": f"  {PROSE.strip()}\n\n",
}


def answer_of(characters: int, kind: str = "mixed") -> str:
    part = KINDS[kind]
    if kind == "item":
        part = "- a\n\n" + part * (characters // len(part) + 1)
    return (part * (characters // len(part) + 1))[:characters]


def told(seen: dict[str, Any]) -> str:
    gaps = sorted(seen["gaps"])
    shown = len(gaps) / sum(gaps) * 1000 if gaps else 0
    longest = max(seen["tasks"], default=0)
    at = gaps[int(len(gaps) * 0.99)] if gaps else 0
    gap = f"longest gap {max(gaps, default=0):6.1f} ms, 99 % {at:5.1f} ms"
    return f"{shown:5.1f} frames/s, {gap}, longest task {longest:5.0f} ms"


@asynccontextmanager
async def in_the_chat(
    gallery: Gallery,
    browser: Browser,
    *,
    kilobytes: int,
    kept: int,
    kind: str = "mixed",
    piece: int = PIECE,
    every: float = 0,
) -> AsyncIterator[Page]:
    """A chat that has long conversations, and whose next answer is so long; the question is written, not sent."""
    text = answer_of(kilobytes * 1000, kind)
    pieces = [text[at : at + piece] for at in range(0, len(text), piece)]
    earlier = tuple(conversation(each, f"Question {each}", each / 9 + 0.1) for each in range(kept))
    for each in earlier:
        each["turns"][1]["text"] = text[:100_000]
    ready = (("see", "What would you like to know?"), ("write", "Message", "Tell me all"))
    state = State("chat-answer", "ai-chat", "", ready, {CHAT: words(*pieces)._replace(every=every)}, "", earlier)
    gallery.put(state)
    async with in_state(gallery, browser, state, window=DESKTOP) as page:
        yield page


async def measure(kilobytes: int, rounds: int, kept: int) -> None:
    async with at_the_gallery() as (gallery, browser):
        for _ in range(rounds):
            async with in_the_chat(gallery, browser, kilobytes=kilobytes, kept=kept) as page:
                await page.evaluate(WATCH)
                await page.wait_for_timeout(3000)
                print("idle   ", told(await page.evaluate(SEEN)), flush=True)
                await page.evaluate(WATCH)
                await page.get_by_label("Message", exact=True).press(SEND[2])
                await page.get_by_text("412 tokens").wait_for(timeout=120_000)
                print("drawing", told(await page.evaluate(SEEN)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kilobytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kept", type=int, default=30, help="conversations of 100 KB that the browser keeps already")
    given = parser.parse_args()
    asyncio.run(measure(given.kilobytes, given.rounds, given.kept))
