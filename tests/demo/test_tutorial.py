"""The commands and files of the tutorial, and README's first ones, are run as they stand, in an empty folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from kit import DEADLINE_SECONDS, FakeUpstream, Wire, as_openai, ask, request_bytes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r'^```(\w+)(?: title="([\w./-]+)")?\n(.*?)^```$', re.M | re.S)
README = (ROOT / "README.md").read_text(encoding="utf-8")
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
FIRST = ("init", "check", "serve")
_PORTS = ("8080", "9090", "9999")
_ENDED = "-- the block has ended --"
# Installing from a registry, three servers, and some thirty commands, each a start of Python.
SECONDS = 540


class Step(NamedTuple):
    commands: str
    printed: str


def free_ports(count: int) -> list[str]:
    """Ports that nothing listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


def at_free_ports(page: str) -> str:
    for written, free in zip(_PORTS, free_ports(len(_PORTS)), strict=True):
        page = page.replace(written, free)
    return page


def steps(page: str, folder: Path) -> Iterator[Step]:
    """The page's commands with what they print; its files are written on the way."""
    commands: str | None = None
    for language, name, text in _BLOCK.findall(page):
        if language == "text":
            assert commands is not None, "what is printed follows its commands"
            yield Step(commands, text)
            commands = None
            continue
        if commands is not None:
            yield Step(commands, "")
        commands = text if language == "sh" else None
        if language != "sh":
            assert name, "a file has a name"
            (folder / name).write_text(text, encoding="utf-8")
    if commands is not None:
        yield Step(commands, "")


def is_as_told(printed: str, told: str) -> bool:
    """Line by line in this order; `…` stands for anything."""
    lines = [".*".join(map(re.escape, line.split("…"))) for line in told.splitlines() if line != "…"]
    return re.search("^" + r"$(?:.|\n)*?^".join(lines) + "$", printed, re.M) is not None


@pytest.mark.timeout(SECONDS)
def test_from_an_empty_folder_to_a_team_of_ten(tmp_path: Path) -> None:
    folder, home = tmp_path / "empty", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    (folder / "ecli-gateway").symlink_to(ROOT)
    told = list(steps(at_free_ports(PAGE), folder))
    assert len(told) >= 10
    script = ["set -eo pipefail", *(f"{each.commands}\necho; echo '{_ENDED}'" for each in told)]
    done = run("\n".join(script), folder, home, held_versions(tmp_path / "held.txt"))
    printed = done.split(_ENDED)
    for number, each in enumerate(told):
        assert number + 1 < len(printed), f"it ended in:\n{each.commands}\n{printed[-1]}\n{logs(folder)}"
        assert is_as_told(printed[number], each.printed), f"{each}\nbut printed\n{printed[number]}"
    lines = (folder / "keys" / "team.yaml").read_text().splitlines()
    assert [sum("hash:" in line for line in lines), sum("sk-" in line for line in lines)] == [11, 0]


async def test_readmes_first_commands_work_as_they_stand_there(tmp_path: Path) -> None:
    """But for `pip install .`, which is the tutorial's first step above; `serve` listens wherever there is room."""
    block = next(each for each in _CONSOLE.findall(README) if "gateway init" in each)
    commands = [line.removeprefix("$ ").split("#")[0].split() for line in block.splitlines()]
    assert [each[:2] for each in commands] == [["pip", "install"], *(["gateway", name] for name in FIRST)]
    upstream = await FakeUpstream.start(as_openai())
    run_there = partial(start_command, tmp_path)
    try:
        answers = f"{upstream.endpoint('inner').url}\ngpt-4o\nsk-of-the-provider-0123456789\n"
        for name, answer in zip(FIRST[:2], (answers, ""), strict=True):
            process = await run_there(name, stdin=asyncio.subprocess.PIPE)
            out, _ = await asyncio.wait_for(process.communicate(answer.encode()), DEADLINE_SECONDS)
            assert process.returncode == 0, out
            if name == "init":
                key = out.decode().split("key:  ")[1].split()[0]
        serving = await run_there(*FIRST[2:], "--log-format", "json", stdin=asyncio.subprocess.DEVNULL)
        try:
            port = await listening(serving)
            async with Wire.open(port) as wire:
                await wire.send(request_bytes("POST", "/v1/chat/completions", ask("gpt-4o"), key=key))
                assert (await wire.reply()).status == 200
        finally:
            serving.terminate()
            await serving.communicate()
    finally:
        await upstream.close()


async def start_command(folder: Path, *arguments: str, stdin: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GATEWAY__SERVER__PORT": "0"},
    )


async def listening(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (line := json.loads(await process.stdout.readline()))["event"] != "listening":
            pass
    return int(line["port"])


def held_versions(file: Path) -> Path:
    """What the lock says, without hashes, so that pip takes it as a bound."""
    lines = (ROOT / "requirements" / "run.txt").read_text().splitlines()
    file.write_text("\n".join(line.rstrip(" \\") for line in lines if re.match(r"[\w.-]+==", line)))
    return file


def run(script: str, folder: Path, home: Path, held: Path) -> str:
    """Both outputs of a bash of its own, whose servers end with it."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_")) or name == "PATH"}
    environment = kept | {"HOME": str(home), "PIP_CONSTRAINT": str(held), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    output = folder.parent / "output"
    with output.open("wb") as written:
        bash = subprocess.Popen(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        try:
            bash.wait(SECONDS - 40)
        finally:
            if bash.poll() is None or _lives(bash.pid):
                os.killpg(bash.pid, signal.SIGKILL)
            bash.wait()
    return output.read_text(errors="replace")


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def logs(folder: Path) -> str:
    return "\n".join(f"{each.name}:\n{each.read_text(errors='replace')[-2000:]}" for each in folder.glob("*.log"))
