"""The gateway beside itself: limits in Redis instead of memory, heads that differ instead of repeated ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench import targets
from bench.arena import Arena, Contender, RedisAt, run_loads, with_cost
from bench.samples import Column, Sample, Table
from bench.tables.traffic import REQUEST_CONNECTIONS, loaded
from bench.wire import NUMBER

EMBEDDED, REDIS = "embedded", "redis"
REPEATED, DIFFERING = "repeated heads", "differing heads"
FORWARDED = {"x-forwarded-for": "203.0.113.7", "x-request-id": f"proxy-{NUMBER}"}


def measure_redis(arena: Arena) -> Iterator[Sample]:
    with (
        arena.redis() as redis,
        arena.upstream() as upstream,
        arena.started(targets.gateway, upstream) as embedded,
        arena.started(partial(targets.gateway, sections=redis.section), upstream) as shared,
    ):
        for gateway in (embedded, shared):
            arena.warm_up(gateway)
        for number in range(1, arena.plan.side_rounds + 1):
            alone = _with_redis(arena, embedded, None, number)
            yield alone
            both = _with_redis(arena, shared, redis, number)
            both.values["to_embedded"] = both.values["cpu_us"] / max(0.1, alone.values["cpu_us"])
            yield both


def _with_redis(arena: Arena, gateway: Contender, redis: RedisAt | None, number: int) -> Sample:
    load = arena.load(gateway, connections=REQUEST_CONNECTIONS, seconds=arena.plan.request_seconds)
    before = redis.process.cpu_seconds() if redis else 0.0
    (tally,), cost = with_cost(gateway.process, lambda: run_loads([load]))
    spent = redis.process.cpu_seconds() - before if redis else 0.0
    served = max(1, tally.served)
    values = {"gateway_us": cost.cpu_seconds / served * 1e6, "per_second": tally.served / tally.seconds}
    if redis:
        values["redis_us"] = spent / served * 1e6
    values["cpu_us"] = values["gateway_us"] + values.get("redis_us", 0.0)
    name = REDIS if redis else EMBEDDED
    return Sample(table="redis", target=name, round=number, errors=tally.errors, values=values, noise=cost.noise)


def measure_heads(arena: Arena) -> Iterator[Sample]:
    with arena.upstream() as upstream, arena.started(targets.gateway, upstream) as gateway:
        arena.warm_up(gateway)
        for number in range(1, arena.plan.side_rounds + 1):
            repeated, differing = (_headed(arena, gateway, name, number) for name in (REPEATED, DIFFERING))
            if "cpu_us" in repeated.values and "cpu_us" in differing.values:
                differing.values["to_repeated"] = differing.values["cpu_us"] / max(0.1, repeated.values["cpu_us"])
            yield from (repeated, differing)


def _headed(arena: Arena, gateway: Contender, name: str, number: int) -> Sample:
    load = arena.load(
        gateway,
        connections=REQUEST_CONNECTIONS,
        seconds=arena.plan.request_seconds,
        headers=FORWARDED,
        numbered=name == DIFFERING,
    )
    return loaded("heads", gateway, number, load, target=name)


REDIS_LIMITS = Table(
    name="redis",
    title=lambda _: f"CPU a request with limits of each kind in Redis, {REQUEST_CONNECTIONS} connections",
    about="The same load as for *CPU a request*, in turns on a gateway that counts in memory and on one that counts in "
    "Redis; what Redis' own process used is part of the second one's CPU.",
    columns=(
        Column("cpu_us", "CPU µs a request", 1),
        Column("to_embedded", "to embedded", 2),
        Column("gateway_us", "of the gateway", 1),
        Column("redis_us", "of Redis", 1),
        Column("per_second", "requests/s", 0),
    ),
    chart="cpu_us",
    run=measure_redis,
    first_column="limits kept",
)
HEADS = Table(
    name="heads",
    title=lambda _: f"CPU a request whose head differs from all before, {REQUEST_CONNECTIONS} connections",
    about="As a proxy in front sends them, that names client and request in two fields and shares its connections "
    "among all clients: the same bytes in each request, and with another number each time.",
    columns=(
        Column("cpu_us", "CPU µs a request", 1),
        Column("to_repeated", "to repeated", 2),
        Column("per_second", "requests/s", 0),
        Column("p50_ms", "p50 ms", 2),
        Column("p99_ms", "p99 ms", 2),
    ),
    chart="cpu_us",
    run=measure_heads,
    first_column="gateway with",
)
