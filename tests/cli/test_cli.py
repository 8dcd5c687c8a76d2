"""The commands, as a shell runs them: what they print, where, and their exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from cli.cli_kit import Done, command

from gateway.access.authenticate import key_sha256
from gateway.cli import main
from gateway.config import parse_settings

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 30


def gateway(*arguments: str, cwd: Path = ROOT, **environment: str) -> Done:
    return asyncio.run(command(*arguments, cwd=cwd, **environment))


def test_check_takes_the_example_and_counts_what_is_in_it() -> None:
    done = gateway("check", "-c", "gateway.yaml.example", OPENAI_API_KEY="sk-x", PANEL_KEY="panel-key-of-24-characters")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("gateway.yaml.example is valid: 2 models")


def test_check_tells_every_problem_with_its_line_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("server:\n  prot: 1\nmodels:\n  - {id: 1, name: a, endpoints: []}\n")
    done = gateway("check", cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    first, second, summary = done.err.splitlines()
    assert first.startswith("gateway.yaml:2: server.prot: ")
    assert "port" in first
    assert second.startswith("gateway.yaml:4: models[0]")
    assert summary.startswith("2 problems")


def test_serve_without_a_file_says_which_one_is_missing(tmp_path: Path) -> None:
    done = gateway("serve", cwd=tmp_path)
    assert done.code == 1
    assert done.err.startswith("gateway.yaml:1: cannot be read")


def test_serve_on_a_taken_port_says_so_and_where_to_change_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "gateway.yaml").write_text(f"server: {{port: {port}}}\n")
        done = gateway("serve", cwd=tmp_path)
    assert done.code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.err
    assert "server.port" in done.err


@pytest.mark.parametrize("command", ["check", "serve", "usage"])
@pytest.mark.parametrize(
    ("scheme", "module", "extra"),
    [
        ("postgresql", "psycopg", "postgres"),
        ("postgresql+psycopg", "psycopg", "postgres"),
        ("mysql", "pymysql", "mysql"),
        ("mariadb", "pymysql", "mysql"),
    ],
)
def test_a_missing_driver_is_one_line_with_what_to_install(
    command: str, scheme: str, module: str, extra: str, tmp_path: Path
) -> None:
    """It is told before anything is bound or read, and alike by each command that would need it."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / f"{module}.py").write_text("raise ImportError('not here')")
    (tmp_path / "gateway.yaml").write_text(f"server: {{port: 0}}\nusage: {{url: '{scheme}://gw:word@host/usage'}}\n")
    done = gateway(command, cwd=tmp_path, PYTHONPATH=f"{tmp_path / 'hidden'}{os.pathsep}{ROOT}")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert f"needs the package {module}: pip install 'ecli-gateway[{extra}]'" in done.err


def test_a_journal_that_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("server: {port: 0}\nusage: {journal: /dev/null/journal}\n")
    done = gateway("serve", cwd=tmp_path)
    assert done.code == 1
    assert [line for line in done.err.splitlines() if line.startswith("gateway: no journal can be kept in /dev/null")]
    assert "Traceback" not in done.err


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("serve", "--nonsense"), ("keys", "new"), ("explain",)])
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = gateway(*arguments)
    assert done.code == 2
    assert "usage: gateway" in done.err


@pytest.mark.parametrize(
    "command",
    ["", "serve", "check", "schema", "demo", "explain", "keys", "keys new", "keys list", "keys revoke", "usage"],
)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert f"example:\n  gateway {command}" in capsys.readouterr().out


def test_schema_prints_the_file_in_config() -> None:
    done = gateway("schema")
    assert done.code == 0
    assert done.out == (ROOT / "config" / "gateway.schema.json").read_text()
    assert orjson.loads(done.out)["additionalProperties"] is False


def test_a_new_key_fits_the_line_that_is_printed_with_it() -> None:
    done = gateway(
        "keys", "new", "--user", "42", "--scope", "ai:use", "--scope", "usage:read", "--expires", "2027-01-01"
    )
    assert done.code == 0
    key = re.search(r"key:\s+(\S+)", done.out)
    line = re.search(r"^ *- \{.*\}$", done.out, re.MULTILINE)
    assert key is not None
    assert line is not None
    (record,) = parse_settings(f"keys:\n{line[0]}\n", "t.yaml", {}, Path()).keys
    assert record.sha256 == key_sha256(key[1])
    assert (record.user, record.scopes) == (42, {"ai:use", "usage:read"})
    assert record.expires is not None
    assert record.expires.isoformat() == "2027-01-01T00:00:00+00:00"
    assert key[1] not in line[0]


def test_a_key_that_expires_on_no_date_is_wrong_usage() -> None:
    done = gateway("keys", "new", "--user", "42", "--expires", "soon")
    assert done.code == 2
    assert "'soon' is no ISO date" in done.err


@contextmanager
def running_demo() -> Iterator[str]:
    """A demo on a free port; gives what it printed, up to the end of the snippets."""
    command = [sys.executable, "-m", "gateway", "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as demo:
        try:
            assert demo.stdout is not None
            printed = ""
            for line in demo.stdout:
                printed += line
                if line == "print()\n":
                    break
            yield printed
        finally:
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(DEADLINE_SECONDS) == 0


def test_the_demo_signs_in_with_one_click() -> None:
    """The link that it prints opens every page, as often as one likes."""
    with running_demo() as printed:
        lines = printed.splitlines()
        link = lines[lines.index("One click signs you in, as long as this demo runs, from this machine:") + 2]
        for _ in range(2):
            page, ticket = landing(link).split("?ticket=")
            assert page.endswith("/dashboard/session")
            body = json.dumps({"ticket": ticket}).encode()
            headers = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
            request = urllib.request.Request(page, body, headers)
            with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
                signed_in = json.load(answer)
            assert (signed_in["user"], signed_in["scopes"]) == ("demo", ["ai:use", "ai:manage", "usage:read"])
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(link + "x", timeout=DEADLINE_SECONDS)


def landing(link: str) -> str:
    """Where a browser comes to."""
    with urllib.request.urlopen(link, timeout=DEADLINE_SECONDS) as page:
        assert page.status == 200
        return str(page.url)


def test_the_demos_own_snippets_stream_an_answer() -> None:
    """What a newcomer does first: paste what is printed."""
    with running_demo() as printed:
        program = printed[printed.index("from openai import OpenAI") :]
        script_codec = subprocess.run(
            [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )
        curl = printed[printed.index("curl -N") : printed.index("Or in Python")]
        streamed = subprocess.run(
            ["sh", "-c", curl], check=False, capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )
    assert "demo upstream of ecli-gateway" in script_codec.stdout, script_codec.stderr
    assert streamed.stdout.endswith("data: [DONE]\n\n"), streamed.stderr
