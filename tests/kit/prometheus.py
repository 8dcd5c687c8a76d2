"""A real Prometheus that scrapes a gateway each second, and its promtool."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from bench.processes import free_port
from kit.gateway import KEYS, GatewayProcess
from kit.wire import DEADLINE_SECONDS, Wire, request_bytes

NONE_HERE = "NO PROMETHEUS: put prometheus and promtool on PATH (Debian's package `prometheus`)"


def program(name: str) -> str:
    """Where it is. Skips, loudly, where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(NONE_HERE)
    return found


async def promtool(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Its exit code, and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        program("promtool"),
        *arguments,
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


class Prometheus:
    """One that runs, asked by its API."""

    def __init__(self, port: int) -> None:
        self.port = port

    @classmethod
    @asynccontextmanager
    async def scraping(
        cls, gateway: GatewayProcess, directory: Path, rules: Sequence[Path] = ()
    ) -> AsyncIterator[Prometheus]:
        """Runs until the end of the block. Everything that it keeps is in `directory`."""
        port = free_port()
        (directory / "gateway.key").write_text(KEYS["reader"])
        (directory / "prometheus.yml").write_text(json.dumps(_settings(gateway, rules)))  # JSON is YAML
        process = await asyncio.create_subprocess_exec(
            program("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            cwd=directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said: list[bytes] = []
        reading = asyncio.create_task(_read(process, said))
        one = cls(port)
        try:
            await one._ready(process, said)
            yield one
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            await reading

    async def get(self, path: str, **query: str) -> Any:
        """The `data` of an answer; a query that it cannot parse fails here."""
        async with Wire.open(self.port) as wire:
            target = f"/api/v1/{path}" + (f"?{urlencode(query)}" if query else "")
            await wire.send(request_bytes("GET", target))
            reply = await wire.reply()
        said = reply.json()
        assert (reply.status, said["status"]) == (200, "success"), f"{query}: {said}"
        return said["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        found: list[dict[str, Any]] = (await self.get("query", query=expression))["result"]
        return found

    async def _ready(self, process: asyncio.subprocess.Process, said: list[bytes]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                assert process.returncode is None, b"".join(said).decode()
                try:
                    async with Wire.open(self.port) as wire:
                        await wire.send(request_bytes("GET", "/-/ready"))
                        if (await wire.reply()).status == 200:
                            return
                except OSError:
                    pass
                await asyncio.sleep(0.1)


async def _read(process: asyncio.subprocess.Process, said: list[bytes]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        said.append(line)


def _settings(gateway: GatewayProcess, rules: Sequence[Path]) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(each) for each in rules],
        "scrape_configs": [
            {
                "job_name": "ecli-gateway",
                "authorization": {"credentials_file": "gateway.key"},
                "static_configs": [{"targets": [f"127.0.0.1:{gateway.port}"]}],
            }
        ],
    }
