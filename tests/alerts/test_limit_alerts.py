"""Each threshold and period of a total is told of once, whatever dies between."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from alerts_kit import OTHER_SECRET, SECRET, Hook, placed, shares, verified
from kit import answer


async def test_each_threshold_is_told_of_as_settled_usage_crosses_it(tmp_path: Path) -> None:
    """With who, what, how much of how much; what lies between two thresholds tells nothing."""
    async with placed(tmp_path) as place, place.gateway() as gateway:
        for number, tokens in enumerate((400, 90, 20, 250, 30, 30, 190)):
            assert (await place.use(gateway, tokens)).status == 200
            if tokens in (20, 190) or number == 5:
                await place.hook.sent(len(place.hook.requests) + 1)
        assert (await place.use(gateway, 1)).status == 429
        events = place.hook.events()
    assert shares(events) == [50, 80, 100]
    assert len({each["id"] for each in events}) == 3
    first = events[0]
    start = first["data"].pop("from")
    assert start.endswith("-01T00:00:00Z")
    assert first["data"] == {
        "owner": {"kind": "user", "id": 42},
        "model": "id-m",
        "name": "m",
        "limit": "tokens",
        "period": "month",
        "share": 50,
        "used": 510,
        "max": 1000,
    }
    assert len(place.hook.requests) == 3


async def test_one_big_request_crosses_all_thresholds_at_once(tmp_path: Path) -> None:
    async with placed(tmp_path) as place, place.gateway() as gateway:
        await place.use(gateway, 1200)
        events = await place.hook.sent(3)
    assert sorted(shares(events, used=1200)) == [50, 80, 100]


async def test_a_restart_tells_nothing_twice_and_forgets_nothing(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        async with place.gateway() as gateway:
            await place.use(gateway, 600)
        await place.hook.sent(1)
        async with place.gateway() as gateway:
            await place.use(gateway, 100)
            await place.use(gateway, 150)
            events = await place.hook.sent(2)
        assert shares(events) == [50, 80]


async def test_what_was_settled_as_the_gateway_was_killed_is_told_of_by_the_next(tmp_path: Path) -> None:
    """Killed as soon as the client has its answer: ten times, ten users; each threshold once, by one id."""
    async with placed(tmp_path) as place:
        place.limits = {"tokens": 1000, "period": "day"}
        for _ in range(10):
            async with place.gateway() as gateway:
                assert (await place.use(gateway, 60)).status == 200
                gateway.signal(signal.SIGKILL)
                await gateway.wait()
        async with place.gateway():
            events = await place.hook.until(lambda found: 50 in shares(found))
        assert set(shares(events)) == {50}
        assert len({each["id"] for each in events}) == 1


async def test_totals_of_organisations_plans_and_keys(tmp_path: Path) -> None:
    """A plan's total is that of one user of it, who is named as well."""
    limits = {"requests": 2, "period": "day"}
    for owner in ("organisation", "plan", "key"):
        directory = tmp_path / owner
        directory.mkdir()
        async with placed(directory) as place:
            settings = place.settings()
            settings["models"][0] |= {"limits": None, "global": False}
            settings["users"][0] |= {"organisations": [10], "plans": ["pro"]}
            grant = {"model": "m"} | ({} if owner == "key" else {"limits": limits})
            named = "plans" if owner == "plan" else "organisations"
            settings |= {"organisations": [{"id": 10}], "plans": [{"id": "pro"}]}
            settings[named][0]["grants"] = [grant]
            if owner == "key":
                settings["keys"][0]["limits"] = limits
            place.written = settings
            async with place.gateway() as gateway:
                await place.use(gateway, 5)
                await place.use(gateway, 5)
                events = await place.hook.until(lambda found: sorted(shares(found)) == [50, 80, 100])
            data = events[0]["data"]
            ids = {"organisation": 10, "plan": "pro", "key": "user"}
            assert data["owner"] == {"kind": owner, "id": ids[owner]}
            assert data.get("user") == (42 if owner == "plan" else None)
            assert data["model"] == (None if owner == "key" else "id-m")
            assert (data["limit"], data["max"]) == ("requests", 2)


async def test_cost_is_told_exactly(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        place.limits = {"cost": 0.001, "period": "hour"}
        settings = place.settings()
        settings["models"][0]["price"] = {"input": 1}
        place.written = settings
        async with place.gateway() as gateway:
            await place.use(gateway, 501)
            await place.hook.sent(1)
    assert b'"used":0.000501,"max":0.001' in place.hook.requests[0].body


async def test_two_secrets_sign_each_alert_twice(tmp_path: Path) -> None:
    """So that a receiver may hold the old one or the new one."""
    async with placed(tmp_path) as place:
        place.alerts = [place.hook.entry(secret=[SECRET, OTHER_SECRET], at=[50])]
        async with place.gateway() as gateway:
            await place.use(gateway, 600)
            await place.hook.sent(1)
    (request,) = place.hook.requests
    assert verified(request, SECRET) == verified(request, OTHER_SECRET)
    assert len(request.header("webhook-signature").split(" ")) == 2  # type: ignore[union-attr]


async def test_receivers_hear_of_their_own_thresholds(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        other = Hook(place.upstream, "other", OTHER_SECRET)
        place.alerts = [
            place.hook.entry(at=[10]),
            other.entry(at=[90, 10]),
            place.hook.entry(url=f"{other.url}/x", events=["ledger"]),
        ]
        async with place.gateway() as gateway:
            await place.use(gateway, 950)
            assert sorted(shares(await other.sent(2))) == [10, 90]
            assert shares(await place.hook.sent(1)) == [10]
    assert {each["id"] for each in place.hook.events()} < {each["id"] for each in other.events()}


@pytest.mark.parametrize("status", [302, 500])
async def test_what_no_2xx_answers_is_tried_again_by_the_same_id(tmp_path: Path, status: int) -> None:
    """At once after a restart; a redirect is an answer like another, and never followed."""
    async with placed(tmp_path) as place:
        elsewhere = Hook(place.upstream, "elsewhere")
        place.hook.always(answer(status, b"", [("location", elsewhere.url)]))
        async with place.gateway() as gateway:
            await place.use(gateway, 600)
            await place.hook.sent(1)
            await gateway.log(lambda line: line["event"] == "an alert was not taken")
        place.hook.always(answer(200, b""))
        async with place.gateway():
            first, second = await place.hook.sent(2)
        async with place.gateway() as gateway:
            await place.use(gateway, 250)
            events = await place.hook.sent(3)
    assert first == second
    assert place.hook.requests[0].header("webhook-signature") is not None
    assert shares(events) == [50, 50, 80]
    assert elsewhere.requests == []


async def test_a_receiver_that_is_gone_is_sent_no_more(tmp_path: Path) -> None:
    """410, until its entry is changed."""
    async with placed(tmp_path) as place:
        other = Hook(place.upstream, "other")
        place.alerts.append(other.entry())
        place.hook.always(answer(410, b""))
        async with place.gateway() as gateway:
            await place.use(gateway, 600)
            await gateway.log(lambda line: "wants no more" in line["event"])
            await place.use(gateway, 250)
            await other.sent(2)
        place.hook.always(answer(200, b""))
        async with place.gateway() as gateway:
            await place.use(gateway, 200)
            await other.sent(3)
        assert shares(place.hook.events()) == [50]
        place.alerts[0]["secret"] = [OTHER_SECRET, SECRET]
        place.limits["tokens"] = 100_000
        place.alerts[0]["at"] = [2]
        async with place.gateway() as gateway:
            await place.use(gateway, 1000)
            assert shares(await place.hook.sent(2)) == [50, 2]
