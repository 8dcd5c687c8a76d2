"""Every form of a Redis URL, from end to end: TLS by an authority of one's own, users with few permissions, RESP3."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from kit.forked import start_gateway
from kit.redis_nodes import Cluster, Node, Trio, needs_redis
from store.grants_kit import SECRET, Log, until
from test_sentinel import nothing_known

from gateway.alerts.event import Event
from gateway.alerts.redis_queue import RedisQueue
from gateway.errors import StoreUnavailable
from gateway.limits import Demand
from gateway.limits.redis import RedisLimiter
from gateway.objects.changes import Put
from gateway.objects.record import ObjectRecord
from gateway.objects.redis import RedisObjects
from gateway.pool import Cause
from gateway.redis.link import Link
from gateway.redis.link_forms import link_to
from gateway.store.base import SharedCooldown
from gateway.store.passes import RedisPasses
from gateway.store.redis import RedisStore
from gateway.types import Limits, Secret

ROOT = Path(__file__).parents[2]
USER_PASSWORD, SENTINEL_PASSWORD = "us3r/p@ss", "s3nt1n3l/p@ss"
LOGIN = "gateway:us3r%2Fp%40ss@"
OF_SENTINELS = "?sentinel_username=gateway&sentinel_password=s3nt1n3l%2Fp%40ss"


class Running(NamedTuple):
    url: str
    nodes: list[Node]  # all servers, without Sentinels
    sentinels: list[Node]


Form = Callable[..., Any]  # a context manager that gives Running


@contextmanager
def single(directory: Path, *options: str, tls: dict[str, Any] | None = None) -> Iterator[Running]:
    node = Node(directory, *options, program=needs_redis(tls=True) if tls else "", tls=tls)
    try:
        yield Running(f"redis{'s' * bool(tls)}://127.0.0.1:{node.port}/0", [node], [])
    finally:
        node.kill()


@contextmanager
def sentinel(directory: Path, *options: str, tls: dict[str, Any] | None = None) -> Iterator[Running]:
    program = needs_redis(tls=True) if tls else ""
    lines = [] if not tls else [f"{a[2:]} {b}" for a, b in zip(options[::2], options[1::2], strict=True)]
    with Trio.open(directory, *options, sentinel_lines=lines, program=program, tls=tls) as trio:
        yield Running(trio.url("rediss" if tls else "redis"), trio.servers, list(trio.sentinels))


@contextmanager
def cluster(directory: Path, *options: str, tls: dict[str, Any] | None = None) -> Iterator[Running]:
    with Cluster.open(directory, *options, tls=tls) as six:
        yield Running(six.url("rediss" if tls else "redis"), six.nodes, [])


FORMS = [single, sentinel, cluster]
every_form = pytest.mark.parametrize("form", FORMS, ids=[each.__name__ for each in FORMS])


@asynccontextmanager
async def opened(running: Running, log: Log, *, ca_file: str | None = None) -> AsyncIterator[RedisStore]:
    store = RedisStore(link_to(Secret(running.url), log.logger, ca_file=ca_file), log.logger)
    await store.start()
    await until(lambda: store.status().detail is None)
    yield store
    await store.close()


async def use_everything(store: RedisStore, log: Log) -> None:
    """All that a gateway asks of Redis, with the answers that it expects."""
    link, heard = store.link, []
    store.on_change(lambda kind, record_id: heard.append((kind, record_id)))
    await store.put("model", "1", b"{}")
    await store.put("user", "42", b"{}")
    assert await store.update("user", "42", lambda _: b'{"tier": "paid"}') == b'{"tier": "paid"}'
    assert (await store.ids("model"), await store.ids("user")) == (["1"], ["42"])
    assert await store.get_many("user", ["42", "43"]) == [b'{"tier": "paid"}', None]
    await store.delete("model", "1")
    await store.append_audit(b"{}")
    assert await store.audit(10) == [b"{}"]
    store.push_cooldown(b"{}")
    store.share_cooldown(SharedCooldown("m", "e", Cause.RATE_LIMITED, int(time.time() * 1000) + 60_000))
    store.share_cooldown(SharedCooldown("m", "e", None, 0))
    assert ("user", "42") in heard
    await use_passes(link)
    await use_limits(link, log)
    await use_objects(link)
    await use_alerts(link)
    assert await store.cooldowns(10) == [b"{}"]


async def use_passes(link: Link) -> None:
    passes = RedisPasses(link.tagged, prefix=link.tagged_prefix("gw:"))
    await passes.put("session", "s", b"{}", 60.0)
    assert await passes.get("session", "s") == b"{}"
    assert await passes.take("session", "s") == b"{}"


async def use_limits(link: Link, log: Log) -> None:
    limiter = RedisLimiter(link.tagged, nothing_known, prefix=link.tagged_prefix("gw:"), log=log.logger.warning)
    await limiter.start()
    assert not limiter.is_degraded
    demands = (Demand("user:1:model:1", Limits(requests=9, rpm=9, tpm=900, concurrency=9, tokens=900, period="month")),)
    held = [await limiter.reserve(f"r{n}", demands, tokens=1, cost=0.0, now=time.time()) for n in range(3)]
    limiter.settle(held[0], tokens=5, cost=0.1, now=time.time())
    limiter.cancel(held[1], now=time.time())
    limiter.detach(held[2], now=time.time())
    await link.tagged.call("PING")
    standing = (await limiter.standing(demands, time.time()))[0]
    assert (standing.running, standing.used.tokens) == (0, 5)
    await limiter.close()


async def use_objects(link: Link) -> None:
    objects = RedisObjects(link, prefix="gw:", object_days=lambda: 30)
    made = ObjectRecord(id="file-1", kind="file", owner="42", account="account", created=5, body=b"{}", final=True)
    for _ in range(40):  # of which some sweep the list
        await objects.apply([Put(made, 5)])
    assert (await objects.get(["file-1"]))["file-1"].owner == "42"
    await objects.touch([made])
    for descending in (True, False):
        found = await objects.slice("42", "file", None, descending=descending, count=10)
        assert found is not None
        await objects.slice("42", "file", "file-1", descending=descending, count=10)
    assert await objects.set_home("42", "account", None) == "account"
    assert await objects.home("42") == "account"
    assert await objects.unsettled() == []
    assert await objects.find_unsettled("batch-1") is None
    assert await objects.take_unsettled("batch-1") is False
    assert await objects.claim("me", 1.0)


async def use_alerts(link: Link) -> None:
    queue = RedisQueue(link.tagged, prefix=link.tagged_prefix("gw:"))
    event = Event("e", "id-e", b"{}", time.time() + 60)
    assert await queue.add(event, ["r"], time.time())
    assert [due.name for due in await queue.claim("r", time.time(), 5)] == ["e"]
    await queue.retry("r", "e", time.time(), 1.0)
    await queue.hurry(["r"], time.time())
    assert await queue.waiting(["r"]) == 1
    await queue.done("r", "e")
    await queue.stop("r", "f")
    assert await queue.stopped(["r"]) == {"r": "f"}
    await queue.resume("r")
    assert await queue.episodes() == []


# TLS


class Authority(NamedTuple):
    ca_file: str
    options: tuple[str, ...]
    tls: dict[str, Any]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = made.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "node.pem")
    files = {"cert-file": "node.pem", "key-file": "node.pem", "ca-cert-file": "ca.pem"}
    options = [word for name, file in files.items() for word in (f"--tls-{name}", str(tmp_path / file))]
    options += ["--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-cluster", "yes"]
    return Authority(str(tmp_path / "ca.pem"), tuple(options), {"ssl": True, "ssl_ca_certs": str(tmp_path / "ca.pem")})


@every_form
async def test_tls_by_an_authority_of_ones_own(form: Form, authority: Authority, tmp_path: Path, log: Log) -> None:
    with form(tmp_path / "redis", *authority.options, tls=authority.tls) as running:
        async with opened(running, log, ca_file=authority.ca_file) as store:
            await use_everything(store, log)
        stranger = RedisStore(link_to(Secret(running.url), log.logger), log.logger)
        await stranger.start()
        await until(lambda: "certificate" in str(stranger.status().detail))
        with pytest.raises(StoreUnavailable):
            await stranger.get("user", "42")
        await stranger.close()


async def test_a_certificate_for_another_name_is_refused(authority: Authority, tmp_path: Path, log: Log) -> None:
    """Under every version of redis-py: older ones do not look at names unless they are told to."""
    with single(tmp_path / "redis", *authority.options, tls=authority.tls) as running:
        url = running.url.replace("127.0.0.1", "localhost")
        store = RedisStore(link_to(Secret(url), log.logger, ca_file=authority.ca_file), log.logger)
        await store.start()
        await until(lambda: "localhost" in str(store.status().detail) and "certificate" in str(store.status().detail))
        await store.close()


# RESP3


@every_form
async def test_resp3_has_the_same_answers(form: Form, tmp_path: Path, log: Log) -> None:
    needs_redis()
    with form(tmp_path) as running:
        async with opened(running._replace(url=running.url + "?protocol=3"), log) as store:
            await use_everything(store, log)


# Permissions


def documented(which: str) -> list[list[str]]:
    """The ACL lines of docs/redis.md, as words after `ACL`."""
    section = (ROOT / "docs" / "redis.md").read_text().partition("## Permissions")[2].partition("\n## ")[0]
    lines = [line.partition("#")[0] for line in section.splitlines() if line.startswith("ACL ")]
    servers, by_sentinel, by_cluster, to_copy, at_sentinels = [line.split()[1:] for line in lines]
    chosen = {"single": [servers], "sentinel": [servers, by_sentinel], "cluster": [servers, by_cluster]}
    chosen["to copy"] = [servers, by_cluster, to_copy]
    return [at_sentinels] if which == "at sentinels" else chosen[which]


def permit(nodes: list[Node], which: str, password: str) -> None:
    for node in nodes:
        for words in documented(which):
            node.do("ACL", *[word.replace(">PASSWORD", f">{password}") for word in words])


@every_form
async def test_the_documented_permissions_are_enough(form: Form, tmp_path: Path, log: Log) -> None:
    """And what is asked beyond them would be seen in Redis' own log of refusals."""
    needs_redis()
    with form(tmp_path) as running:
        permit(running.nodes, form.__name__, USER_PASSWORD)
        permit(running.sentinels, "at sentinels", SENTINEL_PASSWORD)
        url = running.url.replace("://", f"://{LOGIN}") + (OF_SENTINELS if form is sentinel else "")
        async with opened(running._replace(url=url), log) as store:
            await use_everything(store, log)
        entries = [entry for node in running.nodes for entry in node.do("ACL", "LOG")]
        refused = {dict(zip(entry[::2], entry[1::2], strict=True))[b"object"] for entry in entries}
        assert refused <= {b"client", b"client|setinfo"}  # redis-py says its name, if it may
        assert log.events("redis refused a command") == []
        assert "us3r" not in log.text


