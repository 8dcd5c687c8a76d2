"""One number says whether what follows from records may still be used: what raises it, and what does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from grants_kit import KEY_SHA256, Clock, Log, MoodyStore, document, model

from gateway.access.lookup_cache import LookUps
from gateway.store.cached import CachedRecords
from gateway.store.file import YamlStore
from gateway.store.freshness import FOLLOWS_SECONDS, FRESH_SECONDS, FRESH_WHILE_DEAF_SECONDS, LAST_KNOWN_SECONDS
from gateway.store.layered import LayeredStore

KEY = document(id="laptop", user=42)


@pytest.fixture
def records(moody: MoodyStore, clock: Clock, log: Log) -> CachedRecords:
    return CachedRecords(moody, log.logger, clock=clock)


def generation(records: CachedRecords) -> int:
    """The number by which a request that came now would judge."""
    LookUps(records.freshness).begin()
    return records.freshness.generation


def test_the_bounds_of_the_contract_hold_for_what_follows_from_records_too() -> None:
    assert FRESH_WHILE_DEAF_SECONDS + FOLLOWS_SECONDS < 1
    assert FRESH_SECONDS + FOLLOWS_SECONDS < 5
    assert LAST_KNOWN_SECONDS + FOLLOWS_SECONDS <= 600


async def a_key_is_deleted(moody: MoodyStore) -> None:
    await moody.delete("key", KEY_SHA256)


async def a_user_is_made(moody: MoodyStore) -> None:
    await moody.put("user", "42", b"{}")


async def a_switch_is_set(moody: MoodyStore) -> None:
    await moody.put("feature", "ai", b"0")


async def a_model_is_made(moody: MoodyStore) -> None:
    await moody.put("model", "1", model("one"))


async def changes_may_have_been_missed(moody: MoodyStore) -> None:
    moody.tell_that_changes_were_missed()


@pytest.mark.parametrize(
    "change",
    [a_key_is_deleted, a_user_is_made, a_switch_is_set, a_model_is_made, changes_may_have_been_missed],
)
async def test_every_change_that_is_heard_of_drops_what_followed(
    records: CachedRecords, moody: MoodyStore, change: Callable[[MoodyStore], Awaitable[None]]
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    lookups = LookUps(records.freshness)
    lookups.begin()
    lookups.features["ai"] = True
    lookups.begin()
    assert lookups.features == {"ai": True}, "nothing has happened"
    await change(moody)
    lookups.begin()
    assert lookups.features == {}


async def test_a_change_that_is_found_by_asking_again_drops_what_followed(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    """Of a record that is there, of one that was not, and of a model; the same answer again drops nothing."""
    await moody.put("key", KEY_SHA256, KEY)
    await moody.put("model", "1", model("one"))

    async def ask_for_all() -> int:
        await records.find("key", KEY_SHA256)
        await records.find("user", "42")
        await records.models()
        return generation(records)

    async def ask_again() -> int:
        """How many generations have begun but for the one that time brings."""
        before = await ask_for_all()
        clock.advance(FRESH_SECONDS)
        return await ask_for_all() - before - 1

    assert await ask_again() == 0
    await moody.write_unheard("key", KEY_SHA256, document(id="laptop", user=43))
    assert await ask_again() == 1
    await moody.write_unheard("user", "42", b"{}")
    assert await ask_again() == 1
    await moody.write_unheard("model", "1", model("two"))
    assert await ask_again() == 1
    await moody.write_unheard("key", KEY_SHA256, None)
    assert await ask_again() == 1


async def test_what_is_looked_up_for_the_first_time_drops_nothing(records: CachedRecords, moody: MoodyStore) -> None:
    """Or every caller who comes would cost all others their look-ups."""
    await moody.put("key", KEY_SHA256, KEY)
    before = generation(records)
    assert await records.find("key", KEY_SHA256) is not None
    assert await records.find("user", "42") is None
    assert generation(records) == before


def test_time_begins_a_new_generation_too(records: CachedRecords, clock: Clock) -> None:
    before = generation(records)
    clock.advance(FOLLOWS_SECONDS * 0.9)
    assert generation(records) == before
    clock.advance(FOLLOWS_SECONDS * 0.2)
    assert generation(records) == before + 1


async def test_models_that_were_asked_for_before_a_change_are_not_kept_after_it(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    """They are good for the request that asked, and for no other."""
    store = LayeredStore(YamlStore(), records, tiers=("free",))
    lookups = LookUps(records.freshness)
    lookups.begin()
    clock.advance(FOLLOWS_SECONDS)
    await lookups.find_catalogue(store)
    assert lookups.catalogue is not None
    lookups.begin()
    assert lookups.catalogue is None


async def test_the_age_of_what_is_used_is_known(records: CachedRecords, moody: MoodyStore, clock: Clock) -> None:
    """Of records, of their absence and of models; of what the file has alone there is none."""
    await moody.put("key", KEY_SHA256, KEY)
    await moody.put("model", "1", model("one"))
    store = LayeredStore(YamlStore(), records, tiers=("free",))
    assert store.age("key", KEY_SHA256) is None
    await store.key(KEY_SHA256)
    await store.user(42)
    await store.catalogue()
    clock.advance(2)
    assert [store.age("key", KEY_SHA256), store.age("user", "42"), store.age("model", "1")] == [2, 2, 2]
    assert YamlStore().age("user", "42") is None
