"""The chat page in a real browser: asked, heard, stopped, asked again, kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from axe_kit import assert_accessible
from chat_kit import ADA, BOB, NOBODY, PEOPLE, Desk, message, said, say, settled
from kit import CLOSE, FakeUpstream, answer, events
from kit.answers import delta
from kit.stage import Record, endpoint, model

# The first paragraph that is seen whole, and where it is: `scrollTop` may change beside it, for what is above the view
# is laid out late (content-visibility).
IN_VIEW = """thread => {
  const above = thread.getBoundingClientRect().top;
  const first = [...thread.querySelectorAll(".words > *")].find(each => each.getBoundingClientRect().top >= above);
  return [first.textContent, first.getBoundingClientRect().top];
}"""


async def test_a_question_is_asked_by_keyboard_alone(tmp_path: Path) -> None:
    """From any place `/` leads to the message; Enter asks; the receipt, the copy and the next answer are a Tab away."""
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        desk.first.replies(said("Hello ", "**there**, ", "Ada."), said("Once more."))
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="+ New").focus()
        await page.keyboard.press("/")
        await page.keyboard.type("Who is")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("there?")
        await page.keyboard.press("Enter")
        await page.get_by_text("21 tokens").wait_for()
        assert await page.locator(".answer .words").inner_text() == "Hello there, Ada."
        assert await page.locator(".answer strong").inner_text() == "there"
        receipt = await page.locator(".answer .counted").inner_text()
        assert "first word" in receipt
        asked = desk.first.requests[0].json()
        assert asked["messages"] == [{"role": "user", "content": "Who is\nthere?"}]
        assert asked["stream_options"] == {"include_usage": True}
        assert await message(page).evaluate("node => node === document.activeElement")
        for _ in range(10):  # backwards from the message
            await page.keyboard.press("Shift+Tab")
            if await page.evaluate("() => document.activeElement.textContent") == "↻ Again":
                break
        await page.keyboard.press("Enter")
        await page.get_by_text("Once more.").wait_for()
        assert await page.locator(".answer").count() == 1


async def test_a_stream_of_two_thousand_events_is_drawn_whole(tmp_path: Path) -> None:
    """Every word in its order, the end in sight; scrolled up, the view stays and a chip leads back."""
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        words = [f"w{number} " + ("\n\n" if number % 20 == 19 else "") for number in range(2000)]
        rest = asyncio.Event()
        desk.first.replies(events(*map(delta, words[:1990]), rest, *map(delta, words[1990:])))
        await say(page, "Count")
        await page.get_by_text("w1989").wait_for()
        at_end = "node => node.scrollHeight - node.scrollTop - node.clientHeight < 60"
        thread = page.locator(".thread")
        await page.wait_for_function(f"() => ({at_end})(document.querySelector('.thread'))")
        await thread.hover()
        await page.mouse.wheel(0, -600)
        await page.wait_for_function(f"() => !({at_end})(document.querySelector('.thread'))")
        seen = await thread.evaluate(IN_VIEW)
        rest.set()
        await page.get_by_text("w1999").wait_for()
        assert await thread.evaluate(IN_VIEW) == seen
        await page.get_by_role("button", name="↓ new").click()
        await page.wait_for_function(f"() => ({at_end})(document.querySelector('.thread'))")
        shown = await page.locator(".answer .words").evaluate(
            "node => node.textContent.split(/\\s+|(?=w)/).filter(Boolean)"
        )
        assert shown == [word.strip() for word in words]


async def test_stop_closes_the_upstream(tmp_path: Path) -> None:
    """What came stays, the upstream's connection is gone at once, and the next message goes."""
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        desk.first.replies(events(delta("As far as this"), asyncio.Event()), said("Next."))
        await say(page, "Go on for ever")
        await page.get_by_text("As far as this").wait_for()
        upstream = await desk.first.request()
        assert upstream.is_open
        began = time.monotonic()
        await page.get_by_role("button", name="Stop").click()
        await upstream.until_closed()
        assert time.monotonic() - began < 2  # P3's 100 ms begin when the browser has closed
        await page.get_by_text("Stopped.").wait_for()
        await say(page, "And now?")
        await page.get_by_text("Next.").wait_for()
        assert [each["role"] for each in desk.first.requests[1].json()["messages"]] == ["user", "assistant", "user"]


async def test_a_stream_that_breaks_says_so(tmp_path: Path) -> None:
    """What came is kept, the reason is in words, and trying again replaces it."""
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        desk.first.replies(events(delta("Half of "), CLOSE), said("The whole of it."))
        await say(page, "Tell me")
        await page.get_by_role("alert").get_by_text("The answer broke off.").wait_for()
        await page.get_by_text("Half of").wait_for()
        await page.get_by_role("button", name="Try again").click()
        await page.get_by_text("The whole of it.").wait_for()
        assert await page.get_by_text("Half of").count() == 0


async def test_a_refusal_is_said_in_words(tmp_path: Path) -> None:
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        desk.first.replies(answer(500), said("Better."))
        await say(page, "Hello")
        await page.get_by_text("The model could not answer").wait_for()
        await page.get_by_role("button", name="Try again").click()
        await page.get_by_text("Better.").wait_for()


async def test_a_message_is_edited_and_sent_again(tmp_path: Path) -> None:
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        desk.first.replies(said("One."), said("Two."))
        await say(page, "First thought")
        await settled(page)
        await page.locator(".turn.user").hover()
        await page.get_by_role("button", name="Edit").click()
        await page.get_by_label("Your message").fill("Second thought")
        await page.keyboard.press("Enter")
        await page.get_by_text("Two.").wait_for()
        assert await page.get_by_text("One.").count() == 0
        assert desk.first.requests[1].json()["messages"] == [{"role": "user", "content": "Second thought"}]


