"""What answers bring is remembered before the client has it; accounts that leave and come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.dialects.openai.operations import RESPONSES, RETRIEVALS
from gateway.errors import ObjectNotFound, ObjectsApart, StoreUnavailable
from gateway.objects.accounts import Accounts
from gateway.objects.record import ObjectRecord, Place
from gateway.proxy.keeping.kept_events import KeptEvents
from gateway.proxy.keeping.object_keeper import Keeper, learnt_by
from gateway.proxy.keeping.pins import find, named_by
from gateway.types import Endpoint, Model, Secret

ENDPOINT = Endpoint(id="a", url="http://a/v1", api_key=Secret("sk-a"))
OTHER = Endpoint(id="b", url="http://b/v1", api_key=Secret("sk-b"))
MODEL = Model(id=1, name="m", endpoints=(ENDPOINT, OTHER))
ACCOUNTS = Accounts([MODEL])


class SlowIndex:
    """Remembers when it is let; `fails`: it cannot."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.records: dict[str, ObjectRecord] = {}
        self.places: dict[str, Place] = {}
        self.fails = False

    async def remember(self, records: Iterable[ObjectRecord]) -> frozenset[str]:
        await self.may_go_on.wait()
        if self.fails:
            raise StoreUnavailable("away")
        self.records |= {record.id: record for record in records}
        return frozenset()

    async def remember_content(self, hashes: Iterable[str], *, owner: str, account: str) -> None:
        self.places |= dict.fromkeys(hashes, Place(account, owner))

    async def find(self, ids: Iterable[str]) -> dict[str, ObjectRecord]:
        return {each: self.records[each] for each in ids if each in self.records}

    async def find_content(self, hashes: Iterable[str]) -> dict[str, Place]:
        return {each: self.places[each] for each in hashes if each in self.places}

    def touch(self, records: Iterable[ObjectRecord]) -> None: ...


