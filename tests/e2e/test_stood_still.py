"""A gateway that stands still for a while (stopped, starved, its machine asleep) blames no upstream for it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kit import DONE, GatewayProcess, Stage, events
from kit.answers import delta
from kit.books import until

PAST_TIME_OUTS_SECONDS = 0.6  # twice the `first_byte` and `idle` of a hasty endpoint


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")


@asynccontextmanager
async def standing_still(gateway: GatewayProcess) -> AsyncIterator[None]:
    """While it lasts, the process does not run, and its time-outs pass."""

    async def stands() -> bool:
        return stopped(gateway.process.pid)

    gateway.signal(signal.SIGSTOP)
    try:
        await until(stands)
        yield
        await asyncio.sleep(PAST_TIME_OUTS_SECONDS)  # the time that passes is what the test is about
    finally:
        gateway.signal(signal.SIGCONT)


async def test_a_live_stream_goes_on(stage: Stage) -> None:
    """What came while nobody looked is read before `idle` is judged."""
    model = stage.model("hasty")
    release = asyncio.Event()
    model.a.replies(events(delta("one"), release, delta("two"), DONE))
    async with stage.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert await wire.event() == delta("one")
        async with standing_still(stage.gateway):
            release.set()
        assert (await wire.body()).body == delta("two") + DONE


async def test_a_first_event_that_is_there_counts(stage: Stage) -> None:
    """No other endpoint is asked, and the one that has answered does not cool down."""
    model = stage.model("hasty")
    release = asyncio.Event()
    model.a.replies(events(release, delta("one"), DONE))
    async with stage.asking(model.chat(stream=True)) as wire:
        await model.a.request()
        async with standing_still(stage.gateway):
            release.set()
        assert (await wire.reply()).body == delta("one") + DONE
    assert (await stage.post(model.chat())).status == 200
    assert model.asked() == [2, 0]


async def test_an_upstream_that_was_silent_all_the_while_is_still_found_out(stage: Stage) -> None:
    model = stage.model("hasty")
    model.a.replies(events(delta("one"), asyncio.Event()))
    async with stage.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert await wire.event() == delta("one")
        async with standing_still(stage.gateway):
            pass
        assert b'"stream_incomplete"' in await wire.event()