def test_nothing_is_permitted_that_is_not_used() -> None:
    words = {word for form in FORMS for line in documented(form.__name__) for word in line if word.startswith("+")}
    used = "".join(
        file.read_text()
        for folder in ("redis", "store", "limits", "objects", "alerts")
        for pattern in ("*.py", "*.lua")
        for file in (ROOT / "gateway" / folder).rglob(pattern)
    )
    spoken = {"+select"}  # by redis-py
    unused = [
        word
        for word in words - spoken
        if not re.search(rf"""['"]{word[1:].partition("|")[0]}['"]""", used, re.IGNORECASE)
        and word[1:].upper() not in used
    ]
    assert unused == []


# The commands


async def test_a_store_is_copied_into_a_cluster_and_out_of_it(tmp_path: Path, log: Log) -> None:
    """What begins with the tag there has its own name elsewhere. By users with the documented permissions."""
    needs_redis()
    with single(tmp_path) as source, single(tmp_path) as target, cluster(tmp_path) as six:
        for each in (source, target, six):
            permit(each.nodes, "to copy", USER_PASSWORD)
        async with opened(source, log) as store:
            await fill(store)
        first, middle, last = (each.url.replace("://", f"://{LOGIN}") for each in (source, six, target))
        for from_url, to_url in ((first, middle), (middle, last)):
            output = await run("store", "copy", from_url, to_url, cwd=tmp_path)
            assert b"Traceback" not in output, output
        async with opened(six, log) as store:
            await find(store)
        async with opened(target, log) as store:
            await find(store)
        assert not [key for key in target.nodes[0].do("KEYS", "*") if key.startswith(b"{")]


