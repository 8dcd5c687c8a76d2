"""A worker process for tests: `limits_worker.py URL PREFIX LEASE_SECONDS`, then one JSON object a line on stdin.

{"action": "take", "limits": {…}, "clients": 32, "each": 10, "tokens": 5}
                                                  parallel clients; answers how many requests were admitted
{"action": "settle", "tokens": 7}                 settles all that it holds; answers how many that were
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from gateway.errors import QuotaUsedUp, RateLimited
from gateway.limits import Demand, Reservation, Used
from gateway.limits.redis import RedisLimiter
from gateway.observability.logging import make_logger
from gateway.redis.link import RedisLink
from gateway.redis.link_forms import address_of
from gateway.types import Limits, Secret

SCOPE = "user:1:model:1"


async def rebuild(scope: str, since: float) -> Used:
    return Used()


class Session:
    def __init__(self, limiter: RedisLimiter, name: str) -> None:
        self._limiter = limiter
        self._name = name
        self._made = 0
        self._held: list[Reservation] = []

    async def take(self, limits: dict[str, Any], clients: int, each: int, tokens: int) -> int:
        before = len(self._held)
        demands = (Demand(SCOPE, Limits(**limits)),)
        await asyncio.gather(*[self._client(demands, each, tokens) for _ in range(clients)])
        return len(self._held) - before

    async def settle(self, tokens: int) -> int:
        held, self._held = self._held, []
        for reservation in held:
            self._limiter.settle(reservation, tokens=tokens, cost=0.0, now=time.time())
        await self._limiter.standing((), time.time())  # goes behind them, so that they have arrived
        return len(held)

    async def _client(self, demands: tuple[Demand, ...], requests: int, tokens: int) -> None:
        for _ in range(requests):
            self._made += 1
            request_id = f"{self._name}-{self._made}"
            try:
                held = await self._limiter.reserve(request_id, demands, tokens=tokens, cost=0.0, now=time.time())
            except (RateLimited, QuotaUsedUp):
                continue
            self._held.append(held)


def say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main(url: str, prefix: str, lease_seconds: str) -> None:
    def log(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    link = RedisLink(address_of(Secret(url)), make_logger("console"))
    limiter = RedisLimiter(link, rebuild, prefix=prefix, log=log, lease_seconds=float(lease_seconds))
    await limiter.start()
    session = Session(limiter, f"{os.getpid()}-{time.time_ns()}")
    actions = {"take": session.take, "settle": session.settle}
    say("ready")
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        say(await actions[order.pop("action")](**order))
    await limiter.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
