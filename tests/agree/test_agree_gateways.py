"""Two gateways on one Redis, and one on its own: what is taken away is gone, and what one learns the other knows."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import NamedTuple

import pytest
import pytest_asyncio
from agree_kit import Asked, Load, Panel, call, chat, gateway, settings
from kit import KEYS, FakeUpstream, GatewayProcess
from kit.answers import upstream_error
from kit.books import until
from kit.stage import Record, endpoint, model
from store.grants_kit import RedisServer

PUBLISHED_SECONDS, UNPUBLISHED_SECONDS = 1.0, 5.0  # §9's bounds
COOLDOWN_SECONDS = 0.1
SLACK_SECONDS = 0.4  # for a machine that does other things besides
_numbers = count()


def models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("open", [endpoint(upstream, "open")])
    for name in ("granted", "linked"):
        yield model(name, [endpoint(upstream, name)], **{"global": False})
    for name in ("tired", "unasked"):
        pair = [endpoint(upstream, f"{name}.a"), endpoint(upstream, f"{name}.b", priority=1)]
        yield model(name, pair)


class Pair(NamedTuple):
    a: GatewayProcess
    b: GatewayProcess


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    upstream: FakeUpstream, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    directory, whole = tmp_path_factory.mktemp("pair"), settings(list(models(upstream)), redis_server.url)
    async with AsyncExitStack() as stack:
        begun = [await stack.enter_async_context(gateway(directory / name, whole)) for name in "ab"]
        yield Pair(*begun)


def fresh_caller() -> tuple[str, str]:
    """A user that no other test uses, and its key."""
    number = next(_numbers)
    return f"caller-{number}", f"sk-caller-{number:04}-0123456789abcdefghij"


async def gone_within(load: Load, since: float, seconds: float, code: str) -> None:
    """On both gateways nothing that was asked after the bound passes, and until then nothing else than this refusal."""

    def refused_everywhere() -> bool:
        return len({each.port for each in load.since(since + seconds) if each.code == code}) == 2

    await load.until(refused_everywhere)
    assert [each for each in load.since(since + seconds) if each.code != code] == []
    assert {each.code for each in load.asked} == {None, code}
    assert [each for each in load.asked if each.began < since - 1 and each.code is not None] == []


@pytest.mark.parametrize(
    ("publish", "seconds"), [(True, PUBLISHED_SECONDS), (False, UNPUBLISHED_SECONDS)], ids=["published", "unpublished"]
)
async def test_what_a_panel_takes_away_is_gone_on_both_in_time(
    pair: Pair, redis_server: RedisServer, publish: bool, seconds: float
) -> None:
    """A key and a grant, each in constant use on two gateways; a third caller notices nothing of it."""
    holder, its_key = fresh_caller()
    grantee, other_key = fresh_caller()
    with Panel(redis_server, publish=True) as before, Panel(redis_server, publish=publish) as panel:
        before.give_key(its_key, holder)
        before.give_key(other_key, grantee)
        before.write("user", grantee, {"tier": "free", "grants": [{"model": "granted"}]})
        async with (
            Load.on(pair, "open", clients=1) as bystander,
            Load.on(pair, "open", key=its_key, clients=1) as with_key,
            Load.on(pair, "granted", key=other_key, clients=1) as with_grant,
        ):
            key_gone = panel.revoke_key(its_key)
            grant_gone = panel.write("user", grantee, {"tier": "free", "grants": []})
            await gone_within(with_key, key_gone, seconds, "invalid_api_key")
            await gone_within(with_grant, grant_gone, seconds, "model_not_accessible")
        assert set(bystander.statuses) == {200}


@pytest.mark.parametrize(
    ("publish", "seconds"), [(True, PUBLISHED_SECONDS), (False, UNPUBLISHED_SECONDS)], ids=["published", "unpublished"]
)
async def test_a_feature_switched_off_is_off_on_both_in_time(
    pair: Pair, redis_server: RedisServer, publish: bool, seconds: float
) -> None:
    """And on again, as soon as that is told."""
    with Panel(redis_server, publish=publish) as panel, Panel(redis_server, publish=True) as loud:
        async with Load.on(pair, "open") as load:
            try:
                await gone_within(load, panel.write("feature", "ai", 0), seconds, "feature_disabled")
            finally:
                again = loud.write("feature", "ai", 1)

            def served_everywhere() -> bool:
                late = load.since(again + PUBLISHED_SECONDS)
                return len({each.port for each in late if each.status == 200}) == 2

            await load.until(served_everywhere)
            assert {each.status for each in load.since(again + PUBLISHED_SECONDS)} == {200}


async def state_at(at: GatewayProcess, endpoint_id: str) -> str:
    watched = (await call(at, "GET", "/api/admin/ai/endpoints")).json()
    return next(str(each["state"]) for each in watched if each["endpointId"] == endpoint_id)


@pytest.mark.parametrize("name", ["tired", "unasked"])
async def test_a_rate_limit_seen_by_one_gateway_holds_on_the_other(
    pair: Pair, upstream: FakeUpstream, redis_server: RedisServer, name: str
) -> None:
    """Within 100 ms, whether or not the other has asked the model before; an admin's reset on one holds on both."""
    tired, rested = upstream.endpoint(f"{name}.a"), upstream.endpoint(f"{name}.b")
    if name == "tired":
        assert (await chat(pair.b, name)).status == 200
    asked = len(tired.requests)
    tired.replies(upstream_error(429, retry_after="60"))
    assert (await chat(pair.a, name)).status == 200
    began = time.monotonic()

    async def is_cooling() -> bool:
        return await state_at(pair.b, f"{name}.a") == "cooling"

    await until(is_cooling, COOLDOWN_SECONDS + SLACK_SECONDS)
    assert time.monotonic() - began < COOLDOWN_SECONDS + SLACK_SECONDS
    assert (await chat(pair.b, name)).status == 200
    assert (len(tired.requests) - asked, len(rested.requests)) == (1, 2)
    with redis_server.client() as client:
        record = json.loads(client.lindex("admin:ai:cooldowns", 0))  # type: ignore[arg-type]  # sync client
    assert (record["modelName"], record["endpoint"], record["waitMs"]) == (name, tired.url, 60_000)
    assert (await call(pair.b, "GET", "/api/admin/ai/cooldowns")).json()[0] == record
    assert (await call(pair.b, "DELETE", f"/api/admin/ai/endpoints/id-{name}/{name}.a/cooldown")).status == 200

    async def is_free() -> bool:
        return await state_at(pair.a, f"{name}.a") != "cooling"

    await until(is_free, COOLDOWN_SECONDS + SLACK_SECONDS)
    assert (await chat(pair.a, name)).status == 200
    assert len(tired.requests) - asked == 2


