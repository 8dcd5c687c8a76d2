"""The operators' pages as a screen reader meets them, and on a narrow screen."""

from __future__ import annotations

from pathlib import Path

from axe_kit import assert_accessible
from desk_kit import at_the_desk
from kit.stage import endpoint, model
from kit.upstream import FakeUpstream


def one_model(upstream: FakeUpstream) -> list[dict[str, object]]:
    return [model("gpt", [endpoint(upstream, "first")])]


async def test_axe_finds_nothing_and_nothing_is_wider_than_a_phone(tmp_path: Path) -> None:
    """On each page, and in each panel."""
    users = [{"id": 42, "name": "Ada"}]
    async with at_the_desk(tmp_path, "fleet", models=one_model, users=users) as (stage, page):
        await page.get_by_text("as they run", exact=True).wait_for()
        for name, button, panel in (("fleet", "Refresh", False), ("models", "gpt", True), ("users", "Ada", True)):
            await page.set_viewport_size({"width": 360, "height": 780})
            await page.goto(f"{stage.url}/dashboard/{name}")
            await page.get_by_role("button", name=button, exact=True).wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            await assert_accessible(page)
            if panel:
                await page.get_by_role("button", name=button, exact=True).click()
                await page.get_by_role("dialog").wait_for()
                await assert_accessible(page)
