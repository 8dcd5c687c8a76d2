"""From headers to a caller (contract §3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from multidict import CIMultiDict

from gateway.access.authenticate import Authenticator, Shown, key_sha256
from gateway.access.lookup_cache import MOST_CALLERS, LookUps, Use
from gateway.errors import InsufficientScope, InvalidKey, InvalidRequest, MissingKey
from gateway.limits import terms_of
from gateway.store.base import RecordStore
from gateway.store.file import YamlStore
from gateway.store.freshness import Freshness
from gateway.types import Access, ApiKey, Model, Organisation, Plan, User

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = "sk-test-key-of-forty-two-0001"


def authenticator(
    lookups: LookUps | None = None, clock: Callable[[], datetime] = lambda: NOW, **changes: object
) -> Authenticator:
    record = ApiKey(id="laptop", user=42, sha256=key_sha256(KEY), **changes)  # type: ignore[arg-type]
    store = YamlStore(
        users=[User(id=42, tier="paid", organisations=("10", "gone"), plans=("pro",))],
        organisations=[Organisation(id=10)],
        plans=[Plan(id="pro")],
        keys=[record],
        lowest_tier="free",
    )
    return Authenticator(store, clock, lookups)


def ageless() -> LookUps:
    """Look-ups of records that never change."""
    return LookUps(Freshness(cast(RecordStore, None), lambda: 0.0))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"Authorization": f"ApiKey {KEY}"},
        {"X-Api-Key": KEY},
        {"Api-Key": KEY},
        {"Authorization": "Basic Zm9v", "x-api-key": KEY},
        {"Authorization": "Basic Zm9v", "api-key": KEY},
        {"Authorization": f"Bearer {KEY}", "x-api-key": "other", "api-key": "another"},
        {"Authorization": "Bearer ", "x-api-key": KEY, "api-key": "another"},
    ],
)
def test_a_key_is_taken_from_each_of_its_places(headers: dict[str, str]) -> None:
    assert Shown.of(CIMultiDict(headers)).key() == KEY


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer "}, {"Authorization": KEY}])
def test_no_key_is_told_from_a_wrong_one(headers: dict[str, str]) -> None:
    shown = Shown.of(CIMultiDict(headers))
    assert shown.presented is None, "so that a session may stand for the caller"
    with pytest.raises(MissingKey):
        shown.key()


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
@pytest.mark.parametrize("values", [["Bearer a", "Bearer a"], ["", "Bearer a"], [""], [" "], ["Bearer " + "k" * 4096]])
def test_a_credential_that_is_read_differently_by_others_is_refused(name: str, values: list[str]) -> None:
    """There twice (even alike), empty or endless; also beside another that is good."""
    good = [] if name == "authorization" else [("authorization", f"Bearer {KEY}")]
    with pytest.raises(InvalidRequest, match=f"`{name}`"):
        Shown.of(CIMultiDict([*good, *((name, value) for value in values)])).key()


@pytest.mark.parametrize("users", [[""], ["42", "42"], ["u" * 257], ["\u00e9" * 129], ["\x1b"], ["\udcff"]])
async def test_a_user_to_act_for_has_one_name_of_256_bytes_at_most(users: list[str]) -> None:
    """Whoever shows no good key learns nothing of it."""
    acting = authenticator(scopes=frozenset(("ai:use", "act:as")))
    shown = CIMultiDict([("x-api-key", KEY), *(("x-gateway-user", user) for user in users)])
    with pytest.raises(InvalidRequest):
        await acting.caller(Shown.of(shown), "ai:use")
    with pytest.raises(InvalidKey):
        await acting.caller(Shown.of(CIMultiDict([*shown.items(), ("authorization", "Bearer other")])), "ai:use")
    caller = await acting.caller(Shown.of(CIMultiDict({"x-api-key": KEY, "x-gateway-user": "u" * 256})), "ai:use")
    assert caller.user.id == "u" * 256


async def test_a_caller_of_a_moment_ago_is_asked_for_the_scope_again() -> None:
    """What is remembered is who they are, not what they may do with this request."""
    lookups = ageless()
    lookups.begin()
    known = authenticator(lookups, scopes=frozenset(("ai:use",)))
    shown = Shown.of(CIMultiDict({"x-api-key": KEY}))
    assert known.remembered(shown, "ai:use") is None
    caller = await known.caller(shown, "ai:use")
    assert known.remembered(shown, "ai:use") is caller
    with pytest.raises(InsufficientScope):
        known.remembered(shown, "ai:manage")


async def test_a_caller_of_a_moment_ago_is_refused_once_its_key_expires() -> None:
    lookups, now = ageless(), [NOW]
    lookups.begin()
    known = authenticator(lookups, clock=lambda: now[0], expires=NOW + timedelta(seconds=1))
    shown = Shown.of(CIMultiDict({"x-api-key": KEY}))
    await known.caller(shown, "ai:use")
    now[0] += timedelta(seconds=1)
    with pytest.raises(InvalidKey):
        known.remembered(shown, "ai:use")


async def test_what_was_looked_up_last_is_known_however_many_came_before() -> None:
    """What callers of long ago asked for makes room: they may never come again."""
    lookups = ageless()
    lookups.begin()
    known = authenticator(lookups, scopes=frozenset(("ai:use", "act:as")))
    access = Access(Model(id=1, name="one"), "global")
    for number in range(MOST_CALLERS + 1):
        caller = await known.caller(Shown(KEY, f"user-{number}"), "ai:use")
        lookups.remember("one", use := Use(caller, access, terms_of(access, caller)))
        assert lookups.use(caller, "one") is use
    assert len(lookups.callers) <= MOST_CALLERS


async def test_the_caller_comes_with_what_they_belong_to() -> None:
    caller = await authenticator().caller(Shown.of(CIMultiDict({"x-api-key": KEY})), "ai:use")
    assert (caller.user.id, caller.user.tier) == (42, "paid")
    assert [one.id for one in caller.organisations] == [10], "one that is gone is passed over"
    assert [one.id for one in caller.plans] == ["pro"]


async def acting_for(acted_for: str, *, key_user: User, acted: User) -> None:
    key = ApiKey(id="panel", user=key_user.id, sha256=key_sha256(KEY), scopes=frozenset(("ai:use", "act:as")))
    store = YamlStore(users=[key_user, acted], keys=[key], lowest_tier="free")
    shown = Shown.of(CIMultiDict({"x-api-key": KEY, "x-gateway-user": acted_for}))
    await Authenticator(store, lambda: NOW).caller(shown, "ai:use")


async def test_a_key_that_is_switched_off_opens_nothing() -> None:
    with pytest.raises(InvalidKey):
        await authenticator(enabled=False).caller(Shown.of(CIMultiDict({"x-api-key": KEY})), "ai:use")
    with pytest.raises(InvalidKey):
        await authenticator(enabled=False).key_alone(Shown.of(CIMultiDict({"x-api-key": KEY})))


async def test_no_key_of_a_user_who_is_switched_off_opens_anything() -> None:
    """Neither their own nor one that acts for them; and their own does not act for others either."""
    on, off = User(id=42, tier="free"), User(id=43, tier="free", enabled=False)
    await acting_for("42", key_user=User(id="panel", tier="free"), acted=on)
    for key_user, acted, acted_for in ((off, on, "42"), (on, off, "43"), (off, on, "43")):
        with pytest.raises(InvalidKey):
            await acting_for(acted_for, key_user=key_user, acted=acted)


async def test_an_expired_key_and_an_unknown_one_get_the_same_answer() -> None:
    answers = []
    for found, presented in (
        (authenticator(expires=NOW), KEY),
        (authenticator(), "sk-test-key-nobody-has-00000"),
    ):
        with pytest.raises(InvalidKey) as refusal:
            await found.caller(Shown.of(CIMultiDict({"x-api-key": presented})), "ai:use")
        answers.append((refusal.value.status, refusal.value.code, refusal.value.message))
    assert len(set(answers)) == 1


async def test_a_key_works_until_the_second_it_expires() -> None:
    caller = await authenticator(expires=NOW + timedelta(seconds=1)).caller(
        Shown.of(CIMultiDict({"x-api-key": KEY})), "ai:use"
    )
    assert caller.key.id == "laptop"


async def test_a_missing_scope_is_named() -> None:
    with pytest.raises(InsufficientScope, match="ai:manage"):
        await authenticator().caller(Shown.of(CIMultiDict({"x-api-key": KEY})), "ai:manage")


async def test_acting_for_another_user_needs_its_scope_and_adds_none() -> None:
    headers = {"x-api-key": KEY, "x-gateway-user": "7"}
    with pytest.raises(InsufficientScope, match="act:as"):
        await authenticator().caller(Shown.of(CIMultiDict(headers)), "ai:use")
    allowed = authenticator(scopes=frozenset(("ai:use", "act:as")))
    caller = await allowed.caller(Shown.of(CIMultiDict(headers)), "ai:use")
    assert (caller.user.id, caller.user.tier) == ("7", "free"), "a user nobody listed has the lowest tier"
    assert caller.key.scopes == {"ai:use", "act:as"}
    with pytest.raises(InsufficientScope):
        await allowed.caller(Shown.of(CIMultiDict(headers)), "ai:manage")
