"""P2: no admitted request is lost or counted twice, whatever dies: the gateway, its database, its disk."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import random
import resource
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kit import (
    DONE,
    KEYS,
    RESET,
    FakeUpstream,
    GatewayProcess,
    Received,
    Reply,
    Wire,
    as_openai,
    ask,
    assert_error,
    config,
    events,
    raw,
    request_bytes,
)
from kit.answers import USAGE, delta, upstream_error, usage_only
from kit.books import acting_for, ask_for, rows, stored, until
from kit.postgres import PrivatePostgres, private_postgres
from kit.stage import endpoint, model
from kit.wire import DEADLINE_SECONDS
from promise_kit import rounds, upstream_with

KILLS = rounds(20, 200)
LINEAGES = 2  # gateways with a directory each, killed and started again side by side
CLIENTS = 8
MOST_REQUESTS_IN_A_LIFE = 150
STALLS_IN_A_LIFE = 3
DATABASE_AWAY = "the ledger's database does not take the usage; the journal keeps it"
DATABASE_BACK = "the ledger's database is back"

# What becomes of a request, by what its upstream does: when its client got all of it, and when a kill cut it short.
PLANS: dict[str, tuple[str, set[str]]] = {
    "plain": ("ok", {"ok", "interrupted"}),
    "stream": ("ok", {"ok", "interrupted"}),
    "fail": ("upstream_error", {"upstream_error", "interrupted"}),
    "break": ("upstream_error", {"upstream_error", "interrupted"}),
    "leave": ("cancelled", {"cancelled", "interrupted"}),
    "stall": ("", {"interrupted"}),
}
WEIGHTS = (40, 30, 8, 8, 10, 4)


def settings(upstream: FakeUpstream, **sections: Any) -> dict[str, Any]:
    return config([model("m", [endpoint(upstream, "m")])], server={"drain_seconds": 0.2}, **sections)


# --- kill -9


async def as_planned(request: Received) -> None:
    """The upstream: its requests say in their `user` what it is to do with them."""
    plan = request.json()["user"].partition(":")[0]
    words = [delta("one "), delta("two "), delta("three")]
    behaviours = {
        "plain": as_openai(),
        "stream": events(*words, usage_only(), DONE),
        "fail": upstream_error(500),
        "break": events(*words, RESET),
        "leave": events(words[0], asyncio.Event()),
        "stall": raw(asyncio.Event()),
    }
    await behaviours[plan](request)


@dataclass
class Lineage:
    """One directory, its gateways one after the other, and what their clients know by themselves."""

    upstream: FakeUpstream
    directory: Path
    dice: random.Random
    numbers: Iterator[int] = field(default_factory=itertools.count)
    whole: set[str] = field(default_factory=set)  # tags of requests whose clients got all there was to get
    stalled: int = 0

    def seen(self) -> list[str]:
        """Tags of the requests that the upstream saw."""
        return [request.json()["user"] for request in self.upstream.endpoint("m").requests]

    async def life(self) -> None:
        """A gateway is started, put under load, and killed at a moment that nobody can foresee."""
        self.stalled = 0
        async with (
            GatewayProcess.start(settings(self.upstream), self.directory) as gateway,
            asyncio.TaskGroup() as load,
        ):
            for _ in range(CLIENTS):
                load.create_task(self.client(gateway.port))
            if self.dice.random() < 0.5:
                await self.something_is_stored()
            served = len(self.upstream.endpoint("m").requests) + self.dice.randrange(MOST_REQUESTS_IN_A_LIFE)
            await self.upstream.endpoint("m").request(served)
            await asyncio.sleep(self.dice.random() * 0.005)  # anywhere between two requests
            gateway.signal(signal.SIGKILL)
            await gateway.wait()

    async def something_is_stored(self) -> None:
        """Waits until the writer or the replay are at work on the database."""
        before = len(stored(self.directory))

        async def grows() -> bool:
            return len(stored(self.directory)) > before

        await until(grows)

    async def client(self, port: int) -> None:
        """Asks until the gateway dies; one that left begins a new connection."""
        try:
            while True:
                wire = Wire(*await asyncio.open_connection("127.0.0.1", port))  # closes its socket where it is refused
                try:
                    while await self.ask(wire):
                        pass
                finally:
                    await wire.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    async def ask(self, wire: Wire) -> bool:
        """One request. False where it ended by leaving."""
        (plan,) = self.dice.choices(list(PLANS), WEIGHTS)
        if plan == "stall":
            self.stalled += 1
            plan = plan if self.stalled <= STALLS_IN_A_LIFE else "plain"
        tag = f"{plan}:{next(self.numbers)}"
        body = ask("m", user=tag, stream=plan in ("stream", "break", "leave"))
        headers = [("x-client-request-id", tag)]
        await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["user"], headers=headers))
        reply = await wire.head()
        if plan == "leave":
            await wire.event()
            wire.reset()
            return False
        await wire.body()
        assert reply.status == (502 if plan == "fail" else 200)
        assert (DONE in reply.body) == (plan == "stream")
        self.whole.add(tag)
        return True

    async def settle(self) -> None:
        """The last start: waits until everything that was seen has arrived, and stops in peace."""
        async with GatewayProcess.start(settings(self.upstream), self.directory):
            seen = set(self.seen())

            async def everything_is_here() -> bool:
                return seen <= {row["client_request_id"] for row in stored(self.directory)}

            with contextlib.suppress(TimeoutError):  # what is missing even then, `check` tells by its name
                await until(everything_is_here)

    def check(self) -> None:
        """The ledger against what upstream and clients counted by themselves."""
        ledger, seen = stored(self.directory), collections.Counter(self.seen())
        times = collections.Counter(row["client_request_id"] for row in ledger)
        assert [tag for tag, count in seen.items() if count > 1] == [], "a request went upstream twice"
        assert [tag for tag, count in times.items() if count > 1] == [], "a request has two rows"
        assert set(seen) - set(times) == set(), "a request that the upstream saw is lost"
        for row in ledger:
            self.check_row(row, row["client_request_id"], was_seen=row["client_request_id"] in seen)
        assert list((self.directory / "data" / "journal").iterdir()) == []

    def check_row(self, row: dict[str, Any], tag: str, *, was_seen: bool) -> None:
        done, cut_short = PLANS[tag.partition(":")[0]]
        if tag in self.whole:
            assert row["outcome"] == done, row
        else:
            # Admitted, and killed before anything was asked: the upstream knows nothing of it.
            assert row["outcome"] in (cut_short if was_seen else {"interrupted"}), row
        if row["outcome"] == "ok":
            assert (row["total_tokens"], row["usage_source"]) == (USAGE["total_tokens"], "reported")


@pytest.mark.timeout(max(120, 10 * KILLS))
async def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, dice: random.Random) -> None:
    """Killed again and again under load: each request that an upstream saw has one row, with the right outcome."""
    async with asyncio.TaskGroup() as lineages:
        for number in range(LINEAGES):
            directory = tmp_path / str(number)
            directory.mkdir()
            lineages.create_task(_killed_again_and_again(directory, random.Random(dice.random())))


async def _killed_again_and_again(directory: Path, dice: random.Random) -> None:
    async with upstream_with(as_planned) as upstream:
        lineage = Lineage(upstream, directory, dice)
        for _ in range(KILLS // LINEAGES):
            await lineage.life()
        await lineage.settle()
    lineage.check()
    assert len(lineage.whole) > KILLS, "there was no load"


# --- the database is away


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivatePostgres]:
    with private_postgres() as server:
        yield server


@asynccontextmanager
async def load_on(gateway: GatewayProcess) -> AsyncIterator[list[str]]:
    """Four clients that ask without a pause, of whom each request must succeed. Gives the tags of what was answered."""
    answered: list[str] = []
    over = asyncio.Event()

    async def client(number: int) -> None:
        for each in itertools.count():
            if over.is_set():
                return
            reply = await ask_for(gateway, "load", ask("m"), tag=f"{number}.{each}")
            assert reply.status == 200
            answered.append(f"{number}.{each}")

    async with asyncio.TaskGroup() as clients:
        for number in range(4):
            clients.create_task(client(number))
        try:
            yield answered
        finally:
            over.set()


async def more_of(answered: list[str], count: int = 40) -> None:
    """Waits until so many more were answered."""
    wanted = len(answered) + count

    async def enough() -> bool:
        return len(answered) >= wanted

    await until(enough)


def has_logged(event: str) -> Callable[[dict[str, Any]], bool]:
    return lambda line: line.get("event") == event


async def assert_each_once(gateway: GatewayProcess, answered: list[str]) -> None:
    found = await rows(gateway, "load", len(answered))
    assert collections.Counter(row["client_request_id"] for row in found) == dict.fromkeys(answered, 1)
    assert {row["outcome"] for row in found} == {"ok"}


async def test_a_locked_sqlite_file_delays_and_loses_nothing(tmp_path: Path) -> None:
    """Another process holds the file: requests are served all the while, and everything arrives afterwards."""
    async with upstream_with() as upstream, GatewayProcess.start(settings(upstream), tmp_path) as gateway:
        async with load_on(gateway) as answered:
            await more_of(answered)
            with closing(sqlite3.connect(tmp_path / "data" / "usage.db", timeout=10, isolation_level=None)) as other:
                other.execute("begin exclusive")
                await gateway.log(has_logged(DATABASE_AWAY))
                await more_of(answered)
        await gateway.log(has_logged(DATABASE_BACK))
        await assert_each_once(gateway, answered)


async def test_postgresql_may_die_and_come_back_under_load(tmp_path: Path, postgres: PrivatePostgres) -> None:
    """The server stops without a word; nobody's request fails, and each has one row once it is back."""
    url = postgres.new_database().reveal()
    async with (
        upstream_with() as upstream,
        GatewayProcess.start(settings(upstream, usage={"url": url}), tmp_path) as gateway,
    ):
        async with load_on(gateway) as answered:
            await more_of(answered)
            await asyncio.to_thread(postgres.stop)
            try:
                await gateway.log(has_logged(DATABASE_AWAY))
                await more_of(answered)
                reply = await gateway.get("/api/ai/usage", key=KEYS["user"])
                assert (reply.status, reply.json()["error"]) == (503, "store_unavailable")
            finally:
                await asyncio.to_thread(postgres.start)
        await gateway.log(has_logged(DATABASE_BACK))
        await assert_each_once(gateway, answered)


