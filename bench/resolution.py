"""How long the gateway takes from a request's headers to caller, model and grant, with nothing else going on.

python -m bench.resolution      reads a `Resolution` as JSON from stdin; prints `Found` as JSON
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence

import msgspec
import uvloop
from multidict import CIMultiDict

from bench.wire import MODEL
from gateway.access.authenticate import Shown
from gateway.access.resolve import Named, resolve
from gateway.api.runtime import Runtime
from gateway.app import running
from gateway.config import load_settings
from gateway.observability.logging import make_logger
from gateway.process.serve import settle_the_collector

NAMED = Named(None, MODEL, True)


class Resolution(msgspec.Struct, frozen=True):
    configuration: str  # a gateway.yaml; nobody may use its folder meanwhile
    keys: list[str]
    look_ups: int


class Found(msgspec.Struct, frozen=True):
    """Means of one look-up. `again`: right after the first, while the caller is remembered."""

    first_us: float
    again_us: float


async def measure(job: Resolution) -> Found:
    settings = load_settings(job.configuration, os.environ)
    keys = random.sample(job.keys, len(job.keys))
    requests = [CIMultiDict({"authorization": f"Bearer {key}"}) for key in keys]
    async with running(settings, make_logger("json", stream=sys.stderr)) as current:
        runtime = current.runtime
        settle_the_collector()  # as a server does before its first request
        await _resolve_all(runtime, requests[:1])  # what is made when first used
        first_us = await _resolve_all(runtime, requests)
        again_us = await _resolve_all(runtime, (requests[-50:] * job.look_ups)[: job.look_ups])
        return Found(first_us, again_us)


async def _resolve_all(runtime: Runtime, requests: Sequence[CIMultiDict[str]]) -> float:
    """Mean CPU µs of one: nothing is waited for, and a busy machine plays no part."""
    began = time.process_time()
    for headers in requests:
        shown, authenticator = Shown.of(headers), runtime.authenticator
        caller = authenticator.remembered(shown, "ai:use") or await authenticator.caller(shown, "ai:use")
        resolve(caller, await runtime.store.catalogue(), NAMED, unknown_is_assigned=True)
    return (time.process_time() - began) / len(requests) * 1e6


def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Resolution)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(job))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
