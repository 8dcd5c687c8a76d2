"""The studio's page in a real browser: two models at once, pictures, answers in a schema, the request as code."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

from axe_kit import assert_accessible
from browser_kit import visiting
from chat_kit import ADA, BOB, Desk, said
from kit import CLOSE, Stage, events
from kit.answers import delta
from playwright.async_api import Page

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


async def go(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}/dashboard/ai-studio")
    await page.get_by_label("System prompt").wait_for()


async def test_two_models_run_side_by_side_by_keyboard_alone(tmp_path: Path) -> None:
    """Settings go up as they are set, each answer has its own receipt, and Escape stops both."""
    async with Desk.open(tmp_path) as desk, visiting(desk.browser, desk.stage, ADA) as page:
        await go(page, desk.stage)
        second = desk.stage.upstream.endpoint("second")
        desk.first.replies(said("From **one**."), events(delta("a"), asyncio.Event()))
        second.replies(said("From two."), events(delta("b"), asyncio.Event()))
        await page.keyboard.type("Who are you?")
        for words in ("0.5", "70"):
            await tab_to(page, "number")
            await page.keyboard.type(words)
        await tab_to(page, "Compare two")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")  # Run
        await page.get_by_text("From one.").wait_for()
        await page.get_by_text("From two.").wait_for()
        await page.locator(".counted").nth(1).wait_for()
        for endpoint in (desk.first, second):
            asked = endpoint.requests[0].json()
            assert (asked["temperature"], asked["max_tokens"]) == (0.5, 70)
            assert asked["messages"] == [{"role": "user", "content": "Who are you?"}]
        await page.keyboard.press("Control+Enter")
        await page.get_by_role("button", name="Stop").wait_for()
        upstreams = await asyncio.gather(desk.first.request(2), second.request(2))
        await page.keyboard.press("Escape")
        for upstream in upstreams:
            await upstream.until_closed()
        assert await page.get_by_text("Stopped.").count() == 2


async def tab_to(page: Page, what: str) -> None:
    """Tabs on to a button with these words, or a field of this type."""
    for _ in range(12):
        await page.keyboard.press("Tab")
        if what in await page.evaluate("() => [document.activeElement.textContent, document.activeElement.type]"):
            return
    raise AssertionError(f"no {what} within twelve steps")


async def test_pictures_and_a_schema_go_up(tmp_path: Path) -> None:
    """Picked and pasted pictures are data URLs; a mistake in the schema is said; the answer is held against it."""
    async with Desk.open(tmp_path) as desk, visiting(desk.browser, desk.stage, ADA) as page:
        await go(page, desk.stage)
        picture = {"name": "p.png", "mimeType": "image/png", "buffer": PIXEL}
        await page.locator("input[type=file]").set_input_files([picture, picture | {"mimeType": "text/html"}])  # type: ignore[list-item]
        await page.get_by_text("is no PNG").wait_for()
        assert await page.get_by_role("img", name="p.png").count() == 1
        await page.get_by_label("Message", exact=True).fill("What is this?")
        await page.get_by_label("Structured output").check()
        schema = page.get_by_label("JSON schema of the answer")
        await schema.fill('{"type": "object",\n "properties": {"a": {"type": "text"}}}')
        await page.get_by_text("“text” is no type").wait_for()
        await page.get_by_role("button", name="Run").click()
        await page.get_by_text("The schema has a mistake").wait_for()
        assert desk.first.requests == []
        wanted = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        await schema.fill(json.dumps(wanted))
        desk.first.replies(said('{"a":', " 1}"), said('{"b": 1}'))
        await page.get_by_role("button", name="Run").click()
        await page.get_by_text("The answer is in the schema.").wait_for()
        asked = desk.first.requests[0].json()
        url = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
        assert asked["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": url}}
        assert asked["response_format"]["json_schema"]["schema"] == wanted
        await page.get_by_role("button", name="Run").click()
        await page.get_by_text("Not in the schema").wait_for()


async def test_the_request_as_code_is_the_request(tmp_path: Path) -> None:
    """Python's snippet, run as it stands against a library that only listens, asks for what the page would."""
    async with Desk.open(tmp_path) as desk, visiting(desk.browser, desk.stage, ADA) as page:
        await go(page, desk.stage)
        words = 'It\'s "so"\nand \\ ${x} </script> \u2028 é'
        await page.get_by_label("System prompt").fill("Be brief.")
        await page.get_by_label("Message", exact=True).fill(words)
        await page.get_by_label("Temperature").fill("0")
        await page.get_by_role("button", name="Copy as code").click()
        code = page.get_by_role("dialog").locator("pre code")
        wanted = {
            "model": "gpt-4o",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": words}],
            "temperature": 0,
        }
        shown = await code.evaluate("node => node.textContent")
        assert f"{desk.stage.url}/v1/chat/completions" in shown
        assert '"Authorization: Bearer $ECLI_KEY"' in shown
        data = shown.partition("-d '")[2].removesuffix("'").replace("'\\''", "'")
        assert json.loads(data) == wanted
        await page.get_by_role("button", name="Python").click()
        python = await code.evaluate("node => node.textContent")
        call = python.partition("client.chat.completions.create(")[2].partition("\n)\n")[0]
        assert eval(f"dict({call})", {}) == wanted
        await page.get_by_role("button", name="Node").click()
        node = await code.evaluate("node => node.textContent")
        assert json.loads(node.partition("completions.create(")[2].partition(");\n")[0]) == wanted


async def test_a_tier_too_low_has_a_page_of_its_own(tmp_path: Path) -> None:
    async with Desk.open(tmp_path) as desk, visiting(desk.browser, desk.stage, BOB) as page:
        await page.goto(f"{desk.stage.url}/dashboard/ai-studio")
        await page.get_by_text("It needs the tier paid; yours is free.").wait_for()
        await assert_accessible(page)


async def test_what_breaks_is_said_and_what_is_typed_is_kept(tmp_path: Path) -> None:
    async with Desk.open(tmp_path) as desk, visiting(desk.browser, desk.stage, ADA) as page:
        await go(page, desk.stage)
        await page.get_by_role("button", name="Run").click()
        await page.get_by_text("Write a message first.").wait_for()
        await page.get_by_label("Message", exact=True).fill("Tell me")
        desk.first.replies(events(delta("Half"), CLOSE))
        await page.get_by_role("button", name="Run").click()
        await page.get_by_text("The answer broke off.").wait_for()
        assert await page.get_by_text("Half", exact=True).count() == 1
        await page.get_by_role("button", name="Compare two").click()
        await assert_accessible(page)
        await page.set_viewport_size({"width": 360, "height": 740})
        await assert_accessible(page)
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
        await page.reload()
        await page.get_by_label("System prompt").wait_for()
        assert await page.get_by_label("Message", exact=True).input_value() == "Tell me"