async def fill(store: RedisStore) -> None:
    for number in range(100):
        await store.put("user", str(number), b"{}")
        made = ObjectRecord(id=f"file-{number}", kind="file", owner="42", account="a", created=5, body=b"{}")
        await RedisObjects(store.link, prefix="gw:", object_days=lambda: 30).apply([Put(made, 5)])
    await store.put("model", "1", b"{}")
    queue = RedisQueue(store.link.tagged, prefix=store.link.tagged_prefix("gw:"))
    assert await queue.add(Event("e", "id-e", b"{}", time.time() + 60), ["r"], time.time())


async def find(store: RedisStore) -> None:
    assert len(await store.ids("user")) == 100
    assert await store.ids("model") == ["1"]
    objects = RedisObjects(store.link, prefix="gw:", object_days=lambda: 30)
    assert len(await objects.get([f"file-{number}" for number in range(100)])) == 100
    listed = await objects.slice("42", "file", None, descending=False, count=200)
    assert listed is not None
    assert len(listed.records) == 100
    queue = RedisQueue(store.link.tagged, prefix=store.link.tagged_prefix("gw:"))
    assert await queue.waiting(["r"]) == 1


@every_form
async def test_check_connect_reaches_each_form_or_says_what_it_does_not(form: Form, tmp_path: Path) -> None:
    needs_redis()
    with form(tmp_path / "redis") as running:
        file = tmp_path / "gateway.yaml"
        file.write_text(f"tiers: [free]\nstore: {{kind: redis, url: '{running.url}'}}\n")
        good = await check(file)
        assert b"ok    store: redis" in good
        for node in (*running.nodes[::3], *running.sentinels):  # of a Cluster a primary and its replica
            node.kill()
        bad = await check(file)
        assert b"FAIL  store: " in bad
        file.write_text(f"tiers: [free]\nstore: {{kind: redis, url: 'redis+sentinel://u:{SECRET}@a,b'}}\n")
        malformed = await check(file)
        assert b"gateway.yaml:2: store.url: must name the service" in malformed
        assert SECRET.encode() not in good + bad + malformed


async def check(file: Path) -> bytes:
    return await run("check", "--connect", "-c", str(file), cwd=file.parent)


async def run(*arguments: str, cwd: Path) -> bytes:
    """What a command of the gateway prints."""
    environ = {"PATH": "", "PYTHONPATH": str(ROOT)}
    process = await start_gateway(*arguments, environ=environ, directory=cwd, stderr=asyncio.subprocess.STDOUT)
    output, _ = await process.communicate()
    assert output is not None
    return output


# Valkey


async def test_valkey_is_taken_for_redis(tmp_path: Path, log: Log) -> None:
    program = shutil.which("valkey-server")
    if program is None:
        pytest.skip("NO VALKEY: put valkey-server on PATH")
    with Trio.open(tmp_path, program=program) as trio:
        async with opened(Running(trio.url(), trio.servers, []), log) as store:
            await use_everything(store, log)
