"""One contract for every store: whose an object is, where it lies, and how long that is known."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from objects_kit import DAY, Bench, record

from gateway.objects.index import Order
from gateway.objects.journaled import JournaledIndex
from gateway.objects.record import Listing, Place, Unsettled


def ids(listing: Listing) -> list[str]:
    return [each.id for each in listing.records]


async def test_what_was_remembered_is_found_by_every_process_that_starts_later(bench: Bench) -> None:
    index = await bench.open()
    made = record("file-1", model="7", about={"purpose": "batch"}, body=b'{"id":"file-1"}', final=True)
    assert await index.remember([made, record("resp-1", kind="response", in_lists=False)]) == frozenset()
    assert await index.find(["file-1", "nothing"]) == {"file-1": msgspec.structs.replace(made, body=None)}
    await bench.close(index)
    again = await bench.open()
    found = await again.find(["file-1", "resp-1", "nothing"])
    assert found == {
        "file-1": msgspec.structs.replace(made, body=None),
        "resp-1": record("resp-1", kind="response", in_lists=False),
    }


async def test_an_id_stays_its_first_owners(bench: Bench, index: JournaledIndex) -> None:
    await index.remember([record("file-1", owner="42", account="here")])
    taken = await index.remember([record("file-1", owner="7", account="there"), record("file-2", owner="7")])
    assert taken == {"file-1"}
    assert bench.taken == 1
    assert [line["user"] for line in bench.log.events("object's id is another user's already; it stays theirs")] == [
        "7"
    ]
    found = await index.find(["file-1", "file-2"])
    assert (found["file-1"].owner, found["file-1"].account, found["file-2"].owner) == ("42", "here", "7")
    assert ids(await index.listed("7", "file", limit=10)) == ["file-2"]


async def test_of_many_who_are_given_one_id_at_once_one_owns_it(bench: Bench) -> None:
    index = await bench.open()
    workers = [index] + ([await bench.open() for _ in range(3)] if bench.kind == "redis" else [])
    owners = [str(number) for number in range(20)]
    taken = await asyncio.gather(
        *(
            workers[number % len(workers)].remember([record("file-1", owner=owner)])
            for number, owner in enumerate(owners)
        )
    )
    await index.listed("0", "file", limit=1)  # what an embedded store is given behind the request has arrived
    assert bench.taken == 19
    found = (await index.find(["file-1"]))["file-1"].owner
    if bench.kind == "redis":
        assert [owner for owner, refused in zip(owners, taken, strict=True) if not refused] == [found]
    for each in owners:
        assert ids(await index.listed(each, "file", limit=10)) == (["file-1"] if each == found else [])


async def test_an_owners_object_that_is_seen_again_is_brought_up_to_date(index: JournaledIndex) -> None:
    await index.remember([record("batch-1", kind="batch", model="7", body=b'{"status":"validating"}')])
    await index.remember([record("batch-1", kind="batch", created=0)])
    (kept,) = (await index.listed("42", "batch", limit=10)).records
    assert (kept.created, kept.model, kept.body) == (1000, "7", b'{"status":"validating"}')
    await index.remember([record("batch-1", kind="batch", body=b'{"status":"completed"}', final=True)])
    await index.remember([record("batch-1", kind="batch", body=b'{"status":"in_progress"}')])  # an answer that was late
    (kept,) = (await index.listed("42", "batch", limit=10)).records
    assert (kept.final, kept.body) == (True, b'{"status":"completed"}')


async def test_an_id_that_another_account_makes_again_is_another_object(index: JournaledIndex) -> None:
    await index.remember([record("file-1", model="7", final=True, body=b"old")])
    await index.remember([record("file-1", account="there", created=2000)])
    (kept,) = (await index.listed("42", "file", limit=10)).records
    assert (kept.account, kept.created, kept.model, kept.final, kept.body) == ("there", 2000, None, False, None)


async def test_bodies_are_kept_for_lists_up_to_16_kb(index: JournaledIndex) -> None:
    longest = b"x" * (16 * 1024)
    await index.remember([record("file-1", body=longest), record("file-2", body=longest + b"x", created=1001)])
    await index.remember([record("file-3", body=b"known", created=1002), record("resp-1", in_lists=False, body=b"?")])
    await index.remember([record("file-3", body=longest + b"x", created=1002)])
    listed = (await index.listed("42", "file", limit=10)).records
    assert [(each.id, each.body) for each in listed] == [("file-3", None), ("file-2", None), ("file-1", longest)]
    assert {each.body for each in (await index.find(["file-1", "file-3", "resp-1"])).values()} == {None}


async def test_what_was_forgotten_is_unknown_and_may_be_anyones(index: JournaledIndex) -> None:
    await index.remember([record("file-1"), record("file-2")])
    await index.forget("file-1")
    await index.forget("nothing")
    assert set(await index.find(["file-1", "file-2"])) == {"file-2"}
    assert ids(await index.listed("42", "file", limit=10)) == ["file-2"]
    assert await index.remember([record("file-1", owner="7")]) == frozenset()
    assert (await index.find(["file-1"]))["file-1"].owner == "7"


async def test_without_a_time_of_the_upstreams_an_object_was_made_now(bench: Bench, index: JournaledIndex) -> None:
    bench.clock.ahead = 0
    await index.remember([record("file-1", created=0), record("file-2", created=-5), record("file-3", created=10**30)])
    (one, *others) = (await index.listed("42", "file", limit=10)).records
    assert all(abs(each.created - bench.clock()) < 60 for each in (one, *others))
    assert len(others) == 2


@pytest.mark.parametrize("odd", ["", "x" * 513, "\udc80"])
async def test_ids_that_nobody_can_keep_are_passed_over(index: JournaledIndex, odd: str) -> None:
    await index.remember([record(odd), record("file-1")])
    assert set(await index.find([odd, "file-1"])) == {"file-1"}


@pytest.mark.parametrize("odd", ["x" * 512, "a b:c{d}*", "ü", "'; DROP TABLE objects; --", "%s", "a\x00b", "a\r\nb"])
async def test_ids_are_kept_as_they_are(index: JournaledIndex, odd: str) -> None:
    await index.remember([record(odd, owner=odd, kind=odd)])
    assert ids(await index.listed(odd, odd, limit=10)) == [odd]
    await index.forget(odd)
    assert await index.find([odd]) == {}


async def test_many_at_once(index: JournaledIndex) -> None:
    await index.remember([record(f"file-{number}", created=number + 1) for number in range(1_200)])
    assert len(await index.find([f"file-{number}" for number in range(1_300)])) == 1_200
    assert len((await index.listed("42", "file", limit=2_000)).records) == 1_200


# -- lists


async def test_a_list_is_one_owners_of_one_kind_and_of_top_level(index: JournaledIndex) -> None:
    await index.remember([record("file-1"), record("file-2", owner="7"), record("vs-1", kind="vector_store")])
    await index.remember([record("msg-1", in_lists=False)])
    assert ids(await index.listed("42", "file", limit=10)) == ["file-1"]
    assert await index.listed("nobody", "file", limit=10) == Listing()


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_are_those_of_the_sorted_list(index: JournaledIndex, order: Order) -> None:
    """Against a list in memory: by created, then id, whatever the cursors and the filter."""
    rng = random.Random(5)
    made = [record(f"f{number}", created=rng.randrange(1, 8), about={"n": str(number % 3)}) for number in range(40)]
    rng.shuffle(made)
    await index.remember(made)
    whole = [each.id for each in sorted(made, key=lambda each: (each.created, each.id))]
    if order == "desc":
        whole.reverse()
    for _ in range(60):
        after, before = rng.choice((None, *whole)), rng.choice((None, None, *whole))
        limit, wanted = rng.randrange(1, 45), rng.choice((None, "0"))
        names = {each.id for each in made if wanted is None or each.about["n"] == wanted}
        start = whole.index(after) + 1 if after else 0
        stop = whole.index(before) if before else len(whole)
        if stop < start:
            stop = len(whole)  # a cursor that lies before the other bounds nothing
        between = [each for each in whole[start:stop] if each in names]
        expected = between[-limit:] if before and not after else between[:limit]
        kwargs: dict[str, Any] = {"limit": limit, "order": order, "after": after, "before": before}
        found = await index.listed(
            "42", "file", where=(lambda each: each.about["n"] == "0") if wanted else None, **kwargs
        )
        assert (ids(found), found.has_more) == (expected, len(between) > limit), kwargs


async def test_an_unknown_cursor_and_another_lists_give_an_empty_page(index: JournaledIndex) -> None:
    await index.remember([record("file-1"), record("file-2", owner="7"), record("vs-1", kind="vector_store")])
    for cursor in ("nothing", "file-2", "vs-1"):
        assert await index.listed("42", "file", limit=10, after=cursor) == Listing()
        assert await index.listed("42", "file", limit=10, before=cursor) == Listing()
        assert await index.listed("42", "file", limit=10, after="file-1", before=cursor) == Listing()


# -- how long


async def test_responses_are_known_35_days_after_their_last_use_and_the_rest_as_configured(bench: Bench) -> None:
    index = await bench.open()
    made = [record("resp-1", kind="response"), record("resp-2", kind="response"), record("file-1"), record("file-2")]
    await index.remember(made)
    await bench.close(index)
    bench.clock.ahead = 34 * DAY
    index = await bench.open()
    found = await index.find([each.id for each in made])
    assert len(found) == 4
    index.touch([found["resp-1"]])
    await bench.close(index)  # notes what was used
    if bench.kind == "redis":
        return  # its keys expire by Redis's own clock: test_objects_redis looks at their ends
    bench.clock.ahead = 36 * DAY
    index = await bench.open()
    assert set(await index.find([each.id for each in made])) == {"resp-1", "file-1", "file-2"}
    index.touch([(await index.find(["file-1"]))["file-1"]])
    await bench.close(index)
    bench.clock.ahead = 401 * DAY
    index = await bench.open()
    assert set(await index.find([each.id for each in made])) == {"file-1"}
    assert ids(await index.listed("42", "file", limit=10)) == ["file-1"]
    assert await index.remember([record("file-2", owner="7")]) == frozenset()  # an id that is nobody's any more


# -- encrypted_content, homes


async def test_content_is_found_by_its_hash(bench: Bench) -> None:
    index = await bench.open()
    await index.remember_content([], owner="42", account="here")
    await index.remember_content(["aa", "bb"], owner="42", account="here")
    assert await index.find_content(["aa", "bb", "cc"]) == {each: Place("here", "42") for each in ("aa", "bb")}
    await bench.close(index)
    index = await bench.open()
    assert await index.find_content(["cc", "bb"]) == {"bb": Place("here", "42")}
    assert await index.find_content([]) == {}


async def test_a_home_is_chosen_once_until_it_has_left(bench: Bench) -> None:
    index = await bench.open()
    assert await index.home("42") is None
    assert await index.set_home("42", "here") == "here"
    assert await index.set_home("42", "there") == "here"
    assert await index.set_home("42", "there", instead_of="elsewhere") == "here"
    assert await index.home("42") == "here"
    await bench.close(index)
    index = await bench.open()
    assert await index.home("42") == "here"
    assert await index.set_home("42", "there", instead_of="here") == "there"
    assert await index.home("42") == "there"
    assert await index.home("7") is None


# -- work that is booked when it ends


def work(object_id: str, **fields: Any) -> Unsettled:
    return Unsettled(id=object_id, kind="batch", owner="42", account="here", **fields)


async def test_work_is_known_until_one_caller_has_settled_it(bench: Bench) -> None:
    index = await bench.open()
    late, early = work("batch-1", since=2000, reservation=b"\x00\xff"), work("batch-2", since=1000, model="7")
    await index.begin(late)
    await index.begin(early)
    await index.begin(work("batch-1", since=1))  # begun already
    await bench.close(index)
    index = await bench.open()
    assert await index.unsettled() == [early, late]
    assert await index.find_unsettled("batch-1") == late
    assert sorted(await asyncio.gather(*(index.settled("batch-1") for _ in range(5)))) == [False] * 4 + [True]
    assert await index.find_unsettled("batch-1") is None
    assert await index.unsettled() == [early]
    assert not await index.settled("nothing")
    await index.begin(work("batch-3"))
    found = await index.find_unsettled("batch-3")
    assert found is not None
    assert abs(found.since - bench.clock()) < 60
