"""What happens to a page beside its task: back and forward, paper, time that goes by, a session that ends."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from chat_kit import ADA, Desk, message, said, say, settled
from desk_kit import HOSTILE, OWNER, admin, at_the_desk
from kit import events
from kit.answers import DONE, delta, usage_only
from playwright.async_api import Route, expect
from usage_kit import usage_page

LONG = "\n\n".join(f"Paragraph {each} of an answer that fills pages. " + "word " * 60 for each in range(60))


async def test_lists_go_back_and_forward(tmp_path: Path) -> None:
    """Each tab of the users' page is a step; a reload keeps tab and search."""
    async with at_the_desk(tmp_path, "users", organisations=[{"id": 10, "name": "Example Org"}]) as (_, page):
        await page.get_by_role("button", name="Organisations").press("Enter")
        await page.get_by_role("button", name="Example Org").wait_for()
        await page.get_by_role("button", name="Features").press("Enter")
        await page.get_by_label("Another feature").wait_for()
        await page.go_back()
        await page.get_by_role("button", name="Example Org").wait_for()
        await page.go_back()
        await expect(page.get_by_role("button", name="Users", exact=True)).to_have_attribute("aria-pressed", "true")
        await page.go_forward()
        search = page.get_by_label("Search organisations")
        await page.get_by_role("button", name="Example Org").wait_for()
        await search.fill("nobody")
        await page.get_by_text("None of those listed is like").wait_for()
        await page.reload()
        await page.get_by_text("None of those listed is like").wait_for()
        await expect(search).to_have_value("nobody")


async def test_an_explanation_is_in_the_address(tmp_path: Path) -> None:
    async with at_the_desk(tmp_path, "fleet") as (_, page):
        await page.get_by_label("By", exact=True).select_option("key")
        await page.get_by_label("Who (id)").fill("owner")
        await page.get_by_role("button", name="Explain").press("Enter")
        await page.get_by_text("Sources, in order").wait_for()
        await page.reload()
        await expect(page.get_by_label("By", exact=True)).to_have_value("key")
        await expect(page.get_by_label("Who (id)")).to_have_value("owner")


async def test_a_conversation_is_printed_whole(tmp_path: Path) -> None:
    """On paper nothing is cut off at a window's height, nothing is to be clicked, and the dark is light."""
    async with Desk.open(tmp_path) as desk, desk.sitting(color_scheme="dark") as page:
        desk.first.replies(said(LONG))
        await say(page, "Tell me all")
        await settled(page)
        await page.emulate_media(media="print", color_scheme="dark")
        clipped = "() => { const at = document.querySelector('.thread'); return at.scrollHeight - at.clientHeight; }"
        assert await page.evaluate(clipped) <= 1
        assert await page.evaluate("() => document.documentElement.scrollHeight") > 3 * 900
        await expect(message(page)).to_be_hidden()
        await expect(page.get_by_role("navigation")).to_be_hidden()
        await page.get_by_text("Paragraph 59").wait_for()
        assert await page.evaluate("() => getComputedStyle(document.documentElement).colorScheme") == "light"


async def test_nothing_moves_for_those_who_ask_so(tmp_path: Path) -> None:
    """Not the dots of an answer that has not begun, nor any change of colour."""
    moving = """() => [...document.querySelectorAll("*")].filter(each => {
      const style = getComputedStyle(each);
      return style.animationName !== "none" || style.transitionDuration.split(", ").some(each => parseFloat(each) > 0);
    }).length"""
    async with Desk.open(tmp_path) as desk, desk.sitting(reduced_motion="reduce") as page:
        release = asyncio.Event()
        desk.first.replies(events(release, delta("There."), usage_only(), DONE))
        await say(page, "Anybody?")
        await page.locator(".dots").wait_for()
        assert await page.evaluate(moving) == 0
        await page.emulate_media(reduced_motion="no-preference")
        assert await page.evaluate(moving) > 0
        release.set()
        await settled(page)


async def test_times_go_on(tmp_path: Path) -> None:
    """What was said to be a moment ago is said anew as an open page grows old; the exact time is on hover."""
    async with usage_page(tmp_path, rows=30) as (stage, page):
        await page.clock.install()
        await page.goto(f"{stage.url}/dashboard/usage")
        first = page.locator("details.receipt time").first
        await expect(first).to_have_text(re.compile(r"^now$|ago$"))  # as slow as the machine is
        await expect(first).to_have_attribute("title", page_time := await first.get_attribute("title") or "")
        assert page_time.endswith(" UTC")
        await page.clock.fast_forward("03:00:00")
        await expect(first).to_have_text("3 hours ago")


@pytest.mark.parametrize(("currency", "sign"), [("EUR", "€"), ("JPY", "¥")])
async def test_money_is_in_the_gateways_currency(tmp_path: Path, currency: str, sign: str) -> None:
    """Under an answer, in totals, on the axis and in the table; no other currency anywhere."""
    async with Desk.open(tmp_path, usage={"currency": currency}) as desk, desk.sitting() as page:
        desk.first.replies(said("Yes."))
        await say(page, "Ready?")
        await page.locator(".counted", has_text=sign).wait_for()
        await page.goto(f"{desk.stage.url}/dashboard/usage")
        await expect(page.get_by_label("Totals")).to_contain_text(sign)
        await expect(page.get_by_label("By model")).to_contain_text(sign)
        await expect(page.locator(".bars text").first).to_contain_text(sign)
        await page.locator("details.receipt summary").first.click()
        await expect(page.locator("details.receipt").first).to_contain_text(sign)
        assert "$" not in await page.locator("main").inner_text()


