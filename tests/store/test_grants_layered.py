"""One contract for every `GrantStore`: gateway.yaml alone, and over run-time records of either kind."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from grants_kit import KEY, KEY_SHA256, SECRET, Clock, Log, MoodyStore, document, model, opened
from multidict import CIMultiDict

from gateway.access.authenticate import Authenticator, Shown
from gateway.access.resolve import Named, access_to, accessible, resolve
from gateway.assembly import yaml_store
from gateway.config import grant_id, id_of_grant, parse_settings
from gateway.errors import ModelNotAccessible, StoreUnavailable
from gateway.store.base import GrantStore, Kind, RecordStore
from gateway.store.cached import CachedRecords
from gateway.store.embedded import EmbeddedStore
from gateway.store.file import YamlStore
from gateway.store.layered import LayeredStore
from gateway.types import ApiKey, Caller, Limits, User, id_text

TIERS = ("free", "paid", "enterprise")
SECTIONS: dict[Kind, str] = {"model": "models", "user": "users", "org": "organisations", "plan": "plans", "key": "keys"}
ENDPOINTS = [{"id": "a", "url": "https://upstream.example"}]

WORLD: dict[Kind, list[dict[str, Any]]] = {
    "model": [
        {"id": 1, "name": "gpt", "aliases": ["gpt-latest"], "endpoints": ENDPOINTS, "fallbacks": ["llama"]},
        {"id": 2, "name": "llama", "endpoints": ENDPOINTS, "global": True},
        {"id": 10, "name": "team", "endpoints": ENDPOINTS},
    ],
    "org": [{"id": 10, "name": "Example", "grants": [{"model": "team", "limits": {"tokens": 5}}]}],
    "plan": [{"id": "pro", "grants": [{"model": "gpt-latest"}]}],
    "user": [{"id": 42, "tier": "paid", "organisations": [10], "plans": ["pro"], "grants": [{"id": 7, "model": 1}]}],
    "key": [{"id": "laptop", "user": 42, "scopes": ["ai:use"], "hash": f"sha256:{KEY_SHA256}"}],
}


def file_store(**sections: Any) -> YamlStore:
    return yaml_store(parse_settings(yaml.safe_dump({"models": []} | sections), "gateway.yaml", {}, Path("/")))


def layered(listed: YamlStore, source: RecordStore, log: Log, clock: Clock) -> LayeredStore:
    return LayeredStore(listed, CachedRecords(source, log.logger, clock=clock), tiers=TIERS)


async def written(source: RecordStore, kind: Kind, record: dict[str, Any]) -> None:
    record_id = record.pop("hash").removeprefix("sha256:") if kind == "key" else id_text(record["id"])
    await source.put(kind, record_id, document(**record))


async def caller_of(store: GrantStore) -> Caller:
    authenticator = Authenticator(store, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    return await authenticator.caller(Shown.of(CIMultiDict({"authorization": f"Bearer {KEY}"})), "ai:use")


@pytest.fixture(params=["file", "embedded", "redis"])
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, stores: AsyncExitStack, log: Log, clock: Clock
) -> GrantStore:
    """The same records, from gateway.yaml or made at run time."""
    if request.param == "file":
        return file_store(**{SECTIONS[kind]: records for kind, records in WORLD.items()})
    source: RecordStore = (
        EmbeddedStore(tmp_path, log.logger)
        if request.param == "embedded"
        else await opened(request.getfixturevalue("shared_redis").url, stores, log, prefix=f"{uuid.uuid4().hex}:")
    )
    stores.push_async_callback(source.close)
    for kind, records in WORLD.items():
        for record in records:
            await written(source, kind, dict(record))
    return layered(file_store(), source, log, clock)


async def test_a_caller_is_the_same_wherever_its_records_live(world: GrantStore) -> None:
    caller = await caller_of(world)
    assert (caller.key.id, caller.key.scopes) == ("laptop", {"ai:use"})
    assert (caller.user.id, caller.user.tier, caller.user.plans) == (42, "paid", ("pro",))
    assert [(each.id, each.name) for each in caller.organisations] == [(10, "Example")]
    assert [each.id for each in caller.plans] == ["pro"]
    assert [(grant.id, grant.model) for grant in caller.user.grants] == [(7, "1")]
    assert caller.organisations[0].grants[0].limits == Limits(tokens=5)
    assert id_of_grant(caller.organisations[0].grants[0], "organisation", 10) == grant_id("organisation", 10, "10")
    assert caller.plans[0].grants[0].model == "1"


async def test_models_are_found_and_resolved_the_same(world: GrantStore) -> None:
    catalogue = await world.catalogue()
    assert [each.name for each in catalogue.models] == ["gpt", "llama", "team"]
    assert catalogue.is_complete
    assert all(catalogue.find(text) is catalogue.models[0] for text in ("1", "gpt", "gpt-latest"))
    assert catalogue.models[0].fallbacks == ("2",)
    caller = await caller_of(world)
    assert [(each.model.name, each.source) for each in accessible(caller, catalogue)] == [
        ("gpt", "user"),
        ("team", "organisation"),
        ("llama", "global"),
    ]
    assert resolve(caller, catalogue, Named(None, "team", True), unknown_is_assigned=False).limits == Limits(tokens=5)


async def test_what_is_not_there_is_told_apart_from_what_cannot_be_known(world: GrantStore) -> None:
    assert await world.key("00" * 32) is None
    assert await world.user("nobody") == User(id="nobody", tier="free")
    assert await world.organisation("99") is None
    assert await world.plan("none") is None
    assert await world.feature("ai") is True
    assert await world.feature("never mentioned") is True


@pytest.fixture
def join(moody: MoodyStore, log: Log, clock: Clock) -> Callable[..., Awaitable[LayeredStore]]:
    """gateway.yaml's sections over run-time records of `kind/id`."""

    async def make(file: dict[str, Any], **records: dict[str, Any] | bytes) -> LayeredStore:
        for name, record in records.items():
            kind, _, record_id = name.partition("_")
            written = record if isinstance(record, bytes) else document(**record)
            await moody.put(kind, record_id, written)  # type: ignore[arg-type]  # the tests name kinds
        return layered(file_store(**file), moody, log, clock)

    return make


