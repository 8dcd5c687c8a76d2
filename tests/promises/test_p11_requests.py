"""P11: no client's body holds up another client, by more than 20 ms for a MiB of it, 50 ms at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit import KEYS, FakeUpstream, GatewayProcess, Wire, config, request_bytes
from kit.answers import full, raw
from kit.stage import endpoint, model
from promise_kit import gateway, upstream_with

MIB = 1 << 20
AT_ONCE_SECONDS, SECONDS_PER_MIB = 0.050, 0.020
# The clock is late by what others on this machine take as well; without a bound it was late by seconds.
MACHINE_SECONDS = 0.4
LAG = "gateway_event_loop_lag_seconds"

# Each of its size or refused; before there was a bound, some of them stopped everybody for seconds.
BODIES: dict[str, Callable[[], bytes]] = {
    "commas in a text, then texts without end": lambda: (
        b'{"a":"' + b"," * 1_100_000 + b'"' + b'""' * (15 * MIB - 550_000) + b"}"
    ),
    "a number beyond a double among many": lambda: b'{"model":"m","messages":[1e400' + b",1" * 500_000 + b"]}",
    "a million numbers": lambda: b'{"model":"m","messages":[' + b"1.5," * 990_000 + b"1]}",
    "objects without end": lambda: b'{"model":"m","messages":[' + b'{"a":1},' * 330_000 + b"1]}",
    "too many objects": lambda: b'{"model":"m","messages":[' + b"{}," * (10 * MIB) + b"1]}",
    "a key twice, behind megabytes": lambda: b'{"model":"m","a":[' + b'{"":0},' * 140_000 + b'{}],"a":1}',
    "escapes": lambda: b'{"model":"m","messages":[{"role":"user","content":"' + b'\\"' * (12 * MIB) + b'"}]}',
    "levels": lambda: b'{"model":"m","a":' + b"[" * (5 * MIB) + b"]" * (5 * MIB) + b"}",
    "fields that differ": lambda: b'{"model":"m",' + b",".join(b'"%x":1' % number for number in range(200_000)) + b"}",
    "tools that name models": lambda: b'{"model":"m","tools":[' + b'{"model":"m"},' * 200_000 + b"{}]}",
}


def settings(upstream: FakeUpstream) -> dict[str, Any]:
    return config([model("m", [endpoint(upstream, "m")])])


async def lag(at: GatewayProcess) -> float:
    reply = await at.get("/metrics", key=KEYS["reader"])
    return float(next(line.split()[1] for line in reply.body.decode().splitlines() if line.startswith(LAG)))


@pytest.mark.parametrize("kind", BODIES)
async def test_a_bodys_price_is_paid_by_who_sends_it(kind: str, tmp_path: Path) -> None:
    """The gateway's own clock says how late it was at worst, while such bodies came three times in a row."""
    body = BODIES[kind]()
    allowed = max(AT_ONCE_SECONDS, SECONDS_PER_MIB * len(body) / MIB)
    async with upstream_with(raw(full(200, b"{}"))) as upstream, gateway(tmp_path, settings(upstream)) as at:
        for path in ("/v1/chat/completions", "/v1/chat/completions", "/api/ai/chat"):
            async with Wire.open(at.port) as wire:
                await wire.send(request_bytes("POST", path, body, key=KEYS["user"]))
                assert (await wire.reply()).status in (200, 400, 502)
        assert await lag(at) <= allowed + MACHINE_SECONDS
