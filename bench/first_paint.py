"""How soon each page is seen, and how much it loads: `python -m bench.first_paint [--rounds 5]`.

A gateway on loopback, headless Chromium signed in by an operator's key, each round a browser of its own with nothing in
its cache. Told are median and least of the first contentful paint, as the browser reports it, counted from the click
(the gateway's own answer is within), the median first byte, and the compressed bytes of the page and its files. Beside
them the paint of a line of text from the same gateway: what browser and machine need for anything at all.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / each) for each in ("", "dashboard")]

from browser_kit import browsing, visiting  # noqa: E402
from kit import Stage  # noqa: E402
from playwright.async_api import Browser  # noqa: E402

from gateway.dashboard.pages import PAGES  # noqa: E402

KEY = "sk-owner-0123456789abcdefghijk"
KEYS = [{"id": "owner", "user": 42, "key": KEY, "scopes": ["ai:use", "ai:manage", "usage:read"]}]
SEEN = """async () => {
  const painted = () => performance.getEntriesByName("first-contentful-paint")[0];
  while (!painted()) await new Promise(requestAnimationFrame);
  const [page] = performance.getEntriesByType("navigation");
  const files = performance.getEntriesByType("resource").filter(each => each.name.includes("/dashboard/static/"));
  const sizes = [page, ...files].map(each => each.encodedBodySize);
  return {paint: painted().startTime, first: page.responseStart, bytes: sizes.reduce((a, b) => a + b, 0)};
}"""


def page_path(name: str) -> str:
    return f"/dashboard/{name}"


async def seen(browser: Browser, stage: Stage, path: str) -> dict[str, Any]:
    """One page, in a browser that has nothing of it."""
    async with visiting(browser, stage) as page:
        await page.context.request.post(
            f"{stage.url}/dashboard/session",
            data={"key": KEY},
            headers={"sec-fetch-site": "same-origin"},
        )
        await page.goto(f"{stage.url}{path}", wait_until="load")
        return dict(await page.evaluate(SEEN))


async def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with Stage.open(Path(directory), keys=KEYS) as stage, browsing() as browser:
            await seen(browser, stage, page_path(PAGES[0].name))  # what is the browser's own start is left out
            floor = [await seen(browser, stage, "/healthz") for _ in range(rounds)]
            print(f"{'a line of text':24} {paints(floor)}", flush=True)
            for each in PAGES:
                taken = [await seen(browser, stage, page_path(each.name)) for _ in range(rounds)]
                first, size = (statistics.median(one[of] for one in taken) for of in ("first", "bytes"))
                shown = f"{paints(taken)}, first byte {first:4.0f} ms, {size / 1024:5.1f} KiB"
                print(f"{page_path(each.name):24} {shown}", flush=True)


def paints(taken: list[dict[str, Any]]) -> str:
    every = [one["paint"] for one in taken]
    return f"paint {statistics.median(every):5.0f} ms (at least {min(every):4.0f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(measure(parser.parse_args().rounds))
