"""The page of one's usage, in a real browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from axe_kit import assert_accessible
from playwright.async_api import Route, expect
from usage_kit import usage_page


async def test_a_day_is_read_by_keyboard(tmp_path: Path) -> None:
    """Totals, the fullest limit first, bars by arrow keys; every filter is in the address, back goes back."""
    async with usage_page(tmp_path) as (stage, page):
        await page.goto(f"{stage.url}/dashboard/usage")
        limits = page.get_by_role("meter")
        await expect(limits.first).to_have_attribute("aria-valuetext", "85 %: 17 of 20 requests")
        await expect(page.get_by_label("Limits")).to_contain_text(re.compile(r"resets .*00:00 UTC"))
        own = (await stage.get("/api/ai/usage?from=2020-01-01&group=day,model")).json()
        today = datetime.now(UTC).date().isoformat()
        bars = page.get_by_role("slider", name="cost by day")
        await bars.focus()
        await expect(bars).to_have_attribute("aria-valuenow", "30")
        await page.keyboard.press("ArrowLeft")
        await expect(bars).to_have_attribute("aria-valuenow", "29")
        await page.keyboard.press("End")

        await page.get_by_role("button", name="requests", exact=True).press("Enter")
        of_today = sum(row["requests"] for row in own["rows"] if row["day"] == today)
        bars = page.get_by_role("slider", name="requests by day")
        await expect(bars).to_have_attribute("aria-valuetext", re.compile(f"2026|{today[:4]}: {of_today}, "))
        ninety = page.get_by_role("button", name="90 d")
        await ninety.press("Enter")
        await expect(ninety).to_have_attribute("aria-pressed", "true")
        await expect(ninety).to_be_focused()
        await expect(page.get_by_label("Totals")).to_contain_text(f"{own['totals']['requests']:,}")
        await page.get_by_role("button", name="key", exact=True).press("Enter")
        await page.get_by_label("By key").get_by_role("button", name="user").press("Enter")
        await page.get_by_text("Only key").wait_for()
        for part in ("measure=requests", "days=90", "by=key", "only=user"):
            assert part in page.url
        await page.reload()
        await page.get_by_text("Only key").wait_for()
        await page.go_back()
        await expect(page.get_by_text("Only key")).to_have_count(0)


async def test_a_table_csv_and_receipts(tmp_path: Path) -> None:
    """What bars show is a table as well; CSV is a link; requests are receipts, older ones on demand."""
    async with usage_page(tmp_path) as (stage, page):
        await page.goto(f"{stage.url}/dashboard/usage")
        await page.get_by_text("As a table").click()
        await expect(page.get_by_label("Each day").get_by_role("row")).to_have_count(31)
        link = await page.get_by_role("link", name="CSV").get_attribute("href")
        exported = await page.request.get(stage.url + str(link))
        assert exported.status == 200
        assert (await exported.text()).startswith("request_id,")
        receipts = page.locator("details.receipt")
        await expect(receipts).to_have_count(20)
        await receipts.first.locator("summary").press("Enter")
        for told in ("chat/completions", "its answer", "input", "output"):
            await expect(receipts.first).to_contain_text(told)
        await page.get_by_role("button", name="Older ones").press("Enter")
        await expect(receipts).to_have_count(40)
        await page.get_by_role("button", name="qwen-coder").press("Enter")
        await page.get_by_text("Only model").wait_for()
        await expect(receipts.first).to_contain_text("qwen-coder")
        await assert_accessible(page)


async def test_cached_tokens_stand_beside_the_prompt(tmp_path: Path) -> None:
    """In the table of models, and of days where the bars are of tokens."""
    async with usage_page(tmp_path, rows=50) as (stage, page):

        async def cached(route: Route) -> None:
            answer = await (await route.fetch()).json()
            answer["rows"] = [row | {"cachedTokens": 1_234} for row in answer["rows"] if row["name"] == "gpt-4o"][:1]
            await route.fulfill(json=answer)

        await page.route("**/api/ai/usage?*", cached)
        await page.goto(f"{stage.url}/dashboard/usage?measure=tokens")
        table = page.get_by_label("By model")
        await expect(table.get_by_role("columnheader")).to_have_text(
            ["model", "Requests", "Prompt", "Cached", "Completion", "Tokens", "Cost"]
        )
        await expect(table.get_by_role("row").nth(1).get_by_role("cell").nth(2)).to_have_text("1,234")
        await page.get_by_text("As a table").click()
        days = page.get_by_label("Each day")
        await expect(days.get_by_role("columnheader").last).to_have_text("Of it cached")
        await expect(days.get_by_role("cell", name="1,234", exact=True)).to_have_count(1)


async def test_a_range_of_ones_own(tmp_path: Path) -> None:
    async with usage_page(tmp_path) as (stage, page):
        await page.goto(f"{stage.url}/dashboard/usage")
        await page.get_by_role("button", name="Custom").click()
        await page.get_by_label("First day").fill("2026-01-01")
        await page.get_by_label("Last day").fill("2026-01-10")
        await page.get_by_role("button", name="Show", exact=True).click()
        await page.get_by_text("Nothing used").wait_for()
        assert page.url.endswith("from=2026-01-01&to=2026-01-10")
        await page.goto(
            f"{stage.url}/dashboard/usage?from=x&by=%3Cb%3E&days=-1&measure=1"
        )  # what is odd is passed over
        await page.get_by_role("slider", name="cost by day").wait_for()


async def test_narrow_and_hostile(tmp_path: Path) -> None:
    """At 360 pixels nothing sticks out; names of any kind are text, and a megabyte of one is cut."""
    async with usage_page(tmp_path, rows=50, viewport={"width": 360, "height": 780}) as (stage, page):
        names = ["<img src=x onerror=alert(1)>", "turned\u202eback", "x" * 1_000_000, "a'\"`${}", "javascript:alert(1)"]

        async def hostile(route: Route) -> None:
            answer = await (await route.fetch()).json()
            some = answer["rows"][0]
            answer["rows"] = [some | {"model": name, "name": name} for name in [*names, *map(str, range(20))]]
            await route.fulfill(json=answer)

        await page.route("**/api/ai/usage?*", hostile)
        await page.goto(f"{stage.url}/dashboard/usage")
        await page.get_by_role("button", name="<img src=x").wait_for()
        assert await page.locator("img, main script").count() == 0
        shown = await page.locator("main").inner_text()
        assert "\u202e" not in shown
        assert len(shown) < 20_000
        await page.get_by_text("20 others").first.wait_for()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        await assert_accessible(page)


async def test_states_of_the_page(tmp_path: Path) -> None:
    """Empty, slow, refused with a request's id, offline and back."""
    async with usage_page(tmp_path, rows=0) as (stage, page):
        target, route = f"{stage.url}/dashboard/usage", "**/api/ai/usage?*"
        await page.goto(target)
        await page.get_by_text("Nothing used").wait_for()
        fault = {"error": "overloaded", "message": "Too many reports are being made."}
        await page.route(route, lambda route: route.fulfill(status=503, json=fault, headers={"x-request-id": "req-7"}))
        await page.goto(target)
        await page.get_by_text("The gateway is busy").wait_for()
        await page.get_by_text("req-7").wait_for()
        await page.unroute(route)
        await page.route(route, lambda route: route.abort())
        await page.goto(target)
        await page.get_by_text("You are offline").wait_for()
        await page.unroute(route)
        await page.evaluate("dispatchEvent(new Event('online'))")
        await page.get_by_text("Nothing used").wait_for()
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        await page.route(route, hold)
        await page.goto(target)
        await page.get_by_text("Loading").first.wait_for(state="attached")
        await held[0].continue_()
        await page.get_by_text("Nothing used").wait_for()
