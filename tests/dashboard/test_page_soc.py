"""What anybody used, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from axe_kit import assert_accessible
from desk_kit import admin
from kit import KEYS
from kit.answers import upstream_error
from playwright.async_api import expect
from usage_kit import OWNER, usage_page


async def test_from_everybody_to_one_by_keyboard(tmp_path: Path) -> None:
    """Top tables lead to a user and an organisation; `/` finds the field for another; its requests are receipts."""
    async with usage_page(tmp_path, OWNER) as (stage, page):
        whole = (await stage.get("/api/soc/usage?from=2020-01-01&group=user", key=OWNER)).json()
        await page.goto(f"{stage.url}/dashboard/soc?days=90")
        await expect(page.get_by_label("Totals")).to_contain_text(str(whole["totals"]["requests"]))
        await page.get_by_label("Top users").get_by_role("button", name="visitor").press("Enter")
        await page.wait_for_url("**user=visitor*")
        await expect(page.get_by_label("Whose")).to_have_value("user")
        await page.locator("details.receipt").first.wait_for()
        await page.locator("h1").click()
        await page.keyboard.press("/")
        await page.locator("input[name=id]:focus").wait_for()
        await page.keyboard.press("Control+A")
        await page.keyboard.type("7")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**user=7*")
        of_seven = next(row["requests"] for row in whole["rows"] if row["user"] == 7)
        await expect(page.get_by_label("Totals")).to_contain_text(str(of_seven))
        await page.goto(f"{stage.url}/dashboard/soc?org=10&days=90&by=key")
        await expect(page.get_by_label("Top users").get_by_role("row")).to_have_count(2)
        await assert_accessible(page)


async def test_names_stand_beside_ids(tmp_path: Path) -> None:
    """For whoever may look users up; a user without a record keeps the id alone."""
    async with usage_page(tmp_path, OWNER) as (stage, page):
        assert (await admin(stage, "PUT", "users/7", {"name": "Bob"})).status in (200, 201)
        await page.goto(f"{stage.url}/dashboard/soc")
        top = page.get_by_role("region", name="Top users")
        await top.get_by_role("button", name="Bob 7").wait_for()
        await top.get_by_role("button", name="visitor", exact=True).wait_for()


async def test_rate_limits_are_ticks_and_rows(tmp_path: Path) -> None:
    """An upstream that asked to wait is told of, to those who manage."""
    async with usage_page(tmp_path, OWNER, rows=20) as (stage, page):
        stage.upstream.endpoint("whisper-a").always(upstream_error(429))
        await stage.post({"model": "whisper", "messages": [{"role": "user", "content": "Hi"}]}, key=KEYS["user"])
        await page.goto(f"{stage.url}/dashboard/soc")
        events = page.get_by_label("Newest cooldowns")
        await expect(events).to_contain_text("whisper")
        await expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", re.compile("1 endpoint cooled"))


async def test_it_is_not_everybodys(tmp_path: Path) -> None:
    async with usage_page(tmp_path, rows=0) as (stage, page):
        await page.goto(f"{stage.url}/dashboard/soc")
        await page.get_by_text("Your key does not open this page.").wait_for()
