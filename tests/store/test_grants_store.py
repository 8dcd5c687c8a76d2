"""One contract for every `RecordStore`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from grants_kit import document, until

from gateway.store.base import DISABLED, ENABLED, MOST_AUDIT_ENTRIES, Kind, RecordStore, hash_of_key, page


async def test_a_document_comes_back_as_it_was_written_and_tells_what_was_before(store: RecordStore) -> None:
    assert await store.get("user", "42") is None
    assert await store.put("user", "42", b'{"tier":"paid"}') is None
    assert await store.put("user", "42", b"\x00not even JSON\xff") == b'{"tier":"paid"}'
    assert await store.get("user", "42") == b"\x00not even JSON\xff"
    assert await store.delete("user", "42") == b"\x00not even JSON\xff"
    assert await store.delete("user", "42") is None
    assert await store.get("user", "42") is None


async def test_kinds_do_not_mix_and_ids_may_hold_any_text(store: RecordStore) -> None:
    ids = ["1", "a:b", "meta/llama *[x]?", "ünï", "", "1 OR 1=1", "\\"]
    for each in ids:
        await store.put("plan", each, each.encode())
    await store.put("org", "1", b"the organisation")
    assert await store.get_many("plan", ids) == [each.encode() for each in ids]
    assert sorted(await store.ids("plan")) == sorted(ids)
    assert await store.ids("org") == ["1"]


async def test_an_id_that_utf8_cannot_write_is_an_id_that_nothing_has(store: RecordStore) -> None:
    assert await store.get("user", "\udcff") is None


async def test_many_documents_come_in_the_order_asked_for(store: RecordStore) -> None:
    await store.put("org", "b", b"B")
    await store.put("org", "a", b"A")
    assert await store.get_many("org", ["b", "nobody", "a", "b"]) == [b"B", None, b"A", b"B"]
    assert await store.get_many("org", []) == []


@pytest.mark.parametrize("kind", ["model", "user", "key"])
async def test_listings_come_in_natural_order_page_by_page(store: RecordStore, kind: Kind) -> None:
    for each in ("10", "9", "b", "a", "100"):
        await store.put(kind, each, each.encode())
    assert await store.ids(kind) == ["9", "10", "100", "a", "b"]
    first = await page(store, kind, most=2)
    assert (first.records, first.next) == ([("9", b"9"), ("10", b"10")], "10")
    rest = await page(store, kind, after=first.next)
    assert ([record_id for record_id, _ in rest.records], rest.next) == (["100", "a", "b"], None)


async def test_a_key_is_found_by_its_id_however_it_is_written(store: RecordStore) -> None:
    await store.put("key", "aa", b'{"id":7}')
    await store.put("key", "bb", b'{"id":"laptop"}')
    await store.put("key", "cc", b"{")
    await store.put("key", "dd", b"{}")
    found = [await hash_of_key(store, each) for each in ("7", "laptop", "cc", "dd", "nobody")]
    assert found == ["aa", "bb", "cc", "dd", None]


async def test_a_deleted_model_leaves_the_listing(store: RecordStore) -> None:
    await store.put("model", "1", b"{}")
    await store.put("model", "2", b"{}")
    await store.delete("model", "1")
    assert await store.ids("model") == ["2"]


async def test_features_are_documents_too(store: RecordStore) -> None:
    await store.put("feature", "ai", DISABLED)
    await store.put("feature", "studio", ENABLED)
    assert await store.get_many("feature", ["ai", "studio"]) == [b"0", b"1"]


async def test_an_update_sees_what_is_there_and_may_create_and_delete(store: RecordStore) -> None:
    seen: list[bytes | None] = []

    def note(before: bytes | None) -> bytes | None:
        seen.append(before)
        return None if before else b"made"

    assert await store.update("user", "42", note) == b"made"
    assert await store.get("user", "42") == b"made"
    assert await store.update("user", "42", note) is None
    assert await store.get("user", "42") is None
    assert seen == [None, b"made"]


async def test_concurrent_updates_lose_nothing(store: RecordStore) -> None:
    def add_one(before: bytes | None) -> bytes:
        return str(int(before or b"0") + 1).encode()

    await asyncio.gather(*(store.update("user", "42", add_one) for _ in range(20)))
    assert await store.get("user", "42") == b"20"


async def test_an_update_that_fails_writes_nothing_and_tells_why(store: RecordStore) -> None:
    await store.put("user", "42", b"before")

    def refuse(_: bytes | None) -> bytes:
        raise LookupError("no such link")

    with pytest.raises(LookupError, match="no such link"):
        await store.update("user", "42", refuse)
    assert await store.get("user", "42") == b"before"
    await store.put("user", "42", b"after")  # and nothing is left locked
    assert await store.get("user", "42") == b"after"


async def test_whoever_wrote_has_been_told_of_the_change_when_the_write_returns(store: RecordStore) -> None:
    heard: list[tuple[Kind | None, str | None]] = []
    store.on_change(lambda kind, record_id: heard.append((kind, record_id)))
    await store.put("org", "10", b"{}")
    assert ("org", "10") in heard
    heard.clear()
    await store.update("plan", "pro", lambda _: b"{}")
    assert ("plan", "pro") in heard
    heard.clear()
    await store.delete("plan", "pro")
    assert ("plan", "pro") in heard


async def test_a_cancelled_writer_leaves_the_store_usable_and_the_change_heard_of(store: RecordStore) -> None:
    heard: list[str | None] = []
    store.on_change(lambda _, record_id: heard.append(record_id))
    write = asyncio.create_task(store.put("user", "42", b"written"))
    await asyncio.sleep(0)
    write.cancel()
    with suppress(asyncio.CancelledError):
        await write
    await until(lambda: "42" in heard)
    assert await store.get("user", "42") == b"written"


async def test_the_audit_keeps_the_newest_thousand(store: RecordStore) -> None:
    for start in range(0, MOST_AUDIT_ENTRIES + 100, 100):
        await asyncio.gather(*(store.append_audit(b"%d" % number) for number in range(start, start + 100)))
    await store.append_audit(b"newest")
    kept = await store.audit(2000)
    assert kept[0] == b"newest"
    assert len(kept) == MOST_AUDIT_ENTRIES
    assert b"0" not in kept
    assert await store.audit(1) == [b"newest"]
    assert await store.audit(0) == []


async def test_cooldown_records_are_kept_newest_first(store: RecordStore) -> None:
    for number in range(1, 1003):
        store.push_cooldown(document(waitMs=number))
    kept = await store.cooldowns(2000)
    assert kept[0] == document(waitMs=1002)
    assert kept[-1] == document(waitMs=3)
    assert len(kept) == 1000
    assert await store.cooldowns(2) == [document(waitMs=1002), document(waitMs=1001)]


async def test_a_healthy_store_says_so(store: RecordStore) -> None:
    assert store.available
    assert store.receives_changes
    assert store.status()[1:] == (True, True, None)