async def test_hostile_names_are_words_in_soc(tmp_path: Path) -> None:
    """Forty names of users, organisations, models and endpoints in tables, bars and what is read of a day."""
    names = [name[:20_000] for name in HOSTILE]
    async with usage_page(tmp_path, OWNER, rows=20) as (stage, page):

        async def hostile(route: Route) -> None:
            answer = await (await route.fetch()).json()
            some = answer["rows"][0]
            fields = ("model", "name", "endpoint", "key", "user", "organisation")
            answer["rows"] = [some | dict.fromkeys(fields, name) for name in names]
            await route.fulfill(json=answer)

        await page.route("**/api/soc/usage?*", hostile)
        for by in ("model", "endpoint", "organisation"):
            await page.goto(f"{stage.url}/dashboard/soc?by={by}")
            await page.get_by_text("35 others").first.wait_for()
            await page.get_by_label("Top users").get_by_role("row").nth(len(names)).wait_for()
            await page.get_by_text("As a table").click()
            await page.get_by_label("Each day").get_by_role("row").first.wait_for()
            assert await page.evaluate("() => window.ran") is None
            assert await page.locator("main img, main script, main iframe, main style, main base").count() == 0
            shown = await page.locator("main").inner_text()
            assert not set(shown) & set("\u202e\u2066\u2067\u2068")
            assert await page.evaluate("document.documentElement.scrollWidth") <= 1280


async def test_a_panel_keeps_what_was_typed_when_the_session_ends(tmp_path: Path) -> None:
    """Saving says so, in place; signed in again, it is saved."""
    async with at_the_desk(tmp_path, "users") as (stage, page):
        await page.get_by_role("button", name="New user").click()
        panel = page.get_by_role("dialog", name="New user")
        await panel.get_by_label("Id", exact=True).fill("1815")
        await panel.get_by_label("Name", exact=True).fill("Ada")
        await page.context.clear_cookies()
        await panel.get_by_role("button", name="Make the user").click()
        await page.get_by_role("dialog", name="Your session is over").wait_for()
        await page.get_by_label("Your key").fill(OWNER)
        await page.get_by_role("button", name="Sign in").click()
        await expect(panel.get_by_label("Name", exact=True)).to_have_value("Ada")
        await panel.get_by_role("button", name="Make the user").click()
        await page.get_by_role("button", name="Ada").wait_for()
        assert (await admin(stage, "GET", "users/1815")).json()["name"] == "Ada"


async def test_a_key_revoked_while_its_answer_comes(tmp_path: Path) -> None:
    """The answer comes to its end; the next message asks to sign in, and is asked once somebody has."""
    records = [
        {"id": "owner", "user": 1, "key": OWNER, "scopes": ["ai:use", "ai:manage"]},
        {"id": "ada", "user": 42, "key": ADA},
    ]
    async with Desk.open(tmp_path, keys=records) as desk:
        made = await admin(desk.stage, "POST", "keys", {"user": 42, "scopes": ["ai:use"]})
        release = asyncio.Event()
        desk.first.replies(events(delta("begun "), release, delta("and ended"), usage_only(), DONE), said("Again."))
        async with desk.sitting(made.json()["key"]) as page:
            await say(page, "First")
            await page.get_by_text("begun").wait_for()
            assert (await admin(desk.stage, "DELETE", f"keys/{made.json()['id']}")).status == 200
            release.set()
            await page.get_by_text("begun and ended").wait_for()
            over = page.get_by_role("dialog", name="Your session is over")
            if not await over.is_visible():  # the receipt may have told already
                await say(page, "Second")
            await over.wait_for()
            await page.get_by_label("Your key").fill(ADA)
            await page.get_by_role("button", name="Sign in").click()
            await expect(over).to_have_count(0)
            await page.get_by_text("begun and ended").wait_for()
            assert await page.get_by_label("Account: user 42").or_(page.get_by_label("Account: Ada")).count() == 1


async def test_the_fleet_comes_back_after_being_offline(tmp_path: Path) -> None:
    """Requests as they run say that nothing is heard, and go on by themselves."""
    async with at_the_desk(tmp_path, "fleet") as (_, page):
        how = page.get_by_role("status").filter(has_text="as they run")
        await how.first.wait_for()
        await page.context.set_offline(True)
        await page.evaluate("() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true}); }")
        await page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        await page.get_by_text("stopped while hidden").wait_for()
        await page.evaluate("() => { Object.defineProperty(document, 'hidden', {value: false, configurable: true}); }")
        await page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        await page.get_by_text("not connected; trying again").wait_for()
        await page.context.set_offline(False)
        await how.first.wait_for()