async def test_a_link_made_on_one_gateway_works_on_the_other(pair: Pair) -> None:
    """Made: served there within a second. Taken away: refused there within a second."""
    target = "/api/admin/ai/models/id-linked"
    assert (await chat(pair.b, "linked", key=KEYS["stranger"])).status == 403
    made = await call(pair.a, "POST", f"{target}/link-user", {"userId": "stranger"})
    assert made.status == 201, made

    async def answers(status: int) -> bool:
        return (await chat(pair.b, "linked", key=KEYS["stranger"])).status == status

    await until(lambda: answers(200), PUBLISHED_SECONDS)
    assert (await call(pair.a, "DELETE", f"{target}/unlink-user/stranger")).status == 200
    await until(lambda: answers(403), PUBLISHED_SECONDS)


async def test_alone_and_without_redis_it_is_the_same(
    upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Embedded: keys, links, features and cooldowns changed by routes hold for the very next request, under load."""
    directory = tmp_path_factory.mktemp("alone")
    async with gateway(directory, settings(list(models(upstream)))) as alone, Load.on([alone], "open") as load:
        made = (await call(alone, "POST", "/api/admin/keys", {"user": "guest", "id": "guest"})).json()
        assert (await chat(alone, "linked", key=made["key"])).status == 403
        linked = await call(alone, "POST", "/api/admin/ai/models/id-linked/link-user", {"userId": "guest"})
        assert linked.status == 201, linked
        assert (await chat(alone, "linked", key=made["key"])).status == 200
        assert (await call(alone, "DELETE", "/api/admin/keys/guest")).status == 200
        assert (await chat(alone, "linked", key=made["key"])).status == 401
        upstream.endpoint("tired.a").replies(upstream_error(429, retry_after="60"))
        assert (await chat(alone, "tired")).status == 200
        assert await state_at(alone, "tired.a") == "cooling"
        assert (await call(alone, "DELETE", "/api/admin/ai/endpoints/id-tired/tired.a/cooldown")).status == 200
        assert await state_at(alone, "tired.a") != "cooling"
        assert set(load.statuses) == {200}
        await features_hold_at_once(alone, load)


async def features_hold_at_once(alone: GatewayProcess, load: Load) -> None:
    switched = await call(alone, "PUT", "/api/admin/features/ai", {"enabled": False})
    assert switched.status == 200, switched
    moment = time.monotonic()

    def refused() -> list[Asked]:
        return load.since(moment)

    await load.until(lambda: len(refused()) >= 4)
    assert {each.code for each in refused()} == {"feature_disabled"}
    await asyncio.gather(call(alone, "PUT", "/api/admin/features/ai", {"enabled": True}))
    assert (await chat(alone, "open")).status == 200
