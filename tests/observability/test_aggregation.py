"""Workers that tell each other their numbers: real sockets and locks, several places in one process."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.observability.metrics import MetricsAggregation, Samples
from gateway.observability.metrics.aggregation import ANSWER_SECONDS

KEY = ("GET", "/x", "200", "", "")


class Worker:
    def __init__(self, requests: int) -> None:
        self.requests = requests

    async def tell(self) -> Samples:
        return {"gateway_requests_total": [(KEY, self.requests)], "gateway_workers": [((), 1)]}


def numbers(samples: Samples) -> tuple[object, object]:
    """Requests and workers."""
    return samples["gateway_requests_total"][0][1], samples["gateway_workers"][0][1]


async def test_whichever_worker_is_asked_tells_of_all(tmp_path: Path) -> None:
    async with (
        MetricsAggregation.join(tmp_path, Worker(1).tell) as one,
        MetricsAggregation.join(tmp_path, Worker(20).tell) as two,
        MetricsAggregation.join(tmp_path, Worker(300).tell) as three,
    ):
        assert sorted(aggregation.place for aggregation in (one, two, three)) == [0, 1, 2]
        assert [numbers(await aggregation.samples()) for aggregation in (one, two, three)] == [(321, 3)] * 3
        assert await asyncio.gather(*(aggregation.samples() for aggregation in (one, two, three) * 5))


async def test_what_a_dead_worker_has_told_stays_and_who_takes_its_place_goes_on_from_it(tmp_path: Path) -> None:
    """No sum that was shown ever shrinks; a gauge is that of the living."""
    async with MetricsAggregation.join(tmp_path, Worker(1).tell) as survivor:
        victim = Worker(20)
        async with MetricsAggregation.join(tmp_path, victim.tell) as aggregation:
            assert numbers(await survivor.samples()) == (21, 2)
            victim.requests = 22  # nobody has asked since
            place = aggregation.place
        assert numbers(await survivor.samples()) == (21, 1)
        async with MetricsAggregation.join(tmp_path, Worker(3).tell) as heir:
            assert heir.place == place
            assert numbers(await survivor.samples()) == numbers(await heir.samples()) == (24, 2)
        assert numbers(await survivor.samples()) == (24, 1)


async def test_a_worker_that_is_stuck_holds_nobody_up(tmp_path: Path) -> None:
    """It is not waited for long; what it told before still counts."""
    async with MetricsAggregation.join(tmp_path, Worker(1).tell) as well, stuck_worker(tmp_path) as stuck:
        assert numbers(await well.samples()) == (21, 2)
        stuck.clear()
        async with asyncio.timeout(ANSWER_SECONDS + 5):
            assert numbers(await well.samples()) == (21, 1)
        stuck.set()


@asynccontextmanager
async def stuck_worker(directory: Path) -> AsyncIterator[asyncio.Event]:
    """A worker that answers while the event is set."""
    may_answer, worker = asyncio.Event(), Worker(20)
    may_answer.set()

    async def tell() -> Samples:
        await may_answer.wait()
        return await worker.tell()

    async with MetricsAggregation.join(directory, tell):
        yield may_answer


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"gateway_requests_total": 1}', b"\xff"])
async def test_a_broken_file_is_as_good_as_none(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "0.told").write_bytes(garbage)
    (tmp_path / "1.told").write_bytes(garbage)
    (tmp_path / "1.lock").touch()
    (tmp_path / "1.socket").touch()
    async with MetricsAggregation.join(tmp_path, Worker(1).tell) as aggregation:
        assert numbers(await aggregation.samples()) == (1, 1)


async def test_places_are_freed_and_nothing_else_may_read_them(tmp_path: Path) -> None:
    for _ in range(3):
        async with MetricsAggregation.join(tmp_path, Worker(1).tell) as aggregation:
            assert aggregation.place == 0
            assert stat.S_IMODE(os.stat(tmp_path / "0.lock").st_mode) == 0o600


async def test_a_directory_that_is_not_there_is_told_and_leaves_no_lock_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        async with MetricsAggregation.join(tmp_path / "nowhere", Worker(1).tell):
            pass
    too_long = tmp_path / ("x" * 120)
    os.mkdir(too_long)
    with pytest.raises(OSError, match="too long"):
        async with MetricsAggregation.join(too_long, Worker(1).tell):
            pass
    aggregation = MetricsAggregation(too_long, Worker(1).tell)
    assert aggregation.place == 0
    os.close(aggregation._lock)
