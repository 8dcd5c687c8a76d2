"""While gateway.yaml is read again, whatever it holds by then, requests are answered."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from kit import GatewayProcess, Wire, config, request_bytes

# The promise is 50 ms; what is more here is for the other tests on the machine. Once it was 14 s.
MOST_SECONDS = 1.0

HOSTILE = {
    "brackets": "models: " + "[" * 100_000,
    "one long line": "users: [" + "{id: 1, tier: free}, " * 20_000 + "{id: 1: 2}]\n",
    "keys given twice": "features:\n" + "  a: true\n" * 20_000,
    "many users, and a slip": "users:\n"
    + "".join(f"- {{id: {n}, tier: free}}\n" for n in range(20_000))
    + "nonsense: 1\n",
    "nothing": "",
}


async def longest_wait_until(gateway: GatewayProcess, event: str, count: int) -> float:
    """In seconds, over requests one after the other until the log has `count` lines of `event`."""
    longest = 0.0
    async with Wire.open(gateway.port) as wire:
        while sum(line.get("event", "").startswith(event) for line in gateway.logs) < count:
            began = time.perf_counter()
            await wire.send(request_bytes("GET", "/healthz"))
            assert (await wire.reply()).status == 200
            longest = max(longest, time.perf_counter() - began)
    return longest


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_file_holds_up_requests_while_it_is_read(tmp_path: Path, name: str) -> None:
    settings = config([])
    async with GatewayProcess.start(settings, tmp_path) as gateway:
        (tmp_path / "gateway.yaml").write_text(HOSTILE[name])
        assert await longest_wait_until(gateway, "configuration not reloaded", 1) < MOST_SECONDS


async def test_nor_does_a_large_one_that_is_taken_over(tmp_path: Path) -> None:
    settings = config([])
    async with GatewayProcess.start(settings, tmp_path) as gateway:
        users = [{"id": number, "tier": "free"} for number in range(10_000)]
        (tmp_path / "gateway.yaml").write_text(json.dumps({**settings, "users": users}, indent=1))
        assert await longest_wait_until(gateway, "configuration reloaded", 1) < MOST_SECONDS
