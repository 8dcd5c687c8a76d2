"""How a configuration begins: `init` by answers and by flags, `example`, and what is said where there is none."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cli_kit import ROOT, command
from kit import DEADLINE_SECONDS, FakeUpstream, Wire, as_openai, ask, request_bytes

SECRET = "sk-upstream-typed-0123456789"


def init(cwd: Path, answers: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "init", *flags],
        check=False,
        input=answers,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )


def key_in(output: str) -> str:
    return output.split("key:  ")[1].split()[0]


async def test_three_answers_make_a_file_that_serves(tmp_path: Path) -> None:
    upstream = await FakeUpstream.start(as_openai())
    try:
        inner = upstream.endpoint("inner")
        done = await asyncio.to_thread(init, tmp_path, f"{inner.url}\n\nmy ${{model}}\n{SECRET}\n")
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr + (tmp_path / "gateway.yaml").read_text()
        assert {each.name: each.stat().st_mode & 0o777 for each in os.scandir(tmp_path)} == {
            "gateway.yaml": 0o600,
            "upstream.key": 0o600,
        }
        assert (await command("check", cwd=tmp_path)).code == 0
        assert key_in(done.stdout) not in (tmp_path / "gateway.yaml").read_text()
        await _serves(tmp_path, key_in(done.stdout), "my ${model}")
        assert inner.requests[0].header("authorization") == f"Bearer {SECRET}"
    finally:
        await upstream.close()


async def _serves(directory: Path, key: str, model: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--log-format", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GATEWAY__SERVER__PORT": "0"},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (line := json.loads(await process.stdout.readline()))["event"] != "listening":
                pass
            async with Wire.open(line["port"]) as wire:
                await wire.send(request_bytes("POST", "/v1/chat/completions", ask(model), key=key))
                assert (await wire.reply()).status == 200
    finally:
        process.terminate()
        await process.communicate()


def test_flags_take_the_place_of_questions(tmp_path: Path) -> None:
    """Into a file of another name; a credential from the environment stays there."""
    flags = ("--url", "https://up.test/v1", "--model", "gpt", "--key-variable", "PATH", "-c", "other.yaml")
    done = init(tmp_path, "", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'api_key: "${PATH}"' in (tmp_path / "other.yaml").read_text()
    assert "gateway serve -c other.yaml" in done.stdout
    again = init(tmp_path, "", *flags)
    assert (again.returncode, again.stdout) == (1, "")
    assert "other.yaml is there already" in again.stderr


@pytest.mark.parametrize(
    ("answers", "flags", "reason"),
    [
        ("https://up.test\n", (), "the answers have ended; nothing was written"),
        ("ftp://up.test\nm\nkey\n", (), "models[0].endpoints[0].url: "),
        ("", ("--url", "https://up.test", "--model", "m", "--key-variable", "NOT_SET"), "NOT_SET is not set"),
    ],
)
def test_what_would_not_pass_check_is_not_written(
    tmp_path: Path, answers: str, flags: tuple[str, ...], reason: str
) -> None:
    done = init(tmp_path, answers, *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_the_example_is_printed_as_it_is_and_comes_with_the_wheel(tmp_path: Path) -> None:
    done = await command("example", cwd=tmp_path)
    assert (done.code, done.out) == (0, (ROOT / "gateway.yaml.example").read_text())
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    await asyncio.to_thread(subprocess.run, build, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = os.listdir(tmp_path)
    with zipfile.ZipFile(tmp_path / wheel) as opened:
        assert opened.read("gateway/gateway.yaml.example").decode() == done.out


async def test_without_a_file_commands_say_what_to_run(tmp_path: Path) -> None:
    for name in ("serve", "check"):
        done = await command(name, cwd=tmp_path)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("gateway.yaml:1: cannot be read: there is no such file. `gateway init` writes one")


async def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    """By every command: the system's words alone do not say which of the files it was."""
    nowhere = tmp_path / "nowhere" / "gateway.yaml"
    flags = ("--url", "http://127.0.0.1:9/v1", "--model", "m", "--no-key")
    made = await command("init", "-c", str(nowhere), *flags, cwd=tmp_path)
    assert (made.code, made.out) == (1, "")
    assert made.err.startswith(f"gateway: {nowhere.parent}")
    assert made.err.endswith(": No such file or directory\n")
    imported = await command("store", "import", "gone.jsonl", "--to", "data", cwd=tmp_path)
    assert imported.err == "gateway: gone.jsonl: No such file or directory\n"