# --- the disk is full


def allow_files_of(gateway: GatewayProcess, size_bytes: int) -> None:
    """The most that any file of the gateway may grow to: at 1 a full disk, as far as it can tell."""
    _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


async def test_a_full_disk_refuses_new_requests_and_loses_none_that_run(tmp_path: Path) -> None:
    """503 ledger_unavailable without asking an upstream; a stream under way ends well and is in the ledger later."""
    async with upstream_with() as upstream, GatewayProcess.start(settings(upstream), tmp_path) as gateway:
        asked, release = upstream.endpoint("m"), asyncio.Event()
        assert (await ask_for(gateway, "load", ask("m"), tag="before")).status == 200
        asked.replies(events(delta("a"), release, usage_only(), DONE))
        async with asyncio.TaskGroup() as clients:
            running = clients.create_task(ask_for(gateway, "load", ask("m", stream=True), tag="running"))
            await asked.request(2)
            allow_files_of(gateway, 1)
            refused = await ask_for(gateway, "load", ask("m"), tag="refused")
            release.set()
        assert_error(refused, 503, "ledger_unavailable")
        assert refused.header("retry-after") == "1"
        assert running.result().body.endswith(DONE)
        assert len(asked.requests) == 2
        for _ in range(20):
            ready = await gateway.get("/readyz")
            assert (ready.status, ready.json()) == (503, {"status": "unready"}), "for as long as nothing is admitted"
            await asyncio.sleep(0.1)
        allow_files_of(gateway, resource.RLIM_INFINITY)
        await until_served(gateway)
        assert (await gateway.get("/readyz")).status == 200
        found = {row["client_request_id"]: row for row in await rows(gateway, "load", 3)}
        assert set(found) == {"before", "running", "after"}
        assert {row["outcome"] for row in found.values()} == {"ok"}
        assert found["running"]["total_tokens"] == "21"


