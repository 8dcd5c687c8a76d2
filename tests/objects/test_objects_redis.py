"""Redis: several workers see one index, and when it is away nothing is lost and nothing is said that is not known."""

from __future__ import annotations

import asyncio
import time

import pytest
from objects_kit import DAY, Bench, record
from store.grants_kit import RedisServer

from gateway.errors import LedgerUnavailable, StoreUnavailable
from gateway.objects.journaled import JournaledIndex
from gateway.objects.record import Place, Unsettled


async def known(index: JournaledIndex, object_id: str) -> bool:
    """Once it can be said."""
    async with asyncio.timeout(30):
        while True:
            try:
                return object_id in await index.find([object_id])
            except StoreUnavailable:
                await asyncio.sleep(0.01)


async def handed_over(bench: Bench) -> None:
    async with asyncio.timeout(30):
        while bench.journal_bytes():  # noqa: ASYNC110 - by a task of its own
            await asyncio.sleep(0.01)


async def test_what_one_worker_remembers_all_others_find_at_once(redis_bench: Bench) -> None:
    one, other = await redis_bench.open(), await redis_bench.open()
    for number in range(50):
        await one.remember([record(f"resp-{number}", kind="response", in_lists=False)])
        assert f"resp-{number}" in await other.find([f"resp-{number}"])
    await one.remember_content(["aa"], owner="42", account="here")
    assert await other.find_content(["aa"]) == {"aa": Place("here", "42")}
    assert redis_bench.journal_bytes() == 0


async def test_the_first_choice_of_a_home_wins_over_all_workers(redis_bench: Bench) -> None:
    workers = [await redis_bench.open() for _ in range(4)]
    chosen = await asyncio.gather(*(each.set_home("42", f"account {n}") for n, each in enumerate(workers)))
    assert len(set(chosen)) == 1
    assert {await each.home("42") for each in workers} == set(chosen)


async def test_one_worker_of_all_asks_for_running_work(redis_bench: Bench, redis_server: RedisServer) -> None:
    workers = [await redis_bench.open() for _ in range(4)]
    claims = await asyncio.gather(*(each.claim(60) for each in workers))
    assert sorted(claims) == [False, False, False, True]
    holder = workers[claims.index(True)]
    assert await holder.claim(60)
    with redis_server.client() as client:
        client.delete("gw:unsettled:holder")  # as its end does, when the holder does not renew it
    assert await workers[claims.index(False)].claim(60)
    assert not await holder.claim(60)


async def test_keys_end_when_the_contract_says(redis_bench: Bench, redis_server: RedisServer) -> None:
    index = await redis_bench.open()
    await index.remember([record("file-1"), record("resp-1", kind="response", in_lists=False)])
    await index.remember_content(["aa"], owner="42", account="here")
    with redis_server.client() as client:
        days = {key: round(client.ttl(key) / DAY) for key in map(bytes.decode, client.keys())}
    assert days == {"gw:object:file-1": 400, "gw:objects:file:42": 400, "gw:object:resp-1": 35, "gw:content:aa": 30}


async def test_use_is_noted_once_a_day(redis_bench: Bench, redis_server: RedisServer) -> None:
    await (await redis_bench.open()).remember([record("resp-1", kind="response", in_lists=False)])
    index = await redis_bench.open()
    with redis_server.client() as client:
        client.expire("gw:object:resp-1", 1000)
        for _ in range(3):
            index.touch((await index.find(["resp-1"])).values())
        await redis_bench.close(index)
        assert client.ttl("gw:object:resp-1") > 34 * DAY
        assert client.info("commandstats")["cmdstat_expireat"]["calls"] == 2  # when it was made, and now


async def test_a_list_loses_what_has_expired(redis_bench: Bench, redis_server: RedisServer) -> None:
    index = await redis_bench.open()
    await index.remember([record(f"file-{n}", created=n + 1) for n in range(6)])
    with redis_server.client() as client:
        client.delete("gw:object:file-5", "gw:object:file-2", "gw:object:file-0")
        listed = await index.listed("42", "file", limit=2)
        assert [each.id for each in listed.records] == ["file-4", "file-3"]
        assert listed.has_more
        listed = await index.listed("42", "file", limit=2, after="file-3")
        assert [each.id for each in listed.records] == ["file-1"]
        assert not listed.has_more
        for number in range(200):  # additions look at the oldest entries now and then
            await index.remember([record(f"more-{number}", created=100 + number)])
        assert client.zscore("gw:objects:file:42", "file-0") is None


async def test_away_known_objects_are_found_and_others_cannot_be_told(
    redis_bench: Bench, redis_server: RedisServer
) -> None:
    one, other = await redis_bench.open(), await redis_bench.open()
    await one.remember([record("file-1")])
    await one.set_home("42", "here")
    await one.remember_content(["aa"], owner="42", account="here")
    redis_server.stop()
    assert set(await one.find(["file-1"])) == {"file-1"}
    assert await one.home("42") == "here"
    assert set(await one.find_content(["aa"])) == {"aa"}
    for asked in (
        one.find(["file-2"]),
        other.find(["file-1"]),
        other.find_content(["aa"]),
        other.home("42"),
        other.set_home("42", "there"),
        one.listed("42", "file", limit=10),
        one.unsettled(),
        one.settled("batch-1"),
        one.claim(60),
    ):
        with pytest.raises(StoreUnavailable):
            await asked


