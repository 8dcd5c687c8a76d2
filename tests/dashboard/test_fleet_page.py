"""Fleet in a real browser: endpoints, requests as they run, explain, audit."""

from __future__ import annotations

import asyncio
from pathlib import Path

from browser_kit import browsing, visiting
from desk_kit import HOSTILE, KEY_RECORDS, OPEN, OWNER, admin, at_the_desk, tab_to
from kit import KEYS, Stage, ask
from kit.answers import delta, events, upstream_error
from kit.stage import endpoint, model
from kit.upstream import FakeUpstream


def two_models(upstream: FakeUpstream) -> list[dict[str, object]]:
    return [
        model("gpt", [endpoint(upstream, "first"), endpoint(upstream, "second", priority=1)]),
        model("other", [endpoint(upstream, "alone")], **{"global": False}),
    ]


async def test_a_cooldown_is_ended_by_keyboard(tmp_path: Path) -> None:
    async with at_the_desk(tmp_path, "fleet", models=two_models) as (stage, page):
        stage.upstream.endpoint("first").replies(upstream_error(429, retry_after="600"))
        await stage.post(ask("gpt"))
        await page.get_by_text("cooling").wait_for()
        await page.get_by_text("its provider asked us to slow down").wait_for()
        await tab_to(page, "End cooldown")
        await page.keyboard.press("Enter")
        await page.get_by_text("first is asked again.").wait_for()
        await page.get_by_text("cooling").wait_for(state="detached")


async def test_a_request_is_seen_to_run_and_to_end(tmp_path: Path) -> None:
    """It is there while it runs; filters are in the address; explain and audit answer beneath."""
    async with at_the_desk(tmp_path, "fleet", models=two_models) as (stage, page):
        await page.get_by_text("as they run", exact=True).wait_for()
        go = asyncio.Event()
        stage.upstream.endpoint("first").replies(events(delta("secret words"), go, b"data: [DONE]\n\n"))
        async with stage.asking(ask("gpt", stream=True)) as wire:
            row = page.get_by_role("region", name="Requests").get_by_role("row").filter(has_text="first")
            await row.get_by_text("running").wait_for()
            go.set()
            await wire.reply()
            await row.get_by_text("ok").wait_for()
        await page.get_by_label("Model").first.fill("nothing like it")
        await page.get_by_text("Nothing of what was seen is like this.").wait_for()
        assert "model=nothing+like+it" in page.url
        await page.get_by_label("Who (id)").fill("42")
        await page.keyboard.press("Enter")
        await page.get_by_text("would get gpt, which is open to everyone, from first.").wait_for()
        await admin(stage, "PUT", "users/7", {"tier": "paid", "name": "Bob"})
        await page.get_by_role("button", name="Refresh").click()
        await page.get_by_text("create user 7").wait_for()
        assert "secret words" not in await page.content()


async def test_what_waits_in_a_queue_is_counted(tmp_path: Path) -> None:
    def full(upstream: FakeUpstream) -> list[dict[str, object]]:
        return [model("gpt", [endpoint(upstream, "only", max_in_flight=1)])]

    async with at_the_desk(tmp_path, "fleet", models=full, queue={"max": 9}) as (stage, page):
        await page.get_by_text("as they run", exact=True).wait_for()
        go = asyncio.Event()
        stage.upstream.endpoint("only").replies(events(delta("one"), go, b"data: [DONE]\n\n"))
        async with stage.asking(ask("gpt", stream=True)) as first:
            await first.head()
            async with stage.asking(ask("gpt")) as second:
                await page.get_by_text("Waiting for an endpoint: gpt 1").wait_for()
                go.set()
                assert (await second.reply()).status == 200
                await page.get_by_text("Waiting for an endpoint").wait_for(state="hidden")


async def test_the_stream_ends_with_the_key(tmp_path: Path) -> None:
    """Whoever is no longer an operator sees nothing more, and is asked to sign in."""
    async with Stage.open(tmp_path, two_models, keys=KEY_RECORDS, server=OPEN) as stage, browsing() as browser:
        body = {"user": 7, "scopes": ["ai:use", "ai:manage", "usage:read"]}
        made = (await admin(stage, "POST", "keys", body)).json()
        async with visiting(browser, stage, made["key"]) as page:
            await page.goto(f"{stage.url}/dashboard/fleet")
            await page.get_by_text("as they run", exact=True).wait_for()
            await admin(stage, "DELETE", f"keys/{made['id']}")
            await page.get_by_role("dialog", name="Your session is over").wait_for()
        ended = await stage.gateway.log(lambda line: line.get("path") == "/api/admin/ai/requests")
        assert ended["status"] == 200


async def test_a_hidden_tab_has_no_stream(tmp_path: Path) -> None:
    async with at_the_desk(tmp_path, "fleet", models=two_models) as (stage, page):
        await page.get_by_text("as they run", exact=True).wait_for()
        await page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        await page.get_by_text("stopped while hidden").wait_for()
        ended = await stage.gateway.log(lambda line: line.get("path") == "/api/admin/ai/requests")
        assert ended["status"] == 499
        await page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        await page.get_by_text("as they run", exact=True).wait_for()


async def test_names_that_clients_choose_are_words(tmp_path: Path) -> None:
    """A client calls models what it likes: nothing of it runs, and the page goes on."""
    async with at_the_desk(tmp_path, "fleet", models=two_models, routing={"unknown_model": "reject"}) as (stage, page):
        await page.get_by_text("as they run", exact=True).wait_for()
        for name in HOSTILE:
            await stage.post(ask(name), key=KEYS["user"])
        rows = page.get_by_role("region", name="Requests").locator("tbody tr")
        await rows.nth(len(HOSTILE) - 4).wait_for()
        assert await page.evaluate("window.ran") is None
        assert await page.locator("main img, main iframe, main script, main a[href^=javascript]").count() == 0
        assert OWNER not in await page.content()