class PouringAttempt:
    """An attempt that pours these pieces, one a turn of the loop."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.failure: Exception | None = None
        self.closed = False

    async def pour(self, on_event: Any, *, into_stream: bool = False) -> Exception | None:
        for piece in self.pieces:
            if self.failure is not None:
                break
            on_event(piece)
            await asyncio.sleep(0)
        return self.failure

    def on_failure(self, error: Exception) -> None:
        self.failure = error

    def pressure(self, paused: bool) -> None: ...

    def close(self) -> None:
        self.closed = True


def event(**fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(fields).encode()


def keeper(index: Any) -> Keeper:
    ids = learnt_by(RESPONSES, {})
    return Keeper(index, ACCOUNTS, ids, RESPONSES.contents, owner="42", model="1")


CREATED = event(type="response.created", response={"id": "resp_1", "output": []})
DELTA = event(type="response.output_text.delta", item_id="msg_1", delta="Hi")
ADDED = event(type="response.output_item.added", item={"id": "msg_1", "type": "message"})


async def test_events_wait_in_their_order_until_what_is_in_them_is_remembered() -> None:
    index, out = SlowIndex(), list[bytes]()
    events = KeptEvents(keeper(index), PouringAttempt(DELTA, ADDED, DELTA), out.append, MODEL, ENDPOINT)  # type: ignore[arg-type]
    pouring = asyncio.create_task(events.pour(into_stream=False))
    for _ in range(5):
        await asyncio.sleep(0)
    assert out == [DELTA]  # nothing new is in it
    index.may_go_on.set()
    assert await pouring is None
    assert out == [DELTA, ADDED, DELTA]
    assert list(index.records) == ["msg_1"]


async def test_an_event_whose_objects_cannot_be_remembered_does_not_go_out() -> None:
    index, out = SlowIndex(), list[bytes]()
    index.fails = True
    index.may_go_on.set()
    attempt = PouringAttempt(CREATED, DELTA)
    events = KeptEvents(keeper(index), attempt, out.append, MODEL, ENDPOINT)  # type: ignore[arg-type]
    assert await events.pour(into_stream=False) is not None
    assert out == []


async def test_the_same_ids_are_remembered_once() -> None:
    index = SlowIndex()
    index.may_go_on.set()
    one = keeper(index)
    assert [record.id for record in one.news_in(CREATED + ADDED, MODEL, ENDPOINT).records] == ["resp_1", "msg_1"]
    assert not one.news_in(CREATED + DELTA + ADDED, MODEL, ENDPOINT)
    sealed = event(type="response.output_item.done", item={"id": "msg_1", "encrypted_content": "sealed"})
    assert len(one.news_in(sealed, MODEL, ENDPOINT).hashes) == 1


async def test_a_whole_answer_keeps_its_bytes_and_what_it_is_about() -> None:
    index = SlowIndex()
    index.may_go_on.set()
    row = RETRIEVALS["file"]
    raw = b'{ "id": "file-1", "purpose": "vision", "created_at": 7, "bytes": 1e400, "status":"uploaded"}'
    kept = Keeper(index, ACCOUNTS, learnt_by(row, {}), row.contents, owner="42", model=None)  # type: ignore[arg-type]
    await kept.whole(MODEL, OTHER, raw.replace(b"1e400", b"1.50"), b"")
    record = index.records["file-1"]
    assert record.body == raw.replace(b"1e400", b"1.50")
    assert (record.kind, record.created, record.final, record.about["purpose"]) == ("file", 7, False, "vision")
    assert ACCOUNTS.find(record.account) is ACCOUNTS.of(MODEL, OTHER)


@pytest.mark.parametrize("left", [True, False])
async def test_an_account_that_has_left_is_told_to_the_owner_alone(left: bool) -> None:
    index = SlowIndex()
    index.records["resp_1"] = ObjectRecord(
        id="resp_1", kind="response", owner="42", account=ACCOUNTS.label(MODEL, ENDPOINT)
    )
    now = Accounts([Model(id=1, name="m", endpoints=(OTHER,))]) if left else ACCOUNTS
    named = named_by(RESPONSES, {}, {"previous_response_id": "resp_1"}, b'{"previous_response_id":"resp_1"}')
    if not left:
        found = await find(index, now, "42", named, takes_unknown=False)  # type: ignore[arg-type]
        assert found.account is ACCOUNTS.of(MODEL, ENDPOINT)
        return
    with pytest.raises(ObjectNotFound, match="not configured any more"):
        await find(index, now, "42", named, takes_unknown=False)  # type: ignore[arg-type]
    with pytest.raises(ObjectNotFound, match="No object of yours") as refusal:
        await find(index, now, "43", named, takes_unknown=False)  # type: ignore[arg-type]
    assert refusal.value.param == "previous_response_id"


async def test_sealed_content_of_another_user_pins_nothing() -> None:
    index = SlowIndex()
    named = named_by(
        RESPONSES, {}, {"input": [{"encrypted_content": "sealed"}]}, b'{"input":[{"encrypted_content":"sealed"}]}'
    )
    place = Place(ACCOUNTS.label(MODEL, ENDPOINT), "43")
    index.places = dict.fromkeys(named.hashes, place)
    found = await find(index, ACCOUNTS, "42", named, takes_unknown=False)  # type: ignore[arg-type]
    assert (found.account, found.unknown) == (None, ())


async def test_content_and_objects_of_two_accounts_are_apart() -> None:
    index = SlowIndex()
    index.records["resp_1"] = ObjectRecord(
        id="resp_1", kind="response", owner="42", account=ACCOUNTS.label(MODEL, OTHER)
    )
    fields = {"previous_response_id": "resp_1", "input": [{"encrypted_content": "sealed"}]}
    named = named_by(RESPONSES, {}, fields, json.dumps(fields).encode())
    index.places = dict.fromkeys(named.hashes, Place(ACCOUNTS.label(MODEL, ENDPOINT), "42"))
    with pytest.raises(ObjectsApart):
        await find(index, ACCOUNTS, "42", named, takes_unknown=False)  # type: ignore[arg-type]
