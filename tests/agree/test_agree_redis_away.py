"""Redis away under load: who is known goes on, nobody hears a 401 or a 500, readiness tells, and all of it heals."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agree_kit import Load, Panel, chat, gateway, ready, running_redis, settings, until_ready
from kit import KEYS, FakeUpstream, GatewayProcess
from kit.books import until
from kit.stage import Record, endpoint, model
from store.grants_kit import RedisServer

KNOWN = "sk-known-0123456789abcdefghijkl"
NEVER_SEEN = "sk-never-seen-0123456789abcdefg"

Fault = Callable[[RedisServer], None]


def models(upstream: FakeUpstream) -> Iterator[Record]:
    """With limits, so that the limiter's way to Redis is in use as well."""
    yield model("open", [endpoint(upstream, "open")], limits={"rpm": 1_000_000, "requests": 1_000_000})


def kill(server: RedisServer) -> None:
    server.stop(signal.SIGKILL)


def freeze(server: RedisServer) -> None:
    server.tell(signal.SIGSTOP)


def thaw(server: RedisServer) -> None:
    server.tell(signal.SIGCONT)


async def all_told(at: GatewayProcess) -> bool:
    """Whether every connection has noticed. A key of the file must do, though its user is written down nowhere."""
    detail = (await ready(at, key=KEYS["panel"]))["detail"]
    assert detail["store"]["kind"] == "redis"
    return bool(not detail["store"]["available"] and detail["store"]["detail"] and detail["limits"]["keptAlone"])


@pytest.mark.parametrize(
    ("strike", "heal"), [(kill, RedisServer.start), (freeze, thaw)], ids=["killed and restarted", "frozen"]
)
async def test_redis_goes_and_comes_back_under_load(
    upstream: FakeUpstream, tmp_path: Path, strike: Fault, heal: Fault
) -> None:
    """A key of the file and one that only Redis has: both in use before, while and after, and every request passes.

    What nobody can know meanwhile is 503 `store_unavailable`; back with Redis it is 200, without a restart.
    """
    with running_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        with Panel(server, publish=True) as panel:
            panel.give_key(KNOWN, "known")
            panel.give_key(NEVER_SEEN, "never-seen")
        async with (
            gateway(tmp_path / "gateway", settings(list(models(upstream)), server.url)) as one,
            Load.on([one], "open") as of_file,
            Load.on([one], "open", key=KNOWN) as of_redis,
        ):
            assert (await ready(one))["status"] == "ok"
            strike(server)
            await until(lambda: all_told(one))
            assert (await ready(one))["status"] == "degraded"
            reply = await chat(one, "open", key=NEVER_SEEN)
            assert (reply.status, reply.error()["code"]) == (503, "store_unavailable")
            assert reply.header("retry-after") == "1"
            await of_file.more(50)
            await of_redis.more(50)
            heal(server)
            await until_ready(one, "ok")
            assert (await chat(one, "open", key=NEVER_SEEN)).status == 200
            await of_file.more(50)
            await of_redis.more(50)
            assert set(of_file.statuses) == set(of_redis.statuses) == {200}
        assert [line for line in one.logs if line.get("status") in (401, 500)] == []


async def test_a_gateway_that_starts_without_redis_serves_its_file_and_finds_redis_later(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Degraded from the first moment, with a reason in the detail; never a 401 for a key that Redis may have."""
    with running_redis(tmp_path) as server:
        server.stop()
        async with gateway(tmp_path / "gateway", settings(list(models(upstream)), server.url)) as one:
            report = await ready(one)
            assert report["status"] == "degraded"
            assert report["detail"]["store"]["detail"]
            assert (await chat(one, "open")).status == 200
            assert (await chat(one, "open", key=KNOWN)).status == 503
            server.start()
            with Panel(server, publish=True) as panel:
                panel.give_key(KNOWN, "known")
            await until_ready(one, "ok")
            assert (await chat(one, "open", key=KNOWN)).status == 200
