"""A Cluster of six nodes: each key where it belongs, what is counted together in one place, failovers, moved slots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
from kit.redis_nodes import Cluster, Node, needs_redis
from kit.redis_nodes import until as nodes_until
from redis.crc import key_slot
from store.grants_kit import SECRET, Log, until
from test_sentinel import count, in_thread, nothing_known

from gateway.errors import ConfigError, StoreUnavailable
from gateway.limits import Demand
from gateway.limits.redis import RedisLimiter
from gateway.redis.cluster.cluster_link import ClusterLink, tag_of
from gateway.redis.link import Link
from gateway.redis.link_forms import link_to
from gateway.redis.refusals import RedisUnavailable
from gateway.redis.script import Script
from gateway.store.passes import RedisPasses
from gateway.store.redis import RedisStore
from gateway.types import Limits, Secret

PASSWORD = "cl0st3r-p@ss"
WRITTEN = ":cl0st3r-p%40ss@"
PATIENCE_SECONDS = 20.0
SCHEDULING_SECONDS = 0.15  # on top of a bound in milliseconds, where tests share the machine
SPREAD = [f"gw:user:{number}" for number in range(12)]  # of every primary some
ECHO = Script("return redis.call('GET', KEYS[1])")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    needs_redis()
    options = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
    with Cluster.open(tmp_path_factory.mktemp("cluster"), *options, login={"password": PASSWORD}) as running:
        yield running


@pytest.fixture
def empty(cluster: Cluster) -> Cluster:
    """All nodes up again, without keys."""
    for node in cluster.nodes:
        if not node.is_running:
            node.start()
    cluster.whole()
    for node in cluster.nodes:
        if node.do("ROLE")[0] == b"master":
            node.do("FLUSHALL")
    return cluster


def made_link(cluster: Cluster, log: Log, options: str = "") -> Link:
    return link_to(Secret(cluster.url(login=WRITTEN, options=options)), log.logger)


@pytest.fixture
async def link(empty: Cluster, log: Log) -> AsyncIterator[Link]:
    made = made_link(empty, log)
    await made.start()
    await until(lambda: made.fault is None)
    yield made
    await made.stop()


@pytest.fixture
async def store(link: Link, log: Log) -> AsyncIterator[RedisStore]:
    made = RedisStore(link, log.logger)
    await made.start()
    await until(lambda: made.receives_changes)
    yield made
    await made.close()


@pytest.fixture
async def limiter(link: Link, log: Log) -> AsyncIterator[RedisLimiter]:
    made = limiter_on(link, log)
    await made.start()
    yield made
    await made.close()


def limiter_on(link: Link, log: Log) -> RedisLimiter:
    return RedisLimiter(link.tagged, nothing_known, prefix=link.tagged_prefix("gw:"), log=log.logger.warning)


def keys_of(cluster: Cluster) -> set[str]:
    running = [node for node in cluster.nodes if node.is_running]
    return {key.decode() for node in running if node.do("ROLE")[0] == b"master" for key in node.do("KEYS", "*")}


def move_slot(cluster: Cluster, slot: int, source: Node, target: Node) -> None:
    """All of it, as `redis-cli --cluster reshard` does."""
    begin_move(slot, source, target)
    keys = source.do("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    if keys:
        source.do(
            "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *[key.decode() for key in keys]
        )
    end_move(cluster, slot, target)


def begin_move(slot: int, source: Node, target: Node) -> None:
    target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.do("CLUSTER", "MYID"))
    source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.do("CLUSTER", "MYID"))


def end_move(cluster: Cluster, slot: int, target: Node) -> None:
    new = target.do("CLUSTER", "MYID")
    for node in (target, *cluster.nodes):
        if node.is_running and node.do("ROLE")[0] == b"master":
            node.do("CLUSTER", "SETSLOT", slot, "NODE", new)
    for node in cluster.nodes:
        if node.is_running:
            nodes_until(lambda node=node: cluster.owner_by(node, slot) == target.port, "it does not hear of the move")


async def until_healed(link: Link, limiter: RedisLimiter | None = None) -> None:
    def is_healed() -> bool:
        return link.fault is None and link.refused is None and (limiter is None or not limiter.is_degraded)

    await until(is_healed, seconds=PATIENCE_SECONDS)


# Names of keys


async def test_records_keep_their_names_and_are_spread_what_is_counted_has_one_tag(
    store: RedisStore, link: Link, limiter: RedisLimiter, empty: Cluster
) -> None:
    for number in range(12):
        await store.put("user", str(number), b"{}")
    await store.put("model", "1", b"{}")
    store.push_cooldown(b"{}")
    passes = RedisPasses(link.tagged, prefix=link.tagged_prefix("gw:"))
    await passes.put("ticket", "t", b"{}", 60.0)
    await passes.put("session", "s", b"{}", 60.0)
    assert await passes.take("ticket", "t") == b"{}"
    demands = (Demand("user:1:model:1", Limits(requests=5, rpm=5, concurrency=5, period="month")),)
    assert await count(limiter, demands, "a") == 5
    await until(lambda: "admin:ai:cooldowns" in keys_of(empty))
    keys = keys_of(empty)
    assert {f"gw:user:{number}" for number in range(12)} | {"gw:model:1", "gw:models"} <= keys
    assert len({empty.owner(f"gw:user:{number}").port for number in range(12)}) == 3
    tagged = {key for key in keys if key.startswith("{gw}:")}
    assert {"{gw}:session:s", "{gw}:limit:life"} <= tagged
    assert {key_slot(key.encode()) for key in tagged} == {key_slot(b"gw")}
    assert keys - tagged == {key for key in keys if key.startswith("gw:") or key == "admin:ai:cooldowns"}
    assert not {key for key in keys - tagged if key.startswith(("gw:limit", "gw:session", "gw:ticket", "gw:alert"))}


@pytest.mark.parametrize(
    ("prefix", "tag"),
    [("gw:", "{gw}:"), ("", "{gw}:"), ("a:b:", "{a:b}:"), ("{one}:gw:", "{one}:gw:"), ("{}x:", "{{}x}:")],
)
def test_the_tag_is_the_prefix_in_braces_unless_it_has_one(prefix: str, tag: str) -> None:
    assert tag_of(prefix) == tag


# Asking


async def test_each_command_goes_to_the_primary_that_has_its_key(store: RedisStore, link: Link) -> None:
    for number in range(12):
        await store.put("user", str(number), f'{{"n":{number}}}'.encode())
    many = [str(number) for number in range(13)]
    assert await store.get_many("user", many) == [*(f'{{"n":{n}}}'.encode() for n in range(12)), None]
    assert await store.ids("user") == many[:12]
    assert await asyncio.gather(*(link.call_script(ECHO, [key]) for key in SPREAD)) == [
        f'{{"n":{n}}}'.encode() for n in range(12)
    ]


async def test_models_are_in_the_set_whatever_two_writers_do(store: RedisStore, empty: Cluster) -> None:
    """Record and set are on two servers: after any order of making and deleting, they say the same."""
    ids = [str(number) for number in range(8)]
    for _ in range(20):
        await asyncio.gather(*(store.put("model", each, b"{}") for each in ids for _ in range(2)))
        making = [store.put("model", each, b"{}") for each in ids]
        await asyncio.gather(*(store.delete("model", each) for each in ids), *making)
        listed = set(await store.ids("model"))
        there = {each for each in ids if (await store.get("model", each)) is not None}
        assert there <= listed
        await asyncio.gather(*(store.delete("model", each) for each in ids))
        assert await store.ids("model") == []


async def test_a_change_published_at_any_node_is_heard(store: RedisStore, empty: Cluster) -> None:
    heard: list[tuple[Any, Any]] = []
    store.on_change(lambda kind, record_id: heard.append((kind, record_id)))
    for number, node in enumerate(empty.nodes):
        node.do("PUBLISH", "gw:changed", f'{{"kind": "user", "id": "{number}"}}')
    await until(lambda: {("user", str(number)) for number in range(6)} <= set(heard))


async def test_resp3_says_the_same(empty: Cluster, log: Log) -> None:
    link = made_link(empty, log, "?protocol=3")
    store, limiter = RedisStore(link, log.logger), limiter_on(link, log)
    heard: list[tuple[Any, Any]] = []
    store.on_change(lambda kind, record_id: heard.append((kind, record_id)))
    await asyncio.gather(store.start(), limiter.start())
    await until(lambda: store.receives_changes and link.fault is None)
    await store.put("model", "1", b"{}")
    assert await store.ids("model") == ["1"]
    empty.nodes[0].do("PUBLISH", "gw:changed", '{"kind": "user", "id": "42"}')
    await until(lambda: ("user", "42") in heard)
    assert await count(limiter, (Demand("user:1:model:1", Limits(requests=3, period="month")),), "a") == 3
    await limiter.close()
    await store.close()


# Failovers


async def test_limits_are_exact_before_and_after_a_failover(link: Link, limiter: RedisLimiter, empty: Cluster) -> None:
    before, half, after = (
        (Demand(f"user:{name}:model:1", Limits(requests=20, period="month")),) for name in ("a", "b", "c")
    )
    assert await count(limiter, before, "a") == 20
    for number in range(5):
        held = await limiter.reserve(f"half-{number}", half, tokens=1, cost=0.0, now=time.time())
        limiter.settle(held, tokens=1, cost=0.0, now=time.time())
    await link.tagged.call("WAIT", 1, 5000)
    await in_thread(lambda: empty.fail_over("{gw}:"))
    await until_healed(link, limiter)
    assert await count(limiter, before, "d") == 0
    assert await count(limiter, half, "e") == 15
    assert await count(limiter, after, "f") == 20


async def test_one_primary_away_is_one_third_of_the_records_and_nothing_else(
    link: Link, store: RedisStore, empty: Cluster
) -> None:
    """Those of the others are read and written; with `cluster-require-full-coverage no`, as is advised."""
    for node in empty.nodes:
        node.do("CONFIG", "SET", "cluster-require-full-coverage", "no")
    for number in range(12):
        await store.put("user", str(number), b"{}")
    away = empty.owner("gw:user:0")
    away.tell(SIGSTOP)
    try:
        began = time.perf_counter()
        with pytest.raises(StoreUnavailable):
            await store.get("user", "0")
        assert time.perf_counter() - began < 2.0
        assert store.available
        assert not store.status().available
        assert str(away.port) in str(store.status().detail)
        asked = next(node for node in empty.nodes if node is not away)
        for number in range(12):
            if empty.owner_by(asked, key_slot(b"gw:user:%d" % number)) != away.port:
                assert await store.get("user", str(number)) == b"{}"
    finally:
        away.tell(SIGCONT)
    await until_healed(link)
    assert await store.get("user", "0") == b"{}"


async def test_a_silent_cluster_delays_a_request_once_whatever_it_asks(
    link: Link, store: RedisStore, limiter: RedisLimiter, empty: Cluster
) -> None:
    """Records of three primaries and then limits: 250 ms for all of it, since one that is silent hurries the others."""
    demands = (Demand("user:1:model:1", Limits(rpm=1000)),)
    await link.start()
    waited: list[float] = []
    for number in range(3):  # the best of three: what is promised is not to be blamed for a machine that is busy
        await until_healed(link, limiter)
        for node in empty.nodes:
            node.tell(SIGSTOP)
        try:
            began = time.perf_counter()
            for key in SPREAD[:8]:
                with pytest.raises(RedisUnavailable):
                    await store.get("user", key.rpartition(":")[2])
            held = await limiter.reserve(f"request-{number}", demands, tokens=1, cost=0.0, now=time.time())
            waited.append(time.perf_counter() - began)
        finally:
            for node in empty.nodes:
                node.tell(SIGCONT)
        limiter.settle(held, tokens=1, cost=0.0, now=time.time())
    await until_healed(link, limiter)
    await link.stop()
    assert min(waited) < 0.25 + SCHEDULING_SECONDS, waited


async def test_no_secret_of_the_url_is_shown(link: Link, empty: Cluster, log: Log) -> None:
    wrong = link_to(Secret(empty.url(login=f":{SECRET}@")), log.logger)
    await wrong.start()
    await until(lambda: "password" in str(wrong.fault))
    shown = log.text + repr(link) + repr(wrong) + str(link.address) + str(wrong.fault)
    assert SECRET not in shown
    assert "cl0st3r" not in shown
    await wrong.stop()


@pytest.mark.parametrize("url", [f"redis+cluster://:{SECRET}@a,b/1", f"redis+cluster://:{SECRET}@a,b?x={SECRET}"])
def test_a_url_of_another_form_is_refused_without_a_word_of_it(url: str, log: Log) -> None:
    with pytest.raises(ConfigError) as refused:
        link_to(Secret(url), log.logger)
    assert SECRET not in str(refused.value)
    assert isinstance(link_to(Secret("redis+cluster://a,b"), log.logger), ClusterLink)


# Moved slots: last, since failovers do not know at once of slots that were moved by hand


async def test_a_slot_that_moves_costs_nothing(link: Link, store: RedisStore, empty: Cluster, log: Log) -> None:
    """MOVED is followed, and the next command asks the right one."""
    await store.put("user", "7", b"{}")
    source = empty.owner("gw:user:7")
    target = next(each for each in (empty.owner(key) for key in SPREAD) if each is not source)
    slot = key_slot(b"gw:user:7")
    move_slot(empty, slot, source, target)
    assert await store.get("user", "7") == b"{}"
    await store.put("user", "7", b'{"tier": "paid"}')
    assert target.do("GET", "gw:user:7") == b'{"tier": "paid"}'
    assert log.events("redis refused a command") == []


async def test_a_key_on_its_way_is_asked_for_where_it_is(link: Link, store: RedisStore, empty: Cluster) -> None:
    """ASK: the slot is still the source's, the key is at the target."""
    await store.put("user", "8", b"{}")
    source = empty.owner("gw:user:8")
    target = next(each for each in (empty.owner(key) for key in SPREAD) if each is not source)
    slot = key_slot(b"gw:user:8")
    begin_move(slot, source, target)
    try:
        source.do("MIGRATE", "127.0.0.1", target.port, "gw:user:8", 0, 5000, "AUTH", PASSWORD)
        assert await store.get("user", "8") == b"{}"
        assert await link.call_script(ECHO, ["gw:user:8"]) == b"{}"
        await store.put("user", "8", b'{"tier": "paid"}')
        assert await store.get("user", "8") == b'{"tier": "paid"}'
    finally:
        end_move(empty, slot, target)


async def test_the_tags_slot_moves_and_limits_go_with_it(link: Link, limiter: RedisLimiter, empty: Cluster) -> None:
    demands = (Demand("user:1:model:1", Limits(requests=9, period="month")),)
    assert await count(limiter, demands, "a") == 9
    source = empty.owner("{gw}:")
    target = next(each for each in (empty.owner(key) for key in SPREAD) if each is not source)
    move_slot(empty, key_slot(b"gw"), source, target)
    fresh = (Demand("user:2:model:1", Limits(requests=9, period="month")),)
    await until_healed(link, limiter)
    await limiter.standing(demands, time.time())  # by which it learns of the move, at the latest
    await until_healed(link, limiter)
    assert await count(limiter, demands, "b") == 0
    assert await count(limiter, fresh, "b") == 9
