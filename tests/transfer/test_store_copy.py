"""`gateway store copy`: nothing that was made at run time is lost between an embedded store and Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from cli.cli_kit import ROOT, command
from store.grants_kit import KEY_SHA256, Log, RedisServer, link, until
from transfer_kit import FILE, embedded, fill_with_keys, hashes, on_redis

from gateway.store.redis import RedisStore
from gateway.transfer.entries import Entry
from gateway.transfer.redis_depot import RedisDepot

AGREE = "Both were read once more and compared: counts and contents agree."


async def test_there_and_back_everything_is_as_it_was(tmp_path: Path, redis_server: RedisServer) -> None:
    """Each kind, read by what serves requests; and where a list ends, an object expires, as before."""
    async with embedded(tmp_path / "data") as store:
        await store.fill()
        before = await store.content()
    there = await command("store", "copy", "data", redis_server.url, cwd=tmp_path)
    assert (there.code, there.err) == (0, "")
    assert AGREE in there.out
    assert "2 users, 1 organisation, 1 plan, 1 key, 1 feature, 2 objects" in there.out
    async with on_redis(redis_server) as store:
        assert await store.content() == before
    with redis_server.client() as client:
        left = client.ttl("gw:object:file-1")
        assert abs(left - 400 * 86_400) < 600
        assert 0 < client.ttl("gw:object:resp-1") <= 35 * 86_400
        assert client.ttl("gw:objects:file:42") >= left - 5
    back = await command("store", "copy", redis_server.url, "back", cwd=tmp_path)
    assert (back.code, back.err) == (0, "")
    async with embedded(tmp_path / "back") as store:
        assert await store.content() == before


async def test_between_two_prefixes_and_once_more(tmp_path: Path, redis_server: RedisServer) -> None:
    """The second time finds everything alike, so that whoever is unsure may run it again."""
    async with on_redis(redis_server) as store:
        await store.fill()
        before = await store.content()
    copy = ("store", "copy", redis_server.url, redis_server.url, "--to-prefix", "acme:")
    first = await command(*copy, cwd=tmp_path)
    again = await command(*copy, cwd=tmp_path)
    assert (first.code, again.code) == (0, 0), first.err + again.err
    assert again.out.startswith("nothing written to Redis at 127.0.0.1:")
    async with on_redis(redis_server, "acme:") as store:
        assert await store.content() == before
    same = await command("store", "copy", redis_server.url, redis_server.url, cwd=tmp_path)
    assert (same.code, same.err) == (2, "gateway store copy: FROM and TO are the same store\n")


async def test_what_is_in_the_target_is_never_overwritten_unasked(tmp_path: Path, redis_server: RedisServer) -> None:
    """Refused, then merged (what is there stays), then replaced (what only it has goes, old totals of limits too)."""
    async with embedded(tmp_path / "data") as store:
        await store.fill()
        wanted = await store.content()
    with redis_server.client() as client:
        client.set(f"gw:key:{KEY_SHA256}", '{"id":"another","user":1}')
        client.set("gw:user:only-here", "{}")
        client.hset("gw:limit:p:month:u:42", "start", 1)
        client.set("somebody:elses", "1")
        copy = ("store", "copy", "data", redis_server.url)
        refused = await command(*copy, cwd=tmp_path)
        assert refused.code == 1
        assert "is not empty: it holds 1 key, 1 user that" in refused.err.replace("1 user, 1 key", "1 key, 1 user")
        assert "`--merge`" in refused.err
        assert client.dbsize() == 4
        merged = await command(*copy, "--merge", cwd=tmp_path)
        assert merged.code == 0, merged.err
        assert "1 key differ, and were left as TO has them." in merged.out
        assert "`--replace` drops them" in merged.err  # the totals may be of an earlier use
        assert b"another" in client.get(f"gw:key:{KEY_SHA256}")
        assert client.exists("gw:user:only-here", "gw:plan:pro") == 2
        replaced = await command(*copy, "--replace", cwd=tmp_path)
        assert replaced.code == 0, replaced.err
        assert "1 user that only TO had were deleted." in replaced.out
        assert client.exists("gw:user:only-here", "gw:limit:p:month:u:42") == 0
        assert client.exists("somebody:elses") == 1
    async with on_redis(redis_server) as store:
        assert await store.content() == wanted


async def test_replacing_leaves_no_key_missing_for_a_moment(tmp_path: Path, redis_server: RedisServer) -> None:
    """Gateways that serve from the target hear of the changed record, and never find none."""
    async with embedded(tmp_path / "data") as store:
        await store.fill()
    with redis_server.client() as client:
        client.set(f"gw:key:{KEY_SHA256}", '{"id":"another","user":1}')
        listener = client.pubsub()
        listener.psubscribe("gw:changed")
        await command("store", "copy", "data", redis_server.url, "--replace", cwd=tmp_path)
        heard = [message["data"] for message in iter(lambda: listener.get_message(timeout=0.2), None)]
        named = [json.loads(each) for each in heard if isinstance(each, bytes)]
        assert [each for each in named if each["kind"] == "key"] == [{"kind": "key", "id": KEY_SHA256}]
        listener.close()


async def test_a_store_that_a_gateway_holds_is_left_alone(tmp_path: Path, redis_server: RedisServer) -> None:
    async with embedded(tmp_path / "data") as store:
        await store.fill()
        source = await command("store", "copy", "data", redis_server.url, cwd=tmp_path)
        target = await command("store", "copy", redis_server.url, "data", cwd=tmp_path)
    for refused in (source, target):
        assert refused.code == 1
        assert "A gateway holds the embedded store in data: stop it first" in refused.err
    with redis_server.client() as client:
        assert client.dbsize() == 0


async def test_what_is_not_there_is_not_made(tmp_path: Path, redis_server: RedisServer) -> None:
    """A mistyped directory is no empty store, and a wrong password is not shown."""
    missing = await command("store", "copy", "date", redis_server.url, cwd=tmp_path)
    assert (missing.code, missing.out) == (1, "")
    assert "There is no embedded store in date" in missing.err
    assert not (tmp_path / "date").exists()
    nobody = await command("store", "copy", "redis://:hidden-word@127.0.0.1:1/0", "data", cwd=tmp_path)
    unset = await command("store", "copy", "redis://:${NOT_SET}@127.0.0.1/0", "data", cwd=tmp_path)
    wrong = await command("store", "copy", "http://:hidden-word@127.0.0.1", "data", cwd=tmp_path)
    assert (nobody.code, unset.code, wrong.code) == (1, 1, 1)
    assert "the environment variable NOT_SET is not set" in unset.err
    assert "must begin with redis://" in wrong.err
    for shown in (nobody, unset, wrong):
        assert "hidden-word" not in shown.out + shown.err
    assert not (tmp_path / "data").exists()


async def test_a_password_comes_from_the_environment(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as store:
        await store.fill()
    server = RedisServer(tmp_path, password="hidden-word")
    try:
        url = f"redis://:${{WORD}}@127.0.0.1:{server.port}/0"
        done = await command("store", "copy", "data", url, cwd=tmp_path, WORD="hidden-word")
        refused = await command("store", "copy", "data", url, cwd=tmp_path, WORD="another-hidden-word")
    finally:
        server.stop()
    assert (done.code, refused.code) == (0, 1), done.err
    assert "hidden-word" not in done.out + done.err + refused.out + refused.err


async def test_a_key_that_redis_would_forget_is_not_made_to_last(tmp_path: Path, redis_server: RedisServer) -> None:
    """Its end stays its end: as time to live in Redis, as `expires` in a store that has no such thing."""
    ends = time.time() + 5_000
    sooner = "2020-01-01T00:00:00Z"
    with redis_server.client() as client:
        client.set(f"gw:key:{'a' * 64}", '{"id":"a","user":42}', pxat=round(ends * 1000))
        client.set(f"gw:key:{'b' * 64}", json.dumps({"id": "b", "user": 42, "expires": sooner}), pxat=int(ends * 1000))
        other = await command("store", "copy", redis_server.url, redis_server.url, "--to-prefix", "x:", cwd=tmp_path)
        assert other.code == 0, other.err
        assert abs(client.pttl(f"x:key:{'a' * 64}") / 1000 - (ends - time.time())) < 30
    for _ in range(2):  # the second time it is alike, though no two looks see the same milliseconds left
        copied = await command("store", "copy", redis_server.url, "data", cwd=tmp_path)
        assert copied.code == 0, copied.err
    async with embedded(tmp_path / "data") as store:
        first = json.loads(await store.records.get("key", "a" * 64) or b"")
        second = json.loads(await store.records.get("key", "b" * 64) or b"")
    assert first["expires"].endswith("Z")
    assert second["expires"] == sooner


async def test_objects_of_a_killed_gateway_come_along(tmp_path: Path, redis_server: RedisServer) -> None:
    """What only its journal holds is handed over first."""
    from gateway.objects.changes import Put
    from gateway.objects.object_journal import ObjectJournal

    async with embedded(tmp_path / "data"):
        pass
    journal = ObjectJournal(tmp_path / "data" / "objects")
    journal.append([Put(FILE, int(time.time()))])
    journal._segment.close()  # as its process's end does
    done = await command("store", "copy", "data", redis_server.url, cwd=tmp_path)
    assert done.code == 0, done.err
    async with on_redis(redis_server) as store:
        assert await store.objects.get(["file-1"]) == {"file-1": FILE.without_body()}


async def test_a_copy_that_was_killed_is_run_again(tmp_path: Path, redis_server: RedisServer) -> None:
    fill_with_keys(tmp_path / "data", 6_000)
    arguments = ("-m", "gateway", "store", "copy", "data", redis_server.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=tmp_path, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    )
    with redis_server.client() as client:
        await until(lambda: client.dbsize() > 500)
        process.kill()
        await process.wait()
        again = await command("store", "copy", "data", redis_server.url, cwd=tmp_path)
        assert (again.code, again.err) == (0, "")
        assert "keys had been there alike." in again.out
        assert client.dbsize() == 6_000


async def test_a_copy_while_gateways_write_is_told_and_the_advice_leads_on(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """The check at the end finds what changed behind the copy; nothing is taken for whole that is not."""
    fill_with_keys(tmp_path / "data", 3_000)
    assert (await command("store", "copy", "data", redis_server.url, cwd=tmp_path)).code == 0
    with redis_server.client() as client:
        names = client.keys("gw:key:*")
        copying = asyncio.create_task(command("store", "copy", redis_server.url, "there", cwd=tmp_path))
        number = 0
        while not copying.done():
            number += 1
            client.set(names[number % len(names)], json.dumps({"id": f"changed-{number}", "user": 1}))
            await asyncio.sleep(0.001)
        told = await copying
        assert told.code == 1
        assert AGREE not in told.out
        assert "differences: key " in told.err
        assert "run again with `--replace`: TO had been empty." in told.err
        again = await command("store", "copy", redis_server.url, "there", "--replace", cwd=tmp_path)
        assert (again.code, again.err) == (0, "")
        assert AGREE in again.out
        back = await command("store", "copy", "there", redis_server.url, cwd=tmp_path)
        assert back.out.startswith("nothing written to Redis")


async def test_a_redis_that_goes_away_in_the_midst_is_waited_for(redis_server: RedisServer) -> None:
    log = Log()
    store = RedisStore(link(redis_server.url, log), log.logger)
    depot = RedisDepot(store, "gw:")
    await store.start()
    try:
        await depot.connected(10)
        entries = [Entry("key", each, b"{}") for each in hashes(500)]
        redis_server.tell(signal.SIGSTOP)
        putting = asyncio.create_task(depot.put(entries))
        await until(lambda: not store.available)
        redis_server.tell(signal.SIGCONT)
        await putting
        assert await depot.get(entries) == entries
    finally:
        redis_server.tell(signal.SIGCONT)
        await depot.close()


@pytest.mark.parametrize("direction", ["out", "in"])
async def test_memory_does_not_grow_with_the_store(tmp_path: Path, redis_server: RedisServer, direction: str) -> None:
    """Twenty times the keys take no more than a few megabytes: all of them would be seven."""
    peaks = []
    for number, count in enumerate((500, 10_000)):
        prefix, directory = f"p{number}:", tmp_path / f"data{number}"
        fill_with_keys(directory, count)
        out = (str(directory), redis_server.url, "--to-prefix", prefix)
        back = (redis_server.url, str(tmp_path / f"back{number}"), "--from-prefix", prefix)
        if direction == "in":
            assert (await command("store", "copy", *out, cwd=tmp_path)).code == 0
        peaks.append(await peak_kilobytes("store", "copy", *(out if direction == "out" else back)))
    assert peaks[1] - peaks[0] < 4_000, peaks


async def peak_kilobytes(*arguments: str) -> int:
    """The most memory that a command has had."""
    script = (
        "import resource, sys; from gateway.cli import main; code = main(sys.argv[1:]);"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    code, peak = out.split()[-2:]
    assert code == b"0", out
    return int(peak)