Join = Callable[..., Awaitable[LayeredStore]]
TWO_MODELS = [{"id": 1, "name": "gpt", "endpoints": ENDPOINTS}, {"id": 2, "name": "llama", "endpoints": ENDPOINTS}]


async def test_the_file_s_record_holds_and_the_grants_of_both_are_joined(join: Join) -> None:
    store = await join(
        {
            "models": TWO_MODELS,
            "users": [{"id": 42, "tier": "paid", "grants": [{"id": 7, "model": 1, "limits": {"rpm": 1}}]}],
        },
        user_42={
            "tier": "enterprise",
            "name": "taken over?",
            "plans": ["pro"],
            "grants": [{"id": 8, "model": "gpt", "limits": {"rpm": 99}}, {"model": "llama"}, {"id": 9, "model": "2"}],
        },
    )
    user = await store.user("42")
    assert (user.id, user.tier, user.name, user.plans) == (42, "paid", None, ())
    assert [(grant.id, grant.model) for grant in user.grants] == [(7, "1"), (grant_id("user", 42, "2"), "2")]
    assert user.grants[0].limits == Limits(rpm=1)


async def test_organisations_and_plans_are_joined_too_and_either_side_s_users_may_belong_to_them(join: Join) -> None:
    store = await join(
        {
            "models": TWO_MODELS,
            "organisations": [{"id": 10, "name": "Example", "grants": [{"model": 1}]}],
            "plans": [{"id": "pro"}],
        },
        user_42={"organisations": [10], "plans": ["pro", "trial"]},
        org_10={"name": "Taken over?", "grants": [{"model": 2}]},
        plan_pro={"grants": [{"model": 2}]},
        plan_trial={"grants": [{"model": 1}]},
    )
    user = await store.user(42)
    assert (user.organisations, user.plans) == (("10",), ("pro", "trial"))
    organisation, pro, trial = await store.organisation("10"), await store.plan("pro"), await store.plan("trial")
    assert organisation is not None
    assert (organisation.name, [grant.model for grant in organisation.grants]) == ("Example", ["1", "2"])
    assert pro is not None
    assert trial is not None
    assert ([grant.model for grant in pro.grants], [grant.model for grant in trial.grants]) == (["2"], ["1"])


