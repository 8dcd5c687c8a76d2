"""Take the docs' pictures of the operators' pages: `python -m tools.desk_pictures`.

A gateway of the tests' kit, in a real browser. Needs the tests' requirements and chromium.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pages"
NAMES = {
    "gpt-4o": ("openai-a", "openai-b"),
    "claude-sonnet": ("anthropic", "bedrock"),
    "llama-3.3-70b": ("groq", "gpu"),
}


async def take() -> None:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "dashboard")]
    from desk_kit import at_the_desk
    from kit import ask
    from kit.answers import upstream_error
    from kit.stage import endpoint, model

    def models(upstream: Any) -> list[dict[str, Any]]:
        return [
            model(name, [endpoint(upstream, each, priority=place) for place, each in enumerate(endpoints)])
            for name, endpoints in NAMES.items()
        ]

    users = [{"id": 42, "name": "Ada", "tier": "paid", "plans": ["pro"]}, {"id": 7, "name": "Bob", "tier": "free"}]
    known = {"users": users, "plans": [{"id": "pro", "name": "Pro"}]}
    with TemporaryDirectory() as directory:
        async with at_the_desk(Path(directory), "fleet", models=models, **known) as (stage, page):
            await page.set_viewport_size({"width": 1200, "height": 900})
            await page.get_by_text("as they run", exact=True).wait_for()
            stage.upstream.endpoint("openai-a").replies(upstream_error(429, retry_after="12"))
            for name in (*NAMES, *NAMES):
                await stage.post(ask(name))
            await page.get_by_text("cooling").wait_for()
            await page.get_by_role("region", name="Requests").get_by_role("row").nth(len(NAMES)).wait_for()
            await page.screenshot(path=PICTURES / "fleet.png")
            await page.goto(f"{stage.url}/dashboard/models")
            await page.get_by_role("button", name="New model").click()
            await page.screenshot(path=PICTURES / "models.png")
            await page.goto(f"{stage.url}/dashboard/users")
            await page.get_by_role("button", name="Ada").click()
            await page.get_by_role("heading", name="Keys").wait_for()
            await page.screenshot(path=PICTURES / "users.png")


if __name__ == "__main__":
    asyncio.run(take())
