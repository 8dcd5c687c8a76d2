"""One's own keys, in a real browser: made, renamed, rotated and revoked by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from axe_kit import assert_accessible
from browser_kit import browsing, visiting
from kit import KEYS, FakeUpstream, Stage, ask
from kit.stage import endpoint, model
from playwright.async_api import Page, Route, expect

CLIENTS = ["Python", "Node", "curl", "Codex", "Claude Code", "opencode", "Open WebUI", "LangChain"]
USER = [{"id": "user", "user": 42, "key": KEYS["user"]}]


def one_model(upstream: FakeUpstream) -> Iterator[dict[str, Any]]:
    yield model("gpt-4o", [endpoint(upstream, "a")]) | {"global": True}


@asynccontextmanager
async def keys_page(
    directory: Path, viewport: dict[str, int] | None = None, **sections: Any
) -> AsyncIterator[tuple[Stage, Page]]:
    async with (
        Stage.open(directory, one_model, keys=USER, **sections) as stage,
        browsing() as browser,
        visiting(browser, stage, KEYS["user"], viewport=viewport or {"width": 1280, "height": 900}) as page,
    ):
        yield stage, page


async def open_keys(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}/dashboard/keys")
    await page.get_by_role("tab", name="Python").wait_for()


async def make(page: Page, name: str) -> str:
    """Make a key by keyboard; its text."""
    await page.get_by_role("button", name="New key").focus()
    await page.keyboard.press("Enter")
    await page.locator("input[name=name]:focus").wait_for()
    await page.keyboard.type(name)
    await page.keyboard.press("Enter")
    field = page.get_by_label("Key", exact=True)
    await expect(field).to_be_focused()
    return await field.input_value()


async def test_a_key_is_made_renamed_rotated_and_revoked_by_keyboard(tmp_path: Path) -> None:
    """It is shown once, works, is rotated with a grace that is told, and ends once its name is typed."""
    async with keys_page(tmp_path) as (stage, page):
        await open_keys(page, stage)
        text = await make(page, "phone")
        assert (await stage.post(ask("gpt-4o"), key=text)).status == 200
        await page.keyboard.press("Escape")  # not by accident
        await page.get_by_text("Press Escape once more").wait_for()
        await page.keyboard.press("Escape")
        row = page.get_by_role("row").filter(has_text="phone")
        await expect(row).to_contain_text(f"…{text[-4:]}")
        assert text not in await page.content()

        await page.get_by_role("button", name="Rename phone").press("Enter")
        await page.locator("input[name=name]:focus").wait_for()
        await page.keyboard.press("Control+A")
        await page.keyboard.type("tablet")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Rotate tablet").press("Enter")
        await page.locator("select[name=grace]:focus").wait_for()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        field = page.get_by_label("Key", exact=True)
        await expect(field).to_be_focused()
        await expect(page.get_by_text("The old key holds until")).to_contain_text(re.compile(r"\d{2}:\d{2} UTC"))
        newer = await field.input_value()
        for key in (text, newer):
            assert (await stage.post(ask("gpt-4o"), key=key)).status == 200
        await page.get_by_role("button", name="Done").press("Enter")

        await page.get_by_role("button", name="Revoke tablet").press("Enter")
        await page.locator("input[name=typed]:focus").wait_for()
        await page.keyboard.type("phone")
        await page.keyboard.press("Enter")
        await page.get_by_text("That is not it.").wait_for()
        await page.keyboard.press("Control+A")
        await page.keyboard.type("tablet")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("row").filter(has_text="tablet")).to_have_count(0)
        for key in (text, newer):
            assert (await stage.post(ask("gpt-4o"), key=key)).status == 401


async def test_a_key_is_narrowed_when_it_is_made(tmp_path: Path) -> None:
    """Its end, models, limits and addresses are what the form said; what is wrong is said in the form."""
    async with keys_page(tmp_path) as (stage, page):
        await open_keys(page, stage)
        await page.get_by_role("button", name="New key").click()
        await page.get_by_label("Name").fill("narrow")
        await page.get_by_label("Ends").select_option("30")
        await page.get_by_text("Limits, models, addresses").click()
        await page.get_by_role("checkbox", name="gpt-4o").check()
        await page.get_by_label("Requests", exact=True).fill("50")
        await page.get_by_label("in each").select_option("day")
        await page.get_by_label("Only from these addresses").fill("nowhere")
        await page.get_by_role("button", name="Make key").click()
        await page.get_by_role("alert").filter(has_text="ips").wait_for()
        await page.get_by_label("Only from these addresses").fill("127.0.0.0/8")
        await page.get_by_role("button", name="Make key").click()
        await page.get_by_role("button", name="Done").click()
        made = (await stage.get("/api/ai/keys")).json()[-1]
        assert (made["name"], made["ips"]) == ("narrow", ["127.0.0.0/8"])
        assert made["limits"] == {"requests": 50, "period": "day"}
        assert len(made["models"]) == 1
        row = page.get_by_role("row").filter(has_text="narrow")
        for told in ("50 requests a day", "gpt-4o", "from 127.0.0.0/8", "in 29 days"):
            await expect(row).to_contain_text(told)


async def test_the_cap_is_said_in_words(tmp_path: Path) -> None:
    async with keys_page(tmp_path, self_service={"keys": 1}) as (stage, page):
        await open_keys(page, stage)
        await make(page, "first")
        await page.get_by_role("button", name="Done").click()
        await page.get_by_role("button", name="New key").click()
        await page.keyboard.type("second")
        await page.keyboard.press("Enter")
        await page.get_by_role("alert").filter(has_text="revoke one first").wait_for()


async def test_snippets_for_each_client(tmp_path: Path) -> None:
    """Arrow keys go through the clients; each has this gateway's address, and the first runs as it is."""
    async with keys_page(tmp_path) as (stage, page):
        await open_keys(page, stage)
        text = await make(page, "phone")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("tab", name="Python").focus()
        for client in CLIENTS:
            await expect(dialog.get_by_role("tab", selected=True)).to_have_text(client)
            code = await dialog.locator("pre").inner_text()
            assert stage.url in code
            assert text in code
            assert "gpt-4o" in code or client == "Open WebUI"
            compile(code, client, "exec") if client in {"Python", "LangChain"} else None
            await page.keyboard.press("ArrowRight")
        await assert_accessible(page)


