"""The transport must work on both event loops, so each of its tests runs on both."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

DEADLINE_SECONDS = 60  # only an end of waiting; one condition may take half of it
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Context = dict[str, Any]
AsyncTest = Callable[..., Coroutine[Any, Any, None]]


def on_both_loops(test: AsyncTest) -> Callable[..., None]:
    """Makes of an async test a plain one that runs under asyncio and under uvloop, within a deadline.

    What reaches the loop's exception handler fails the test, unless the test sets a handler of its own.
    """

    @pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
    @functools.wraps(test)
    def run(*, loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        run_to_its_end(loop_factory, test(**fixtures))

    parameters = [
        inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY),
        *inspect.signature(test).parameters.values(),
    ]
    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]  # what pytest reads
    return run


def run_to_its_end(loop_factory: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, None]) -> None:
    reported: list[Context] = []
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: reported.append(context))
        runner.run(asyncio.wait_for(main, DEADLINE_SECONDS))
    assert reported == []


async def until(condition: Callable[[], bool]) -> None:
    """Polls for what nothing announces; fails in the end."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS / 2
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)


async def until_still(progress: Callable[[], int]) -> None:
    """Lets the loop turn until `progress` stays the same: with both ends in one loop, nothing is on its way then."""
    last = -1
    while progress() != last:
        last = progress()
        for _ in range(200):
            await asyncio.sleep(0)