async def test_nothing_made_at_run_time_takes_over_what_the_file_names(join: Join) -> None:
    store = await join(
        {"models": [{"id": 1, "name": "gpt", "aliases": ["gpt-latest"], "endpoints": ENDPOINTS}]},
        model_1=model("taken over by id"),
        model_gpt=model("taken over by an id like a name"),
        model_5=model("gpt", aliases=["gpt-latest", "own"]),
    )
    catalogue = await store.catalogue()
    assert [each.id for each in catalogue.models] == [1, 5, "gpt"]
    assert all(catalogue.find(text) is catalogue.models[0] for text in ("1", "gpt", "gpt-latest"))
    assert catalogue.by_id("gpt") is catalogue.models[2]
    assert catalogue.find("own") is catalogue.models[1]
    assert [catalogue.is_in_file(each) for each in catalogue.models] == [True, False, False]


async def test_models_of_the_file_come_first_then_the_others_by_id(join: Join) -> None:
    runtime = {f"model_{each}": model(f"m{each}") for each in ("b", "100", "20", "3")}
    catalogue = await (
        await join({"models": [{"id": 50, "name": "file", "endpoints": ENDPOINTS}]}, **runtime)
    ).catalogue()
    assert [each.id for each in catalogue.models] == [50, 3, 20, 100, "b"]


async def test_fallbacks_lead_across_both_sides_and_what_leads_nowhere_is_left_out(join: Join) -> None:
    store = await join(
        {"models": TWO_MODELS},
        model_5=model("five", fallbacks=["gpt", 6, "nowhere", "five", "1", 5]),
        model_6=model("six"),
    )
    five = (await store.catalogue()).by_id(5)
    assert five is not None
    assert five.fallbacks == ("1", "6")


async def test_a_model_keeps_its_identity_while_others_change(join: Join, moody: MoodyStore) -> None:
    store = await join({"models": TWO_MODELS}, model_5=model("five", fallbacks=["gpt"]), model_6=model("six"))
    before = await store.catalogue()
    assert await store.catalogue() is before
    await moody.put("model", "6", model("six", tags=["new"]))
    after = await store.catalogue()
    assert after is not before
    assert after.by_id(5) is before.by_id(5)
    assert after.by_id(6) is not before.by_id(6)


async def test_a_grant_of_a_model_that_comes_later_counts_from_then_on(join: Join, moody: MoodyStore) -> None:
    store = await join({}, user_42={"grants": [{"id": 7, "model": "late"}]})
    assert (await store.user(42)).grants == ()
    await moody.put("model", "5", model("late"))
    assert [(grant.id, grant.model) for grant in (await store.user(42)).grants] == [(7, "5")]
    await moody.delete("model", "5")
    assert (await store.user(42)).grants == ()


async def test_a_revoked_grant_is_gone_at_once(join: Join, moody: MoodyStore) -> None:
    store = await join({"models": TWO_MODELS, "keys": WORLD["key"]}, user_42={"grants": [{"model": 1}]})
    catalogue = await store.catalogue()
    assert access_to(await caller_of(store), catalogue.models[0]).source == "user"
    await moody.put("user", "42", b"{}")
    with pytest.raises(ModelNotAccessible):
        access_to(await caller_of(store), catalogue.models[0])


async def test_a_record_is_joined_once_for_each_of_its_versions(join: Join) -> None:
    store = await join({"models": TWO_MODELS}, user_42={"grants": [{"model": 1}]})
    assert await store.user(42) is await store.user("42")


async def test_a_feature_set_at_run_time_holds_over_the_file_until_it_is_taken_away(
    join: Join, moody: MoodyStore
) -> None:
    store = await join({"features": {"ai": True, "studio": False}}, feature_ai=b"0", feature_studio=b"1")
    assert (await store.feature("ai"), await store.feature("studio")) == (False, True)
    await moody.delete("feature", "ai")
    assert await store.feature("ai") is True


async def test_keys_of_both_sides_work_and_the_file_s_holds(join: Join) -> None:
    other = "ab" * 32
    store = await join(
        {"keys": WORLD["key"]},
        **{f"key_{KEY_SHA256}": {"id": "evil", "user": 1, "scopes": ["ai:manage"]}, f"key_{other}": {"user": 1}},
    )
    listed, made = await store.key(KEY_SHA256), await store.key(other)
    assert listed is not None
    assert made is not None
    assert (listed.id, listed.user) == ("laptop", 42)
    assert (made.id, made.user) == (other, 1)


