"""What a request pays for being counted and traced: microseconds of this thread's processor time.

python -m bench.counting
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.dialects.openai import Usage
from gateway.observability.calls import Call
from gateway.observability.metrics import Counters
from gateway.observability.tracing import trace_of
from gateway.types import Endpoint, Model

TIMES, ROUNDS = 50_000, 9
USUAL = {"host": "x", "authorization": "Bearer k", "content-type": "application/json", "content-length": "100"}
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def main() -> None:
    usual = CIMultiDictProxy(CIMultiDict(USUAL))
    traced = CIMultiDictProxy(CIMultiDict(USUAL | {"traceparent": PARENT}))
    counters, call = Counters(), answered_call()
    tell("a request that was answered is counted", lambda: counters.finished(call, call.began + 0.003))
    tell("headers without a trace are looked at", lambda: trace_of(usual))
    tell("headers with a trace are read", lambda: trace_of(traced))


def answered_call() -> Call:
    call = Call("POST", "/v1/chat/completions", "127.0.0.1", None)
    call.route, call.status, call.outcome, call.attempts = call.path, 200, "ok", 1
    call.served, call.endpoint = Model(id=1, name="gpt-4o"), Endpoint(id="openai-a", url="http://upstream.test/v1")
    call.first_byte, call.upstream_seconds = call.began + 0.003, 0.0025
    call.usage = Usage(10, 20, 30)
    return call


def tell(what: str, work: Callable[[], object]) -> None:
    rounds = [microseconds(work) - microseconds(lambda: None) for _ in range(ROUNDS)]
    print(f"{what:<42} {statistics.median(rounds):5.2f} µs (from {min(rounds):.2f} to {max(rounds):.2f})")


def microseconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    for _ in range(TIMES):
        work()
    return (time.thread_time() - began) / TIMES * 1e6


if __name__ == "__main__":
    main()
