"""A ledger of the first release with many rows, brought up to date by a real gateway while it serves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agree.agree_kit import Load, call, gateway, running_upstream, settings
from kit import KEYS, GatewayProcess
from kit.books import until
from kit.stage import endpoint, model
from ledgerkit import engine_of, stored
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sumskit import check_sums

from bench.migration import fill
from gateway.types import Secret
from gateway.usage.sql.migrations.steps import STEPS

ROWS = 12_000
KILLED_AT = (0.0, 0.2, 0.6)  # how much of the old rows is in the sums
PATIENCE_SECONDS = 90
DATABASES = pytest.mark.parametrize("url", ["sqlite", "postgresql", "mariadb"], indirect=True)
MOST = 10**9
LIMITED = "sk-limited-0123456789abcdefghi"
EVER = "?from=2000-01-01&to=2099-01-01"


def number(url: Secret, query: str) -> int | None:
    """None where the database cannot tell yet."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            return int(connection.scalar(text(query)) or 0)
    except SQLAlchemyError:
        return None
    finally:
        engine.dispose()


def summed(url: Secret) -> int:
    return number(url, "SELECT count(summed) FROM ai_usage") or 0


@asynccontextmanager
async def serving(url: Secret, directory: Path) -> AsyncIterator[dict[str, Any]]:
    """A configuration whose user 7 may do so much each month, over a running upstream."""
    os.makedirs(directory)
    async with running_upstream() as upstream:
        granted = {"model": "quick", "limits": {"requests": MOST, "period": "month"}}
        whole = settings(
            [model("quick", [endpoint(upstream, "quick")]) | {"global": False}], usage={"url": url.reveal()}
        )
        whole["users"].append({"id": 7, "tier": "paid", "grants": [granted]})
        whole["keys"].append({"id": "limited", "user": 7, "key": LIMITED, "scopes": ["ai:use"]})
        yield whole


async def left(at: GatewayProcess) -> int:
    """What the limit has left, as user 7 is told."""
    (told,) = (await call(at, "GET", "/api/ai/my-models", key=LIMITED)).json()
    return int(MOST - told["used"]["requests"])


class Totals:
    """Asks for the total of an old user again and again: right, or not told."""

    def __init__(self, at: GatewayProcess, old: int) -> None:
        self.at, self.old = at, old
        self.told = 0

    async def ask(self) -> None:
        """Until the gateway is killed."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._ask()

    async def _ask(self) -> None:
        while True:
            reply = await self.at.get(f"/api/soc/usage/user/11{EVER}", key=KEYS["panel"])
            if reply.status == 200:
                assert reply.json()["totals"]["requests"] == self.old
                self.told += 1
            else:
                assert (reply.status, reply.json()["error"]["code"]) == (503, "store_unavailable")
            await asyncio.sleep(0.02)


@asynccontextmanager
async def asking(at: GatewayProcess, old: int) -> AsyncIterator[Totals]:
    totals = Totals(at, old)
    task = asyncio.create_task(totals.ask())
    try:
        yield totals
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@DATABASES
@pytest.mark.timeout(300)
async def test_nothing_is_refused_and_no_total_is_wrong_on_the_way(url: Secret, tmp_path: Path) -> None:
    """Killed in the middle; who has a limit, which is rebuilt from the old rows, is served from the first moment."""
    fill(url, ROWS)
    kills = KILLED_AT if url.reveal().startswith("sqlite") else KILLED_AT[1:2]
    old = ROWS // 2000
    loads: list[Load] = []
    async with serving(url, tmp_path / "gateway") as whole:
        for share in kills:
            async with GatewayProcess.start(whole, tmp_path / "gateway") as killed:

                async def enough(share: float = share) -> bool:
                    return await asyncio.to_thread(summed, url) > share * ROWS

                async with Load.on([killed], "quick", key=LIMITED) as load, asking(killed, old):
                    loads.append(load)
                    await until(enough, PATIENCE_SECONDS)
                    load._stop = True
                    killed.signal(signal.SIGKILL)
                    await killed.wait()
        async with gateway(tmp_path / "gateway", whole) as last:
            async with Load.on([last], "quick", key=LIMITED) as load, asking(last, old) as totals:
                loads.append(load)

                async def done() -> bool:
                    unsummed = await asyncio.to_thread(
                        number, url, "SELECT count(*) FROM ai_usage WHERE summed IS NULL"
                    )
                    steps = await asyncio.to_thread(number, url, "SELECT count(*) FROM ai_usage_steps")
                    return totals.told > 0 and (unsummed, steps) == (0, len(STEPS))

                await until(done, PATIENCE_SECONDS)
            at = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000
            counted = f"SELECT count(*) FROM ai_usage WHERE user_id = '7' AND answered AND time_ms >= {round(at)}"

            async def told() -> bool:
                return MOST - await left(last) == await asyncio.to_thread(number, url, counted)

            await until(told)
    asked = [each for load in loads for each in load.asked]
    assert {each.status for each in asked} <= {0, 200}
    new = [row for row in stored(url) if not row["request_id"].startswith("old-")]
    served = sum(each.status == 200 for each in asked)
    assert served <= len(new) <= len(asked)
    assert sum(row["outcome"] == "ok" for row in new) >= served
    assert number(url, "SELECT count(*) FROM ai_usage") == ROWS + len(new)
    check_sums(url)


async def made_anew(directory: Path) -> tuple[str, str]:
    """`gateway usage rebuild`, seen by somebody at a terminal: what it prints, and its bar."""
    terminal, its_end = pty.openpty()
    try:
        command = ("-m", "gateway", "usage", "rebuild", "-c", str(directory / "gateway.yaml"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=its_end
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, _ = await process.communicate()
        bar = os.read(terminal, 1 << 16).decode()
        assert process.returncode == 0, bar
        return out.decode(), bar
    finally:
        os.close(terminal)
        os.close(its_end)


@DATABASES
@pytest.mark.timeout(300)
async def test_sums_are_made_anew_beside_a_gateway_that_writes(url: Secret, tmp_path: Path) -> None:
    """Whatever they said before: afterwards they are those of the rows, of which none is lost and none counts twice."""
    fill(url, ROWS)
    directory = tmp_path / "gateway"
    async with serving(url, directory) as whole, gateway(directory, whole) as running:

        async def done() -> bool:
            return await asyncio.to_thread(summed, url) >= ROWS

        await until(done, PATIENCE_SECONDS)
        async with Load.on([running], "quick", key=LIMITED) as load:
            engine = engine_of(url)
            with engine.begin() as connection:
                connection.execute(text("UPDATE ai_usage_daily SET requests = 7"))
            engine.dispose()
            out, bar = await made_anew(directory)
            await load.more(10)
    assert out.startswith("the sums are made anew from 1")
    assert " " not in bar.rstrip().rpartition("\r")[2].partition("]")[0], "the bar ends full"
    assert load.statuses.keys() == {200}
    assert number(url, "SELECT count(*) FROM ai_usage") == ROWS + len(load.asked)
    assert summed(url) == ROWS + len(load.asked)
    check_sums(url)
