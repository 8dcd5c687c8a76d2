"""An operator's pages over a stage, and names that somebody hostile chose."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from browser_kit import browsing, visiting
from kit import KEYS, Reply, Stage, Wire, request_bytes
from playwright.async_api import Page

OWNER = "sk-owner-0123456789abcdefghijk"
KEY_RECORDS = [
    {"id": "owner", "user": "root", "key": OWNER, "scopes": ["ai:use", "ai:manage", "usage:read"]},
    {"id": "user", "user": 42, "key": KEYS["user"]},
]
OPEN = {"private_endpoints": ["127.0.0.0/8"]}

# Where one of these ran, `window.ran` would be there.
_RUN = "window.ran=1"
HOSTILE = [
    f"<script>{_RUN}</script>",
    f"<img src=x onerror={_RUN}>",
    f"<svg onload={_RUN}>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'>",
    f"<a href='javascript:{_RUN}'>a</a>",
    f"javascript:{_RUN}",
    f"data:text/html,<script>{_RUN}</script>",
    f"</title><script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"--><script>{_RUN}</script><!--",
    f"'\"><script>{_RUN}</script>",
    f"` onmouseover={_RUN} `",
    "<style>*{display:none}</style>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><input autofocus>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "${window.ran=1}",
    "{{constructor.constructor('window.ran=1')()}}",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "\u202egnp.exe",
    "\u2066\u2067\u2068a\u2069",
    "\u200b\u200c\u200d\ufeff",
    "a\u0000b".replace("\u0000", "\u0001"),
    "line\nbreak\r\ttab",
    "\u001b[31mred\u001b[0m",
    "a\u2028b\u2029c",
    "Z" + "\u0335\u0336\u0337" * 300,
    "مرحبا بالعالم",
    "👩‍👩‍👧‍👦" * 40,
    "../../etc/passwd",
    "..",
    "%2e%2e%2f%00",
    "a/b?c=d#e",
    "' OR 1=1 --",
    "0",
    "x" * 1_000_000,
]


@asynccontextmanager
async def at_the_desk(directory: Path, path: str, **sections: Any) -> AsyncIterator[tuple[Stage, Page]]:
    """An operator who has just come to this page, by keyboard alone."""
    async with (
        Stage.open(directory, keys=KEY_RECORDS, server=OPEN, **sections) as stage,
        browsing() as browser,
        visiting(browser, stage, OWNER) as page,
    ):
        await page.goto(f"{stage.url}/dashboard/{path}")
        yield stage, page


async def admin(stage: Stage, method: str, path: str, body: Any = None) -> Reply:
    payload = None if body is None else json.dumps(body).encode()
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, f"/api/admin/{path}", payload, key=OWNER))
        return await wire.reply()


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this accessible name has the focus."""
    for _ in range(80):
        await page.keyboard.press("Tab")
        if await page.evaluate(_FOCUSED_NAME) == name:
            return
    raise AssertionError(f"the keyboard does not come to {name!r}")


_FOCUSED_NAME = """() => {
  const at = document.activeElement;
  const label = at.labels?.[0];
  const own = [...(label?.childNodes ?? [])].find((node) => node.textContent.trim() && node !== at);
  return at.getAttribute('aria-label') ?? (own ? own.textContent.trim() : at.textContent.trim());
}"""