async def until_served(gateway: GatewayProcess) -> None:
    """Recovery without anybody's help: the same request passes again."""

    async def is_served() -> bool:
        reply: Reply = await ask_for(gateway, "load", ask("m"), tag="after")
        return reply.status == 200

    await until(is_served, DEADLINE_SECONDS)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "kill -9"])
async def test_an_end_while_the_database_is_away_loses_nothing(tmp_path: Path, end: signal.Signals) -> None:
    """The journal keeps what the database never saw, over a stop as over a kill; the next start brings it in."""
    async with upstream_with() as upstream:
        away = {"url": "postgresql://gateway@127.0.0.1:1/usage"}
        async with GatewayProcess.start(settings(upstream, usage=away), tmp_path) as gateway:
            for number in range(20):
                assert (await ask_for(gateway, "load", ask("m"), tag=str(number))).status == 200
            gateway.signal(end)
            await gateway.wait()
        async with GatewayProcess.start(settings(upstream), tmp_path) as gateway:
            await assert_each_once(gateway, [str(number) for number in range(20)])


async def test_a_client_that_leaves_as_its_request_is_admitted_has_its_row(tmp_path: Path) -> None:
    """Sixty clients gone at once, some before the upstream was asked: what it saw is written down, as cancelled."""
    async with upstream_with(raw(asyncio.Event())) as upstream:
        async with GatewayProcess.start(settings(upstream), tmp_path) as gateway:

            async def its_request(number: int) -> None:
                """Waits until the upstream has seen this visitor's own request: it may be any of those that come."""
                arrivals = itertools.count(1)
                while (await upstream.endpoint("m").request(next(arrivals))).json()["user"] != str(number):
                    pass

            async def visit(number: int) -> None:
                headers = [*acting_for("load"), ("x-client-request-id", str(number))]
                async with Wire.open(gateway.port) as wire:
                    await wire.send(
                        request_bytes(
                            "POST",
                            "/v1/chat/completions",
                            ask("m", user=str(number)),
                            key=KEYS["panel"],
                            headers=headers,
                        )
                    )
                    if number % 2:
                        await its_request(number)
                    wire.reset()

            await asyncio.gather(*(visit(number) for number in range(60)))
            for request in upstream.endpoint("m").requests:
                await request.until_closed()
            seen = {request.json()["user"] for request in upstream.endpoint("m").requests}
            # Those of whom the upstream has not heard have rows as well: as many as were seen are not yet these.
            found = list[dict[str, str]]()

            async def are_told() -> bool:
                found[:] = await rows(gateway, "load", len(seen))
                return seen <= {row["client_request_id"] for row in found}

            await until(are_told)
        assert {(row["outcome"], row["status"]) for row in found} == {("cancelled", "499")}