@pytest.mark.parametrize("tier", [None, "", "gold"])
async def test_a_tier_that_there_is_not_is_the_lowest(join: Join, tier: str | None) -> None:
    store = await join({}, user_42={"tier": tier} if tier is not None else {})
    assert (await store.user(42)).tier == "free"


async def test_while_the_store_is_away_the_file_goes_on_working(join: Join, moody: MoodyStore) -> None:
    moody.is_away = True
    store = await join({SECTIONS[kind]: records for kind, records in WORLD.items()})
    caller = await caller_of(store)
    catalogue = await store.catalogue()
    assert resolve(caller, catalogue, Named(None, "gpt", True), unknown_is_assigned=False).source == "user"
    assert not catalogue.is_complete
    assert await store.feature("ai") is True
    with pytest.raises(StoreUnavailable):
        await store.key("00" * 32)
    with pytest.raises(StoreUnavailable):
        await store.user(43)
    with pytest.raises(StoreUnavailable):
        await store.organisation("11")
    with pytest.raises(StoreUnavailable):
        await store.plan("trial")


async def test_while_the_store_is_away_what_is_remembered_goes_on_working(
    join: Join, moody: MoodyStore, clock: Clock
) -> None:
    store = await join(
        {"models": TWO_MODELS},
        user_42={"grants": [{"model": 5}, {"model": 1}], "organisations": [10]},
        org_10={"grants": [{"model": 2}]},
        model_5=model("five"),
        feature_ai=b"0",
        **{f"key_{KEY_SHA256}": {"user": 42}},
    )
    known = await caller_of(store), await store.catalogue(), await store.feature("ai")
    moody.is_away = True
    clock.advance(300)
    assert (await caller_of(store), await store.catalogue(), await store.feature("ai")) == known


async def test_a_reload_of_the_file_keeps_what_is_remembered(join: Join, moody: MoodyStore) -> None:
    before = await join({"models": TWO_MODELS}, user_42={"grants": [{"model": "gpt"}, {"model": "llama"}]})
    assert len((await before.user(42)).grants) == 2
    asked = moody.asked
    after = LayeredStore(file_store(models=TWO_MODELS[:1]), before._records, tiers=TIERS)
    assert [grant.model for grant in (await after.user(42)).grants] == ["1"]
    assert len((await before.user(42)).grants) == 2  # requests that began before are served to their end
    assert moody.asked == asked


async def test_a_hostile_user_id_is_a_user_whom_nobody_knows(world: GrantStore) -> None:
    for each in ("\udcff\udc80", "", "a" * 100_000, "x\r\ny\x00"):
        assert (await world.user(each)).grants == ()


async def test_no_credential_of_a_run_time_model_shows(join: Join, log: Log) -> None:
    store = await join({}, model_5=model("five", surprise=SECRET), model_6=model("six", rotation=SECRET[:2]))
    five = (await store.catalogue()).by_id(5)
    assert five is not None
    assert five.endpoints[0].api_key is not None
    assert five.endpoints[0].api_key.reveal() == SECRET
    assert SECRET not in repr(five) + repr(store) + repr(await store._records.models()) + log.text


async def test_a_text_stands_for_the_id_that_the_file_has(clock: Clock, moody: MoodyStore, log: Log) -> None:
    """Paths and headers have no types: a user, or one of whom the file has no more than a key, gives it its own."""
    keys = [ApiKey(id="a", user=7, sha256="1" * 64), ApiKey(id="b", user="8", sha256="2" * 64)]
    yaml = YamlStore(users=[User(id="9", tier="free"), User(id=10, tier="free")], keys=keys)
    store = LayeredStore(yaml, CachedRecords(moody, log.logger, clock=clock), tiers=("free",))
    asked = ("7", "8", "9", "10", "11", "007", "-0", "ada", "9" * 5000)
    assert [store.user_id(each) for each in asked] == [7, "8", "9", 10, 11, "007", "-0", "ada", "9" * 5000]
