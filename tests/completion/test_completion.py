"""`gateway completion`: the scripts, run by the shells that they are for."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from cli.cli_kit import command

from gateway.cli.completion.command_tree import commands_of
from gateway.cli.entry import command_parser

BASH = """
source ./script
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_gateway
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
compdef() {{ :; }}
_describe() {{ print -l -- ${{(P)2%%:*}}; }}
compadd() {{ shift; print -l -- "$@"; }}
_files() {{ print -l -- FILES; }}
source ./script
words=({words}) CURRENT=${{#words}}
_gateway
"""
FISH = """
source ./script
complete -C '{line}'
"""


async def offered(directory: Path, shell: str, line: str) -> list[str]:
    """What the shell offers at the end of a line."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"NO {shell.upper()} ON PATH: its script is not tried")
    written = directory / "script"
    if not written.exists():
        script = await command("completion", shell, cwd=directory)
        assert script.code == 0, script.err
        written.write_text(script.out)
    words = " ".join([f"'{word}'" for word in line.split(" ")])
    text = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell].format(words=words, line=line)
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    process = await asyncio.create_subprocess_exec(
        program, *options, "-c", text, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert err == b""
    return [line.split("\t")[0] for line in out.decode().splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_commands_options_and_values(tmp_path: Path, shell: str) -> None:
    """At each place what belongs there; where a file belongs, the shell's own names of files."""
    commands = await offered(tmp_path, shell, "gateway ")
    assert {"serve", "check", "keys", "store", "import", "completion"} <= set(commands)
    assert set(await offered(tmp_path, shell, "gateway keys ")) >= {"new", "list", "revoke"}
    assert set(await offered(tmp_path, shell, "gateway store copy -")) >= {"--merge", "--replace", "--config", "-c"}
    assert set(await offered(tmp_path, shell, "gateway serve --log-format ")) == {"auto", "console", "json"}
    assert set(await offered(tmp_path, shell, "gateway keys new --scope ")) >= {"ai:use", "act:as"}
    assert set(await offered(tmp_path, shell, "gateway completion ")) >= {"bash", "zsh", "fish"}
    assert "new" not in await offered(tmp_path, shell, "gateway keys new ")


async def test_in_bash_a_word_that_was_begun_is_ended(tmp_path: Path) -> None:
    assert await offered(tmp_path, "bash", "gateway expl") == ["explain"]
    assert await offered(tmp_path, "bash", "gateway store ex") == ["export"]
    assert await offered(tmp_path, "bash", "gateway usage --fr") == ["--from"]
    assert await offered(tmp_path, "bash", "gateway check -c ") == []  # bash then offers files
    assert await offered(tmp_path, "bash", "gateway import litellm ") == []
    assert await offered(tmp_path, "bash", "gateway store copy redis --to-prefix gw: --me") == ["--merge"]


async def test_a_real_bash_loads_it_by_eval(tmp_path: Path) -> None:
    """As the help says; `complete` then knows the command."""
    script = await command("completion", "bash", cwd=tmp_path)
    (tmp_path / "script").write_text(script.out)
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "-euo", "pipefail", "-c", 'eval "$(cat script)"; complete -p gateway'),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode().strip().endswith("-F _gateway gateway")


def test_every_command_there_is_is_in_it() -> None:
    """From the parser itself, so that a new command needs nothing more; each has an example in its help."""
    found = list(commands_of(command_parser(), "gateway"))
    paths = [each.path for each in found]
    assert {"gateway serve", "gateway keys new", "gateway store import", "gateway import litellm"} <= set(paths)
    assert len(paths) == len(set(paths))
    assert all(option.help for each in found for option in each.options)


async def test_an_unknown_shell_is_wrong_usage(tmp_path: Path) -> None:
    done = await command("completion", "csh", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "bash" in done.err
