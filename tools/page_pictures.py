"""Take the docs' pictures of the pages: `python -m tools.page_pictures`.

A gateway of the tests' kit with made-up usage, in a real browser. Needs the tests' requirements and chromium.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pages"
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 360, "height": 780}
# name, page, window, scheme, what to press before
TAKEN = (
    ("usage", "usage", WIDE, "light", None),
    ("usage-dark", "usage?by=key&measure=tokens", WIDE, "dark", None),
    ("usage-narrow", "usage", NARROW, "light", None),
    ("soc", "soc?days=90", WIDE, "light", None),
    ("keys", "keys", WIDE, "light", None),
    ("new-key", "keys", WIDE, "light", "New key"),
)


async def take() -> None:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "dashboard")]
    from usage_kit import OWNER, usage_page

    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as directory:
        async with usage_page(Path(directory), OWNER, rows=900) as (stage, page):
            for name, path, window, scheme, pressed in TAKEN:
                await page.set_viewport_size(window)
                await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                await page.goto(f"{stage.url}/dashboard/{path}", wait_until="networkidle")
                if pressed is not None:
                    await make_key(page, pressed)
                await page.screenshot(path=PICTURES / f"{name}.png")


async def make_key(page: Any, button: str) -> None:
    await page.get_by_role("button", name=button).click()
    await page.keyboard.type("phone")
    await page.keyboard.press("Enter")
    await page.get_by_label("Key", exact=True).wait_for()


if __name__ == "__main__":
    asyncio.run(take())
