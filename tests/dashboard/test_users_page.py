"""Users, organisations, plans, keys and features in a real browser."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from desk_kit import HOSTILE, admin, at_the_desk, tab_to
from kit import ask
from kit.stage import endpoint, model
from kit.upstream import FakeUpstream


def one_model(upstream: FakeUpstream) -> list[dict[str, object]]:
    return [model("gpt", [endpoint(upstream, "first")], **{"global": False})]


async def test_a_user_is_made_linked_and_given_a_key_by_keyboard(tmp_path: Path) -> None:
    """The key is shown once and works; rotated with a grace both work; revoked, none does."""
    async with at_the_desk(tmp_path, "users", models=one_model) as (stage, page):
        await page.get_by_role("table").wait_for()
        await tab_to(page, "New user")
        await page.keyboard.press("Enter")
        for name, text in (("Id", "77"), ("Name", "Grace"), ("Tier", "paid")):
            await tab_to(page, name)
            await page.keyboard.type(text)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Grace").wait_for()
        await tab_to(page, "Grace")
        await page.keyboard.press("Enter")
        await tab_to(page, "Link")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Unlink gpt").wait_for()
        await tab_to(page, "New key")
        await page.keyboard.press("Enter")
        await tab_to(page, "Make the key")
        await page.keyboard.press("Enter")
        first = await page.locator("code.secret").inner_text()
        assert (await stage.post(ask("gpt"), key=first)).status == 200
        await tab_to(page, "I have it")
        await page.keyboard.press("Enter")
        await page.locator("code.secret").wait_for(state="detached")
        assert first not in await page.content()
        await page.get_by_role("button", name="Rotate").click()
        await page.get_by_label("The old key ends").select_option("in an hour")
        await page.get_by_role("dialog").last.get_by_role("button", name="Rotate").click()
        await page.get_by_text("The old key holds until").wait_for()
        second = await page.locator("code.secret").inner_text()
        assert [(await stage.post(ask("gpt"), key=key)).status for key in (first, second)] == [200, 200]
        await page.get_by_role("button", name="I have it").click()
        page.on("dialog", lambda asked: asked.accept())
        await page.get_by_role("button", name="Revoke").first.click()
        await page.get_by_text("Revoked, and the keys that it made.").wait_for()
        await stage.gateway.log(lambda line: line.get("event") == "audit" and line.get("kind") == "key")


async def test_organisations_plans_and_features(tmp_path: Path) -> None:
    """Each is a tab, kept in the address; a switch holds at once."""
    async with at_the_desk(tmp_path, "users", models=one_model, features={"beta": False}) as (stage, page):
        for tab, word, plural in (("Organisations", "organisation", "organisations"), ("Plans", "plan", "plans")):
            await page.get_by_role("button", name=tab).click()
            assert f"of={plural}" in page.url
            await page.get_by_role("button", name=f"New {word}").click()
            await page.get_by_label("Id", exact=True).fill("ten")
            await page.get_by_label("Name", exact=True).fill(f"Example {word}")
            await page.get_by_role("button", name=f"Make the {word}").click()
            await page.get_by_role("button", name=f"Example {word}").wait_for()
            assert (await admin(stage, "GET", f"{plural}/ten")).json()["name"] == f"Example {word}"
        await page.get_by_role("button", name="Features").click()
        await page.get_by_label("beta").check()
        await page.get_by_text("beta is on, on every worker.").wait_for()
        assert (await admin(stage, "GET", "features/beta")).json()["enabled"] is True


async def test_a_user_of_the_file_is_shown_with_its_line(tmp_path: Path) -> None:
    async with at_the_desk(tmp_path, "users", models=one_model, users=[{"id": 42, "name": "Ada"}]) as (_, page):
        await page.get_by_role("button", name="Ada").click()
        await page.get_by_role("dialog").get_by_text("gateway.yaml:").wait_for()
        assert await page.get_by_role("dialog").get_by_role("button", name="Save").count() == 0


async def test_hostile_names_are_words(tmp_path: Path) -> None:
    """Of users and organisations: nothing runs, nothing freezes."""
    async with at_the_desk(tmp_path, "users", models=one_model) as (stage, page):
        made = {"users": 0, "organisations": 0}
        for number, name in enumerate(HOSTILE):
            for plural in made:
                own = quote(name[:60], safe="") if name not in ("..", "0") else f"n{number}"
                made[plural] += (await admin(stage, "PUT", f"{plural}/{own}", {"name": name})).status == 201
        for plural, count in made.items():
            assert count > 20
            await page.goto(f"{stage.url}/dashboard/users?of={plural}")
            await page.locator("tbody tr").nth(count - 1).wait_for()
            await page.get_by_role("button", name="<script>").first.click()
            await page.get_by_role("dialog").wait_for()
            assert await page.evaluate("window.ran") is None
            assert await page.locator("main img, main iframe, main script, dialog img, dialog script").count() == 0
