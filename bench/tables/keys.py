"""Many keys, users and grants: how long the start and a look-up take; what Redis mode holds of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import redis

from bench import targets
from bench.arena import Arena, Contender, UpstreamAt, output_of, run_loads, with_cost
from bench.resolution import Found, Resolution
from bench.samples import Column, Noise, Sample, Table
from bench.targets import sha256
from bench.wire import MODEL

CONNECTIONS = 16
LOOK_UPS = 5000
RESOLUTION_SECONDS = 120
WRITTEN_AT_A_TIME = 5000
STEP_SECONDS = 120
IDLE_SECONDS = 60


def keys_of(count: int) -> list[str]:
    return [f"sk-bench-user-{number:08}-0123456789" for number in range(1, count + 1)]


def measure_keys(arena: Arena) -> Iterator[Sample]:
    with arena.upstream() as upstream:
        for number in range(1, arena.plan.key_rounds + 1):
            for count in (1, arena.plan.keys):
                yield _with_keys(arena, upstream, count, number)


def _with_keys(arena: Arena, upstream: UpstreamAt, count: int, number: int) -> Sample:
    keys = keys_of(count)
    build = partial(targets.gateway, users=keys)
    began = time.perf_counter()
    with arena.started(build, upstream, key=keys[-1], pause_seconds=0.01) as gateway:
        assert gateway.process is not None
        values = {"start_seconds": time.perf_counter() - began, "start_cpu_seconds": gateway.process.cpu_seconds()}
        gateway.process.wait_until_idle(IDLE_SECONDS)
        values["resident_mb"] = gateway.process.resident_mb()
        errors, values["cpu_us"], noise = _cpu_us(arena, gateway, keys)
    found = _resolution(Path(gateway.target.command[-1]), keys)
    values |= {"first_us": found.first_us, "again_us": found.again_us}
    return Sample(table="keys", target=f"{count:,}", round=number, errors=errors, values=values, noise=noise)


def _resident_mb(gateway: Contender) -> float:
    assert gateway.process is not None
    return gateway.process.resident_mb()


def _cpu_us(arena: Arena, gateway: Contender, keys: list[str]) -> tuple[int, float, Noise]:
    """Errors, CPU µs a request where each request bears the next key, and what disturbed it."""
    file = _written(arena, keys)
    load = arena.load(gateway, connections=CONNECTIONS, seconds=arena.plan.request_seconds, keys_file=str(file))
    (tally,), cost = with_cost(gateway.process, lambda: run_loads([load]))
    return tally.errors, cost.cpu_seconds / max(1, tally.served) * 1e6, cost.noise


def _written(arena: Arena, keys: list[str]) -> Path:
    file = arena.new_folder() / "keys"
    file.write_text("\n".join(keys))
    return file


def _resolution(configuration: Path, keys: list[str]) -> Found:
    """`configuration` is one that a gateway has been started from and that has ended since."""
    job = Resolution(str(configuration), keys[:: max(1, len(keys) // LOOK_UPS)], LOOK_UPS)
    return msgspec.json.decode(output_of("bench.resolution", job, RESOLUTION_SECONDS), type=Found)


def measure_redis_keys(arena: Arena) -> Iterator[Sample]:
    """Step by step more keys are used, each once: what the gateway holds must stop growing at its cache's bound."""
    keys = keys_of(arena.plan.keys)
    with arena.redis() as server, arena.upstream() as upstream:
        _fill(server.port, keys)
        build = partial(targets.gateway, users=(), sections=server.section)
        with arena.started(build, upstream, key=keys[-1]) as gateway:
            start_mb = _resident_mb(gateway)
            full_mb = None  # once the second step is over: by then what is remembered has reached its bound
            for step in range(arena.plan.redis_steps):
                sample = _stepped(arena, gateway, keys, step, start_mb)
                if full_mb is not None:
                    sample.values["growth"] = (sample.values["resident_mb"] / full_mb - 1) * 100
                elif step == 1:
                    full_mb = sample.values["resident_mb"]
                yield sample


def _fill(port: int, keys: list[str]) -> None:
    with redis.Redis(port=port) as client:
        for start in range(0, len(keys), WRITTEN_AT_A_TIME):
            documents: dict[str | bytes, bytes] = {}
            for number, key in enumerate(keys[start : start + WRITTEN_AT_A_TIME], start + 1):
                owner = {"tier": "free", "grants": [{"model": MODEL}]}
                documents[f"gw:user:{number}"] = msgspec.json.encode(owner)
                documents[f"gw:key:{sha256(key)}"] = msgspec.json.encode({"id": f"key-{number}", "user": number})
            client.mset(documents)


def _stepped(arena: Arena, gateway: Contender, keys: list[str], step: int, start_mb: float) -> Sample:
    each = arena.plan.keys_a_step // CONNECTIONS
    used = (step + 1) * each * CONNECTIONS
    file = _written(arena, keys[used - each * CONNECTIONS : used])
    load = arena.load(gateway, connections=CONNECTIONS, seconds=STEP_SECONDS, each=each, keys_file=str(file))
    (tally,), cost = with_cost(gateway.process, lambda: run_loads([load]))
    now_mb = _resident_mb(gateway)
    return Sample(
        table="redis-keys",
        target=f"{used:,}",
        errors=tally.errors,
        values={
            "resident_mb": now_mb,
            "added_mb": now_mb - start_mb,
            "cpu_us": cost.cpu_seconds / max(1, tally.served) * 1e6,
        },
        noise=cost.noise,
    )


KEYS = Table(
    name="keys",
    title=lambda plan: f"{plan.keys:,} keys, users and grants in gateway.yaml",
    about="Start: from nothing to the first answer. Resolution: from a request's headers to caller, model and grant, "
    "CPU in a process that does nothing else; the first time for each key, and again while it is remembered. CPU a "
    f"request: over {CONNECTIONS} connections, each request with the next key.",
    columns=(
        Column("start_seconds", "start s", 2),
        Column("start_cpu_seconds", "start CPU s", 2),
        Column("resident_mb", "resident MB", 0),
        Column("first_us", "resolution µs", 1),
        Column("again_us", "again µs", 1),
        Column("cpu_us", "CPU µs a request", 0),
    ),
    chart="first_us",
    run=measure_keys,
    first_column="keys",
)
REDIS_KEYS = Table(
    name="redis-keys",
    title=lambda plan: f"Redis mode: memory of one worker while more and more of {plan.keys:,} keys are used",
    about="Each key is used once, so that each request looks up key and user in Redis. The gateway remembers a bounded "
    "number of records: once they are full, memory must not grow with the keys.",
    columns=(
        Column("resident_mb", "resident MB", 1),
        Column("added_mb", "since start MB", 1),
        Column("growth", "since the second step %", 1),
        Column("cpu_us", "CPU µs a request", 0),
    ),
    chart="resident_mb",
    run=measure_redis_keys,
    first_column="keys used",
)