async def test_conversations_are_kept_and_apart(tmp_path: Path) -> None:
    """A reload keeps them, another user does not see them, deleting and signing out take them away."""
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        desk.first.always(said("Kept."))
        await say(page, "Remember these first words of mine")
        await settled(page)
        assert "?c=" in page.url
        await page.reload()
        await page.get_by_text("Kept.").wait_for()
        conversations = page.get_by_role("complementary", name="Conversations").get_by_role("link")
        assert await conversations.all_inner_texts() == ["Remember these first words of mine"]
        await page.get_by_role("button", name="+ New").click()
        await say(page, "A second one")
        await settled(page)
        await page.go_back()
        await page.locator(".turn.user", has_text="Remember these").wait_for()
        await page.get_by_label("This conversation").click()
        await page.get_by_role("button", name="Delete", exact=True).click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await page.get_by_text("What would you like to know?").wait_for()
        assert await conversations.all_inner_texts() == ["A second one"]
        await change_user(page, BOB)
        assert await conversations.count() == 0
        await change_user(page, ADA)
        assert await conversations.all_inner_texts() == ["A second one"]
        await change_user(page, BOB, forget=True)
        await change_user(page, ADA)
        assert await conversations.count() == 0


async def change_user(page, key: str, *, forget: bool = False) -> None:  # type: ignore[no-untyped-def]
    await page.get_by_role("button", name="Account").click()
    if forget:
        await page.get_by_label("also delete my conversations").check()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Your key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await message(page).wait_for()


async def test_two_tabs_lose_nothing(tmp_path: Path) -> None:
    """What one tab says shows in the other; where both go on at once, there are two conversations."""
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        desk.first.replies(
            said("One."), said("Two."), events(delta("Three"), release := asyncio.Event()), said("Four.")
        )
        await say(page, "From the first tab")
        await settled(page)
        other = await page.context.new_page()
        await other.goto(page.url)
        await other.get_by_text("One.").wait_for()
        await say(other, "From the second tab")
        await settled(other, 2)
        await page.get_by_text("Two.").wait_for()
        await say(page, "Slowly")
        await page.get_by_text("Three").wait_for()
        await other.get_by_text("Slowly").wait_for()
        await say(other, "At the same time")
        await other.get_by_text("Four.").wait_for()
        release.set()
        await settled(page, 3)
        conversations = page.get_by_role("complementary", name="Conversations").get_by_role("link")
        assert await conversations.count() == 2


async def test_without_a_model_the_page_says_whom_to_ask(tmp_path: Path) -> None:
    def granted_to_nobody(upstream: FakeUpstream) -> Iterator[Record]:
        yield model("gpt-4o", [endpoint(upstream, "first")]) | {"global": False}

    keys = [*PEOPLE["keys"], {"id": "nobody", "user": "nobody", "key": NOBODY}]
    async with Desk.open(tmp_path, granted_to_nobody, keys=keys) as desk, desk.sitting(NOBODY) as page:
        await page.get_by_text("No AI model has been set up for your account yet.").wait_for()
        await say(page, "Hello?")
        assert desk.first.requests == []
        assert await message(page).input_value() == "Hello?"


async def test_a_limit_says_when_there_is_more(tmp_path: Path) -> None:
    def limited(upstream: FakeUpstream) -> Iterator[Record]:
        yield model("gpt-4o", [endpoint(upstream, "first")], limits={"requests": 1, "period": "day"})
        yield model("vectors", [endpoint(upstream, "second")], operations=["embeddings"])

    async with Desk.open(tmp_path, limited) as desk, desk.sitting() as page:
        assert await page.get_by_label("Model", exact=True).locator("option").all_inner_texts() == ["gpt-4o"]
        await say(page, "One")
        await settled(page)
        await say(page, "Two")
        await page.get_by_text("You have used your 1 request for today; more at 00:00 UTC (in ").wait_for()
        await page.get_by_role("link", name="See your usage").click()
        await page.wait_for_url("**/dashboard/usage")


async def test_offline_is_said_and_tried_again(tmp_path: Path) -> None:
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        await page.context.set_offline(True)
        await say(page, "Anybody there?")
        await page.get_by_text("You are offline").wait_for()
        await page.context.set_offline(False)
        await settled(page)


async def test_a_session_that_ends_loses_nothing(tmp_path: Path) -> None:
    """Signed in again in place, the question is asked and what was being typed is still there."""
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        desk.first.replies(said("One."), said("Two."))
        await say(page, "First")
        await settled(page)
        await page.context.clear_cookies()
        await say(page, "Second")
        await page.get_by_text("Your session is over").wait_for()
        await page.get_by_label("Your key").fill(ADA)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_text("Two.").wait_for()
        await message(page).fill("Not sent yet")
        await page.reload()
        await page.get_by_text("Two.").wait_for()
        assert await message(page).input_value() == "Not sent yet"


async def test_axe_finds_nothing(tmp_path: Path) -> None:
    """In every state of the page, dark and light, wide and at 360 px."""
    async with Desk.open(tmp_path) as desk, desk.sitting() as page:
        await assert_accessible(page)
        desk.first.replies(
            said("# A\n\n1. b\n   - [x] c\n\n```py\nd\n```\n\n|e|f|\n|-|-|\n|g|h|\n\n> i [j](https://k.example)"),
            events(delta("l"), CLOSE),
        )
        await say(page, "All of it")
        await settled(page)
        await say(page, "And broken")
        await page.get_by_role("alert").wait_for()
        await assert_accessible(page)
        await page.get_by_label("This conversation").click()
        await page.set_viewport_size({"width": 360, "height": 740})
        await page.get_by_role("button", name="Conversations").click()
        await assert_accessible(page)
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
