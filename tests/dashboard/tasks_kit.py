"""How long a page's main thread was busy at a stretch: in its own CPU time, so that a loaded machine does not count."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from playwright.async_api import Browser, Page


@dataclass
class Longest:
    """The longest task: milliseconds of CPU, and by the clock. Known once the block is over."""

    cpu: float = 0.0
    clock: float = 0.0


@asynccontextmanager
async def longest_task(browser: Browser, page: Page) -> AsyncIterator[Longest]:
    longest = Longest()
    await browser.start_tracing(page=page, categories=["toplevel"])
    try:
        yield longest
    finally:
        events = json.loads(await browser.stop_tracing())["traceEvents"]
    mains = {
        (each["pid"], each["tid"])
        for each in events
        if each.get("name") == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    tasks = [each for each in events if each.get("ph") == "X" and (each["pid"], each["tid"]) in mains]
    assert tasks
    longest.cpu = max(each.get("tdur", each["dur"]) for each in tasks) / 1000
    longest.clock = max(each["dur"] for each in tasks) / 1000
