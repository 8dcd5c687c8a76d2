"""The frame around the pages, in a real browser."""

from __future__ import annotations

from pathlib import Path

from browser_kit import browsing, visiting
from kit import KEYS, Stage

OWNER = "sk-owner-0123456789abcdefghijk"
ALL = [{"id": "owner", "user": 42, "key": OWNER, "scopes": ["ai:use", "ai:manage", "usage:read"]}]
ALL += [{"id": "user", "user": 42, "key": KEYS["user"]}]


async def test_pages_are_those_that_the_key_opens(tmp_path: Path) -> None:
    """Signed in by keyboard; operators' pages are absent for others; `g u` goes to usage; signed out at the end."""
    async with Stage.open(tmp_path, keys=ALL) as stage, browsing() as browser:
        async with visiting(browser, stage, OWNER) as page:
            names = await page.get_by_role("navigation").get_by_role("link").all_inner_texts()
            assert names == ["Chat", "Studio", "Usage", "Keys", "Models", "Users", "Fleet", "SOC"]
        async with visiting(browser, stage) as page:
            await page.goto(f"{stage.url}/dashboard/usage")
            await page.locator("input:focus").wait_for()
            await page.keyboard.type(KEYS["user"])
            await page.keyboard.press("Enter")
            await page.get_by_role("link", name="Keys").wait_for()
            assert page.url.endswith("/dashboard/usage")
            names = await page.get_by_role("navigation").get_by_role("link").all_inner_texts()
            assert names == ["Chat", "Studio", "Usage", "Keys"]
            await page.keyboard.press("g")
            await page.keyboard.press("k")
            await page.wait_for_url("**/dashboard/keys")
            await page.goto(f"{stage.url}/dashboard/fleet")
            await page.get_by_text("Your key does not open this page.").wait_for()
            await page.get_by_role("button", name="Account").click()
            await page.get_by_role("button", name="Sign out").click()
            await page.get_by_label("Your key").wait_for()


async def test_a_wrong_key_is_said_in_words(tmp_path: Path) -> None:
    async with Stage.open(tmp_path, keys=ALL) as stage, browsing() as browser, visiting(browser, stage) as page:
        await page.goto(f"{stage.url}/dashboard/session")
        await page.get_by_label("Your key").fill("sk-wrong")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_text("This key is not valid.").wait_for()
