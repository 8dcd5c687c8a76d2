"""Take the docs' pictures of chat and studio: `python -m tools.chat_pictures`.

One scene a page: a coroutine that brings it to what the picture shows. Needs the tests' requirements and chromium.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "dashboard")]

from browser_kit import visiting  # noqa: E402
from chat_kit import ADA, Desk, said, say, settled  # noqa: E402
from playwright.async_api import Page  # noqa: E402

PICTURES = ROOT / "docs" / "pages"
SIZE = {"width": 1280, "height": 840}

ANSWER = """Worlds are saved *before* the process ends, so restarting is **safe**:

1. Open the console on the machine
   - as the user that runs the server
2. Run this:

```bash
sudo systemctl restart minecraft
journalctl -u minecraft -f
```

| setting | default | what it does |
|:--|--:|:--|
| `RestartSec` | 5 s | waits before it starts again |
| `TimeoutStopSec` | 90 s | how long saving may take |
"""
SCHEMA = """{
  "type": "object",
  "properties": {
    "mood": { "enum": ["calm", "angry"] },
    "urgent": { "type": "boolean" }
  },
  "required": ["mood", "urgent"]
}"""


async def chat(desk: Desk, page: Page) -> None:
    desk.first.always(said("Yes."))
    await say(page, "Can players be told before it stops?")
    await settled(page)
    await page.get_by_role("button", name="+ New").click()
    desk.first.always(said(*ANSWER.splitlines(keepends=True)))
    await say(page, "How do I restart my server?")
    await settled(page)


async def studio(desk: Desk, page: Page) -> None:
    desk.first.always(said('{"mood": "angry",', ' "urgent": true}'))
    desk.stage.upstream.endpoint("second").always(said('{"mood": "angry", "urgent": "yes"}'))
    await page.get_by_label("System prompt").fill("You sort what customers write to a hosting company.")
    await page.get_by_label("Message", exact=True).fill("My server has been down since this morning!")
    await page.get_by_label("Temperature").fill("0")
    await page.get_by_label("Structured output").check()
    await page.get_by_label("JSON schema").fill(SCHEMA)
    await page.get_by_role("button", name="Compare two").click()
    await page.get_by_role("button", name="Run").click()
    await page.locator(".counted").nth(1).wait_for()


SCENES: dict[str, Callable[[Desk, Page], Awaitable[None]]] = {"ai-chat": chat, "ai-studio": studio}


async def take(names: list[str]) -> None:
    PICTURES.mkdir(exist_ok=True)
    for name in names or SCENES:
        with tempfile.TemporaryDirectory() as directory:
            async with (
                Desk.open(Path(directory), usage={"currency": "USD"}) as desk,
                visiting(desk.browser, desk.stage, ADA, viewport=SIZE, reduced_motion="reduce") as page,
            ):
                await page.goto(f"{desk.stage.url}/dashboard/{name}")
                await page.locator("main .picker").first.wait_for()
                await SCENES[name](desk, page)
                await page.wait_for_timeout(1000)  # receipts are there within a second
                await page.evaluate("() => scrollTo(0, 0)")
                await page.screenshot(path=str(PICTURES / f"{name}.png"))


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1:]))
