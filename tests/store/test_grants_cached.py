"""What is remembered of run-time records, for how long, and what a flood or an outage does to it."""

from __future__ import annotations

import asyncio
import hashlib
import timeit

import pytest
from grants_kit import KEY_SHA256, Clock, Log, MoodyStore, document, model, until

from gateway.errors import StoreUnavailable
from gateway.store.cached import UNKNOWN_KEYS_AT_ONCE, UNKNOWN_KEYS_PER_SECOND, CachedRecords
from gateway.types import ApiKey

KEY = document(id="laptop", user=42)


def sha256(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


@pytest.fixture
def records(moody: MoodyStore, clock: Clock, log: Log) -> CachedRecords:
    return CachedRecords(moody, log.logger, clock=clock, size=10, misses=10)


async def test_a_record_is_asked_for_once_and_again_within_five_seconds(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    for _ in range(3):
        assert await records.find("key", KEY_SHA256) is not None
    assert moody.asked == 1
    clock.advance(5)
    assert await records.find("key", KEY_SHA256) is not None
    assert moody.asked == 2


async def test_what_is_in_use_is_asked_for_ahead_of_its_time_and_nobody_waits(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    await moody.put("model", "1", model("one"))
    known, layer = await records.find("key", KEY_SHA256), await records.models()
    await moody.write_unheard("key", KEY_SHA256, None)
    await moody.write_unheard("model", "1", None)
    clock.advance(4)
    for _ in range(3):
        assert await records.find("key", KEY_SHA256) is known
        assert await records.models() is layer
    await until(lambda: moody.asked == 2 and len(records) == 0)
    assert await records.find("key", KEY_SHA256) is None
    async with asyncio.timeout(1):
        while (await records.models()).models:  # noqa: ASYNC110 - the store's thread is asked meanwhile
            await asyncio.sleep(0)
    assert moody.asked == 2


async def test_a_revocation_that_was_published_counts_at_once(records: CachedRecords, moody: MoodyStore) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    assert await records.find("key", KEY_SHA256) is not None
    await moody.delete("key", KEY_SHA256)
    assert await records.find("key", KEY_SHA256) is None


async def test_a_revocation_that_was_not_published_counts_within_five_seconds(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    assert await records.find("key", KEY_SHA256) is not None
    await moody.write_unheard("key", KEY_SHA256, None)
    clock.advance(5)
    assert await records.find("key", KEY_SHA256) is None


async def test_a_miss_is_remembered_and_forgotten_in_the_same_way(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    for _ in range(3):
        assert await records.find("user", "42") is None
    assert moody.asked == 1
    await moody.write_unheard("user", "42", b"{}")
    assert await records.find("user", "42") is None
    clock.advance(5)
    assert await records.find("user", "42") is not None
    await moody.put("user", "43", b"{}")
    assert await records.find("user", "43") is not None


async def test_while_changes_cannot_be_heard_of_nothing_is_relied_on_for_a_second(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    assert await records.find("key", KEY_SHA256) is not None
    await moody.write_unheard("key", KEY_SHA256, None)
    moody.is_deaf = True
    clock.advance(0.9)
    assert await records.find("key", KEY_SHA256) is None


async def test_where_changes_may_have_been_missed_everything_is_asked_for_again(
    records: CachedRecords, moody: MoodyStore
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    await moody.put("model", "1", model("one"))
    assert await records.find("key", KEY_SHA256) is not None
    assert len((await records.models()).models) == 1
    await moody.write_unheard("key", KEY_SHA256, None)
    await moody.write_unheard("model", "1", None)
    moody.tell_that_changes_were_missed()
    assert await records.find("key", KEY_SHA256) is None
    assert (await records.models()).models == ()


@pytest.mark.parametrize("is_heard", [True, False])
async def test_a_change_during_a_look_up_is_not_lost(records: CachedRecords, moody: MoodyStore, is_heard: bool) -> None:
    """Whoever asks after it does not wait for an answer from before it: heard of, or perhaps missed."""
    await moody.put("key", KEY_SHA256, KEY)
    moody.gate = asyncio.Event()
    early = asyncio.create_task(records.find("key", KEY_SHA256))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert moody.asked == 1
    if is_heard:
        await moody.delete("key", KEY_SHA256)
    else:
        await moody.write_unheard("key", KEY_SHA256, None)
        moody.tell_that_changes_were_missed()
    late = asyncio.create_task(records.find("key", KEY_SHA256))
    await asyncio.sleep(0)
    moody.gate.set()
    assert await early is not None  # it asked before the revocation
    assert await late is None
    assert await records.find("key", KEY_SHA256) is None


@pytest.mark.parametrize("is_heard", [True, False])
async def test_a_change_while_models_are_being_read_is_not_lost(
    records: CachedRecords, moody: MoodyStore, is_heard: bool
) -> None:
    await moody.put("model", "1", model("before"))
    moody.gate = asyncio.Event()
    early = asyncio.create_task(records.models())
    await until(lambda: moody.at_gate == 1)
    if is_heard:
        await moody.put("model", "1", model("after"))
    else:
        await moody.write_unheard("model", "1", model("after"))
        moody.tell_that_changes_were_missed()
    late = asyncio.create_task(records.models())
    await until(lambda: moody.at_gate == 2)
    moody.gate.set()
    assert [each.name for each in (await late).models] == ["after"]
    assert [each.name for each in (await early).models] == ["before"]  # it asked before the change
    assert [each.name for each in (await records.models()).models] == ["after"]


async def test_an_early_answer_that_comes_late_replaces_nothing(records: CachedRecords, moody: MoodyStore) -> None:
    await moody.put("model", "1", model("before"))
    moody.gate = first_gate = asyncio.Event()
    early = asyncio.create_task(records.models())
    await until(lambda: moody.at_gate == 1)
    await moody.put("model", "1", model("after"))
    moody.gate = None
    assert [each.name for each in (await records.models()).models] == ["after"]
    first_gate.set()
    await early
    assert [each.name for each in (await records.models()).models] == ["after"]


async def test_many_who_want_the_same_ask_once_and_one_who_leaves_takes_nothing_from_the_rest(
    records: CachedRecords, moody: MoodyStore
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    moody.gate = asyncio.Event()
    wanting = [asyncio.create_task(records.find("key", KEY_SHA256)) for _ in range(50)]
    await asyncio.sleep(0)
    wanting[0].cancel()
    moody.gate.set()
    found = await asyncio.gather(*wanting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(getattr(each, "record", None) == ApiKey(id="laptop", user=42, sha256=KEY_SHA256) for each in found[1:])
    assert moody.asked == 1


async def test_while_the_store_is_away_what_was_known_last_holds_for_ten_minutes(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    await moody.put("model", "1", model("one"))
    assert await records.find("key", KEY_SHA256) is not None
    assert await records.find("user", "42") is None
    assert (await records.models()).is_complete
    moody.is_away = True
    clock.advance(599)
    assert await records.find("key", KEY_SHA256) is not None
    assert await records.find("user", "42") is None
    assert [each.name for each in (await records.models()).models] == ["one"]
    clock.advance(2)
    with pytest.raises(StoreUnavailable):
        await records.find("key", KEY_SHA256)
    with pytest.raises(StoreUnavailable):
        await records.find("user", "42")
    assert await records.models() == ((), False)
    moody.is_away = False
    assert await records.find("key", KEY_SHA256) is not None
    assert (await records.models()).is_complete


async def test_a_key_is_never_called_unknown_by_a_store_that_cannot_be_asked(
    records: CachedRecords, moody: MoodyStore
) -> None:
    assert await records.find("key", KEY_SHA256) is None
    moody.is_away = True
    with pytest.raises(StoreUnavailable):
        await records.find("key", KEY_SHA256)  # it was unknown a moment ago, and may have been made since
    with pytest.raises(StoreUnavailable):
        await records.find("key", sha256(1))


async def test_a_key_whose_revocation_was_heard_of_does_not_come_back_in_an_outage(
    records: CachedRecords, moody: MoodyStore
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    assert await records.find("key", KEY_SHA256) is not None
    await moody.delete("key", KEY_SHA256)
    moody.is_away = True
    with pytest.raises(StoreUnavailable):
        await records.find("key", KEY_SHA256)


async def test_records_and_misses_are_bounded_apart(records: CachedRecords, moody: MoodyStore) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    await moody.put("user", "42", b"{}")
    for found in (("key", KEY_SHA256), ("user", "42"), ("org", "10")):
        await records.find(found[0], found[1])  # type: ignore[arg-type]  # kinds, each of them
    asked = moody.asked
    for number in range(500):
        assert await records.find("key", sha256(number)) is None
    assert moody.asked == asked + 500
    assert await records.find("key", KEY_SHA256) is not None
    assert await records.find("user", "42") is not None
    assert await records.find("org", "10") is None  # misses of other kinds are not pushed out either
    assert moody.asked == asked + 500
    assert repr(records) == "<CachedRecords: 2 of 10 known, 11 known to be missing>"


async def test_the_least_recently_used_goes_first(records: CachedRecords, moody: MoodyStore) -> None:
    for number in range(11):
        await moody.put("user", str(number), b"{}")
    for number in range(10):
        await records.find("user", str(number))
    await records.find("user", "0")
    await records.find("user", "10")
    asked = moody.asked
    await records.find("user", "0")
    assert moody.asked == asked
    await records.find("user", "1")
    assert (moody.asked, len(records)) == (asked + 1, 10)


async def test_a_flood_of_unknown_keys_asks_for_a_share_of_them_and_leaves_known_ones_alone(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    assert await records.find("key", KEY_SHA256) is not None
    asked, refused = moody.asked, 0
    for number in range(5000):
        try:
            assert await records.find("key", sha256(number)) is None
        except StoreUnavailable:
            refused += 1
    assert moody.asked == asked + UNKNOWN_KEYS_AT_ONCE
    assert refused == 5000 - UNKNOWN_KEYS_AT_ONCE
    assert await records.find("key", KEY_SHA256) is not None
    clock.advance(2)
    for number in range(int(2 * UNKNOWN_KEYS_PER_SECOND)):
        assert await records.find("key", sha256(-1 - number)) is None


async def test_a_known_key_is_asked_for_again_even_in_a_flood(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    assert await records.find("key", KEY_SHA256) is not None
    clock.advance(10)
    for number in range(int(UNKNOWN_KEYS_AT_ONCE)):
        await records.find("key", sha256(number))
    await moody.write_unheard("key", KEY_SHA256, None)
    assert await records.find("key", KEY_SHA256) is None


async def test_a_sloppy_document_counts_as_absent_and_is_told_once(
    records: CachedRecords, moody: MoodyStore, log: Log, clock: Clock
) -> None:
    await moody.put("user", "42", b'{"tier": 5}')
    await moody.put("key", KEY_SHA256, b"{")
    await moody.put("feature", "ai", b"maybe")
    await moody.put("model", "1", b'{"name": "no endpoints"}')
    await moody.put("model", "2", model("good", extra=1))
    for _ in range(3):
        clock.advance(5)
        assert await records.find("user", "42") is None
        assert await records.find("key", KEY_SHA256) is None
        switch = await records.find("feature", "ai")
        assert switch is not None
        assert switch.record is False
        assert [each.name for each in (await records.models()).models] == ["good"]
    told = {line["record"]: line["because"] for line in log.events("record cannot be used")}
    assert len(log.events("record cannot be used")) == 3
    assert told["user:42"].startswith("tier: expected text")
    assert told[f"key:{KEY_SHA256[:16]}…"] == "not valid JSON"
    assert told["model:1"] == "endpoints: is missing"
    assert [line["because"] for line in log.events("fields passed over")] == ["extra"]
    assert [line["record"] for line in log.events("switch counts as off")] == ["feature:ai"]
    await moody.put("user", "42", b'{"tier": 6}')
    await records.find("user", "42")
    assert len(log.events("record cannot be used")) == 4


async def test_models_stay_the_same_object_until_one_changes(
    records: CachedRecords, moody: MoodyStore, clock: Clock
) -> None:
    for each in ("10", "9", "b"):
        await moody.put("model", each, model(f"m{each}"))
    first = await records.models()
    assert [each.id for each in first.models] == [9, 10, "b"]
    clock.advance(5)
    assert await records.models() is first
    await moody.put("model", "10", model("renamed"))
    second = await records.models()
    assert [each.name for each in second.models] == ["m9", "renamed", "mb"]
    assert second.models[0] is first.models[0]
    await moody.write_unheard("model", "9", None)
    clock.advance(5)
    assert [each.name for each in (await records.models()).models] == ["renamed", "mb"]


async def test_many_look_ups_at_the_same_time_are_bounded(records: CachedRecords, moody: MoodyStore) -> None:
    moody.gate = asyncio.Event()
    wanting = [asyncio.create_task(records.find("user", str(number))) for number in range(1100)]
    await asyncio.sleep(0)
    moody.gate.set()
    found = await asyncio.gather(*wanting, return_exceptions=True)
    assert sum(isinstance(each, StoreUnavailable) for each in found) == 100


async def test_what_is_fresh_is_found_without_giving_up_the_turn(records: CachedRecords, moody: MoodyStore) -> None:
    await moody.put("key", KEY_SHA256, KEY)
    known = await records.find("key", KEY_SHA256)
    finding = records.find("key", KEY_SHA256)
    with pytest.raises(StopIteration) as ended:
        finding.send(None)
    assert ended.value.value is known


if __name__ == "__main__":  # what a hit costs: python tests/store/test_grants_cached.py

    def hit(records: CachedRecords) -> None:
        finding = records.find("key", KEY_SHA256)
        try:
            finding.send(None)
        except StopIteration:
            return

    async def measure() -> float:
        import tempfile

        with tempfile.TemporaryDirectory() as directory:
            store = MoodyStore(directory, Log().logger)
            await store.put("key", KEY_SHA256, KEY)
            records = CachedRecords(store, Log().logger)
            await records.find("key", KEY_SHA256)
            seconds = timeit.timeit(lambda: hit(records), number=200_000) / 200_000
            await store.close()
            return seconds

    print(f"{asyncio.run(measure()) * 1e6:.2f} µs")  # noqa: T201 - a measurement to be read
