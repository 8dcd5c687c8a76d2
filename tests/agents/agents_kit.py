"""Real coding agents from npm, and an upstream that plays one task: write a file by a tool, then say so.

The agents run in a scratch home, with an environment of nothing but what is given here, and with proxies that lead
nowhere: they reach the gateway and nothing else. Installing them takes a while and a network, so it is done once, into
GATEWAY_TEST_AGENTS (default: ~/.cache/ecli-gateway-agents); `python tests/agents/agents_kit.py` does just that.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

AGENTS = {"opencode": "opencode-ai@1.18.33", "codex": "@openai/codex@0.171.0"}
AFTERWARDS = {"opencode": "node_modules/opencode-ai/postinstall.mjs"}  # what its package would run by itself
INSTALL_SECONDS, RUN_SECONDS = 500, 90
NOWHERE = "http://127.0.0.1:9"
LAST_WORDS = "The file is there."
Json = dict[str, Any]


def cache() -> Path:
    given = os.environ.get("GATEWAY_TEST_AGENTS")
    return Path(given) if given else Path.home() / ".cache" / "ecli-gateway-agents"


def installed(name: str) -> Path:
    """The agent's program, installed where it is not yet; skips the test where that cannot be."""
    package = AGENTS[name]
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip(f"NPM IS NOT INSTALLED: {name.upper()} WAS NOT TESTED against the gateway")
    place = cache() / package.replace("/", "-").replace("@", "-").strip("-")
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists() and (why := _install(name, package, place)):
            pytest.skip(f"{name.upper()} COULD NOT BE INSTALLED and WAS NOT TESTED against the gateway: {why}")
    return place / "node_modules" / ".bin" / name


def _install(name: str, package: str, place: Path) -> str | None:
    """What went wrong, if anything did."""
    commands = [["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place), package]]
    if name in AFTERWARDS:
        commands.append(["node", str(place / AFTERWARDS[name])])
    for command in commands:
        try:
            subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except subprocess.CalledProcessError as error:
            return str(error.stderr.decode(errors="replace").strip().splitlines()[-1:])
        except subprocess.TimeoutExpired:
            return "it took too long"
    (place / "done").touch()
    return None


@dataclass(frozen=True)
class Desk:
    """Where an agent works: a home that has nothing in it, and a folder for its task."""

    home: Path
    work: Path

    @classmethod
    def laid(cls, directory: Path) -> Desk:
        desk = cls(directory / "home", directory / "work")
        desk.home.mkdir(parents=True)
        desk.work.mkdir()
        return desk

    @property
    def file(self) -> Path:
        """What the task is to write."""
        return self.work / "hello.txt"

    async def run(self, program: Path, *arguments: str, **environment: str) -> str:
        """What the agent printed; it must end well and in time."""
        nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
        given = {"PATH": os.environ["PATH"], "HOME": str(self.home), "NO_PROXY": "127.0.0.1"} | nowhere | environment
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            cwd=self.work,
            env=given,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(RUN_SECONDS):
                out, noise = await process.communicate()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, 9)
                await process.wait()
        assert process.returncode == 0, f"{out.decode()}\n{noise.decode()[-4000:]}"
        return out.decode()


def has_result(body: Json) -> bool:
    """Whether the request bears what a tool gave, in whichever protocol."""
    for each in body.get("messages") or body.get("input") or ():
        content = each.get("content")
        if each.get("role") == "tool" or each.get("type") == "function_call_output":
            return True
        if isinstance(content, list) and any(block.get("type") == "tool_result" for block in content):
            return True
    return False


def write_input(path: Path) -> str:
    """The input of opencode's tool that writes a file."""
    return json.dumps({"filePath": str(path), "content": "Hello from the agent"})


if __name__ == "__main__":
    try:
        for each in AGENTS:
            print(installed(each))  # noqa: T201  # for whoever installs them ahead
    except pytest.skip.Exception as why:
        raise SystemExit(str(why)) from None