async def test_names_of_any_kind_run_nothing(tmp_path: Path) -> None:
    """HTML, text that turns around, a megabyte: it is text, cut, and the page stays usable at 360 pixels."""
    hostile = [
        "<img src=x onerror=alert(1)><script>alert(2)</script>",
        "safe\u202egnp.exe\u2066\u0007",
        "${alert(3)}'; rm -rf / #",
        "w" * 200,
        "x" * 1_000_000,
    ]
    async with keys_page(tmp_path, {"width": 360, "height": 780}) as (stage, page):
        page.on("dialog", lambda dialog: page.evaluate("throw new Error('a script ran')"))
        one = (await stage.get("/api/ai/keys")).json()[0]
        huge = [one | {"id": name, "name": name, "source": "store", "models": [name]} for name in hostile]
        await page.route("**/api/ai/keys", lambda route: route.fulfill(json=huge))
        await open_keys(page, stage)
        await page.get_by_text("<img src=x").first.wait_for()
        assert await page.locator("img, script:not([type=module])").count() == 0
        shown = await page.locator("main").inner_text()
        assert "\u202e" not in shown
        assert len(shown) < 10_000
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        await assert_accessible(page)


async def test_states_of_the_page(tmp_path: Path) -> None:
    """Loading, empty, a fault with its request's id, offline and back: each is said."""
    async with keys_page(tmp_path) as (stage, page):
        route = "**/api/ai/keys"
        await page.route(route, lambda route: route.fulfill(json=[]))
        await open_keys(page, stage)
        await page.get_by_text("No key yet").wait_for()
        await page.unroute(route)

        fault = {"error": "store_unavailable", "message": "The store does not answer."}
        await page.route(route, lambda route: route.fulfill(status=503, json=fault, headers={"x-request-id": "req-1"}))
        await open_keys(page, stage)
        await page.get_by_text("The store does not answer.").wait_for()
        await page.get_by_text("req-1").wait_for()
        await page.unroute(route)

        await page.route(route, lambda route: route.abort())
        await open_keys(page, stage)
        await page.get_by_text("You are offline").wait_for()
        await page.unroute(route)
        await page.evaluate("dispatchEvent(new Event('online'))")
        await page.get_by_role("rowheader", name="user").wait_for()

        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        await page.route(route, hold)
        await page.goto(f"{stage.url}/dashboard/keys")
        await page.get_by_text("Loading").wait_for(state="attached")
        await held[0].continue_()
        await page.get_by_role("rowheader", name="user").wait_for()
