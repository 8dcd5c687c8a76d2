"""`gateway demo --pages`: each state of each page has a face, and its made-up answers are such as a gateway gives."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from axe_kit import assert_accessible
from gallery_kit import DESKTOP, at_the_gallery, in_state

from gateway.api import all_routes
from gateway.dashboard.pages import PAGES
from gateway.demo.gallery.answers import InTurn
from gateway.demo.gallery.fixtures import usual
from gateway.demo.gallery.serving import ALL_STATES

NAMES = [*(page.name for page in PAGES), "session"]
WIDER = "() => document.documentElement.scrollWidth > innerWidth"


@pytest.mark.parametrize("name", NAMES)
async def test_each_state_has_a_face(name: str) -> None:
    """Reached as a reader would; at 360 px and wide; dark and light; axe finds nothing; no script fails."""
    async with at_the_gallery() as (gallery, browser):
        for state in [each for each in ALL_STATES if each.page == name]:
            async with in_state(gallery, browser, state) as page:
                assert not await page.evaluate(WIDER), f"{state.name} is wider than a phone"
                await assert_accessible(page)
                await page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
                assert not await page.evaluate(WIDER), f"{state.name} is wider than a desktop"


async def test_the_list_leads_to_each_state() -> None:
    async with at_the_gallery() as (gallery, browser):
        page = await browser.new_page()
        await page.goto(gallery.url)
        links = page.get_by_role("navigation", name="States").get_by_role("link")
        assert await links.all_inner_texts() == [
            each.name
            for name in dict.fromkeys(each.page for each in ALL_STATES)
            for each in ALL_STATES
            if each.page == name
        ]
        await page.get_by_role("link", name="keys-empty").click()
        await page.frame_locator("iframe").get_by_text("No key yet").wait_for()
        await page.get_by_role("button", name="Dark").click()
        await page.frame_locator("iframe").locator("html[data-theme=dark]").wait_for()
        await page.get_by_role("button", name="360").click()
        assert await page.locator("iframe").evaluate("node => node.clientWidth") <= 360


def given() -> Iterator[tuple[str, str, Any]]:
    """Every made-up answer that is a route's own JSON."""
    for where, answers in [("usual", usual()), *((each.name, each.answers) for each in ALL_STATES)]:
        for asked, answer in answers.items():
            for one in answer.answers if isinstance(answer, InTurn) else (answer,):
                made = one({"group": "day,model"}) if callable(one) else one
                if isinstance(made, dict | list) and not isinstance(made, tuple):
                    yield where, asked, made


def test_what_is_made_up_is_what_a_gateway_answers() -> None:
    """Each has the type that its route declares: a page cannot come to live on a shape that nobody sends."""
    routes = [route for route in all_routes() if route.answer is not None]
    seen = 0
    for where, asked, made in given():
        method, _, path = asked.partition(" ")
        paths = [path.replace("*", some) for some in ("x", "x/rotate", "user/x")]
        found = next(
            each
            for each in routes
            if each.method == method and any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each.path), one) for one in paths)
        )
        msgspec.json.decode(msgspec.json.encode(made), type=found.answer, strict=False)
        seen += 1
        assert where
    assert seen > 25


def test_the_command_says_where() -> None:
    command = [sys.executable, "-m", "gateway", "demo", "--pages", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        try:
            assert demo.stdout is not None
            url = demo.stdout.readline().rsplit(" ", 1)[1].strip()
            port = url.rsplit(":", 1)[1].strip("/")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert b"chat-broken" in answer.read()
        finally:
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(10) == 0


def test_there_is_no_upstream_to_break() -> None:
    command = [sys.executable, "-m", "gateway", "demo", "--pages", "--faults"]
    assert subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 2
