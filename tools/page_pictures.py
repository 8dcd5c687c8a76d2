"""Take the docs' pictures of the pages: `python -m tools.page_pictures [NAME …]`.

Each is a state of the gallery (`gateway demo --pages`) in a real browser. Needs the tests' requirements and chromium;
`--all FOLDER [STATE …]` takes every state at 360 and 1,440 px and at 4K, in light and in dark, to be looked at.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "dashboard")]

from gallery_kit import DESKTOP, PHONE, at_the_gallery, in_state  # noqa: E402

from gateway.demo.gallery.serving import ALL_STATES  # noqa: E402

PICTURES = ROOT / "docs" / "pages"
WIDE = {"width": 1200, "height": 840}
UHD = {"width": 3840, "height": 2160}
# picture, state, window, scheme
TAKEN = (
    ("ai-chat", "chat-answer", WIDE, "light"),
    ("ai-chat-narrow", "chat-limit", PHONE, "dark"),
    ("ai-studio", "studio-two", WIDE, "light"),
    ("usage", "usage", WIDE, "light"),
    ("usage-dark", "usage", WIDE, "dark"),
    ("usage-narrow", "usage-limits", PHONE, "light"),
    ("soc", "soc", WIDE, "light"),
    ("keys", "keys", WIDE, "light"),
    ("new-key", "keys-made", WIDE, "light"),
    ("models", "models-edit", WIDE, "light"),
    ("users", "users-panel", WIDE, "light"),
    ("fleet", "fleet", WIDE, "light"),
    ("more-narrow", "more", PHONE, "light"),
)


async def take(wanted: list[tuple[str, str, dict[str, int], str]], folder: Path) -> None:
    states = {each.name: each for each in ALL_STATES}
    async with at_the_gallery() as (gallery, browser):
        for name, state, window, scheme in wanted:
            async with in_state(gallery, browser, states[state], window=window, scheme=scheme) as page:
                await page.wait_for_timeout(300)  # what moves has come to rest
                await page.screenshot(path=folder / f"{name}.png")


def main(arguments: list[str]) -> None:
    PICTURES.mkdir(exist_ok=True)
    if arguments[:1] == ["--all"]:
        every = [
            (f"{state.name}-{window['width']}-{scheme}", state.name, window, scheme)
            for state in ALL_STATES
            if not arguments[2:] or state.name in arguments[2:]
            for window in (PHONE, DESKTOP, UHD)
            for scheme in ("light", "dark")
        ]
        asyncio.run(take(every, Path(arguments[1])))
    else:
        asyncio.run(take([each for each in TAKEN if not arguments or each[0] in arguments], PICTURES))


if __name__ == "__main__":
    main(sys.argv[1:])