async def test_away_a_cached_object_holds_however_old_it_is(redis_bench: Bench, redis_server: RedisServer) -> None:
    index = await redis_bench.open()
    await index.remember([record("file-1")])
    index._records._fresh_seconds = -1.0
    assert set(await index.find(["file-1"])) == {"file-1"}
    redis_server.stop()
    assert set(await index.find(["file-1"])) == {"file-1"}


async def test_what_is_made_while_redis_is_away_is_handed_over(redis_bench: Bench, redis_server: RedisServer) -> None:
    index, other = await redis_bench.open(), await redis_bench.open()
    redis_server.stop()
    await index.remember([record("file-1"), record("file-2", body=b"{}", created=2000)])
    await index.remember_content(["aa"], owner="42", account="here")
    await index.begin(Unsettled(id="batch-1", kind="batch", owner="42", account="here"))
    await index.forget("file-1")
    assert set(await index.find(["file-2"])) == {"file-2"}
    assert set(await index.find_content(["aa"])) == {"aa"}
    assert await index.find(["file-1"]) == {}
    assert redis_bench.journal_bytes() > 0
    with pytest.raises(StoreUnavailable):
        await index.listed("42", "file", limit=10)
    redis_server.start()
    await redis_bench.is_back(other)
    assert await known(other, "file-2")
    assert not await known(other, "file-1")
    assert [(each.id, each.body) for each in (await other.listed("42", "file", limit=10)).records] == [
        ("file-2", b"{}")
    ]
    assert set(await other.find_content(["aa"])) == {"aa"}
    assert [each.id for each in await other.unsettled()] == ["batch-1"]
    await handed_over(redis_bench)


async def test_nothing_is_called_unknown_while_another_worker_has_it_in_its_journal(
    redis_bench: Bench, redis_server: RedisServer
) -> None:
    """`other` has its connection back before `index` has handed over: 503, never 404."""
    index, other = await redis_bench.open(), await redis_bench.open()
    redis_server.stop()
    await index.remember([record("file-1")])
    redis_bench.link_of(index).issue = lambda call: call.fail(sent=False)  # type: ignore[method-assign]
    redis_server.start()
    await redis_bench.is_back(other)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await other.find(["file-1"])
    del redis_bench.link_of(index).issue
    assert await known(other, "file-1")


async def test_right_after_an_absence_nothing_is_called_unknown(redis_bench: Bench, redis_server: RedisServer) -> None:
    """On another machine there may be a worker that has something to hand over."""
    index = await redis_bench.open()
    assert await index.find(["file-1"]) == {}
    redis_server.stop()
    with pytest.raises(StoreUnavailable):
        await index.find(["file-1"])
    redis_server.start()
    await redis_bench.is_back(index)
    with pytest.raises(StoreUnavailable):
        await index.find(["file-1"])
    index._backend._settled_at = time.monotonic()  # type: ignore[attr-defined]
    assert await index.find(["file-1"]) == {}


async def test_an_id_that_was_anothers_all_along_is_found_out_at_the_handover(
    redis_bench: Bench, redis_server: RedisServer
) -> None:
    index = await redis_bench.open()
    redis_server.stop()
    await index.remember([record("file-1", owner="42")])
    assert await index.remember([record("file-1", owner="7")]) == {"file-1"}
    redis_server.start()
    with redis_server.client() as client:
        client.hset("gw:object:file-1", mapping={"o": "first", "c": 1, "a": "there", "f": "0", "r": '["file",true]'})
        assert await known(index, "file-1")
        async with asyncio.timeout(30):
            while redis_bench.taken < 2:  # noqa: ASYNC110 - handed over by a task of its own
                await asyncio.sleep(0.01)
        assert (await index.find(["file-1"]))["file-1"].owner == "first"
        assert client.hget("gw:object:file-1", "o") == b"first"


async def test_a_process_that_starts_while_redis_is_away_hands_over_what_a_dead_one_left(
    redis_bench: Bench, redis_server: RedisServer
) -> None:
    index = await redis_bench.open()
    redis_server.stop()
    await index.remember([record("file-1")])
    await redis_bench.close(index)
    assert redis_bench.journal_bytes() > 0
    following = await redis_bench.open()
    with pytest.raises(StoreUnavailable):
        await following.find(["file-1"])
    redis_server.start()
    assert await known(following, "file-1")
    await handed_over(redis_bench)


async def test_a_journal_that_is_full_refuses(redis_bench: Bench, redis_server: RedisServer) -> None:
    index = await redis_bench.open(max_journal_bytes=2_000)
    redis_server.stop()
    refused = 0
    for number in range(20):
        try:
            await index.remember([record(f"file-{number}")])
        except LedgerUnavailable:
            refused += 1
    assert 0 < refused < 20
    redis_server.start()
    await handed_over(redis_bench)
    await index.remember([record("file-last")])
    assert len((await index.listed("42", "file", limit=100)).records) == 20 - refused + 1


async def test_beyond_what_memory_holds_the_journal_is_read_back(redis_bench: Bench, redis_server: RedisServer) -> None:
    index = await redis_bench.open(max_journal_bytes=2**26)
    index._pending._most_bytes = 50_000
    redis_server.stop()
    for number in range(1_000):
        await index.remember([record(f"file-{number}", body=b"x" * 500, created=number + 1)])
    assert index._pending.overflowed
    assert len(index._pending) < 50
    redis_server.start()
    assert await known(index, "file-999")
    await handed_over(redis_bench)
    assert len((await index.listed("42", "file", limit=2_000)).records) == 1_000
