"""gateway top against a running gateway: once, as JSON, and live in a real terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from fcntl import ioctl
from pathlib import Path

import pytest
from kit import DEADLINE_SECONDS, KEYS, FakeUpstream, Stage, config, raw
from kit.answers import full, upstream_error
from kit.books import until
from kit.stage import Record, endpoint, model

ADMIN_KEY = "sk-admin-0123456789abcdefghijkl"
PROGRAM = (sys.executable, "-m", "gateway", "top")


def models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("narrow", [endpoint(upstream, "narrow.a", max_in_flight=1)], limits={"tokens": 1000, "period": "day"})
    yield model("tired", [endpoint(upstream, "tired.a")])


@asynccontextmanager
async def busy_stage(directory: Path) -> AsyncIterator[Stage]:
    """A gateway on which one request runs, one waits, and an endpoint cools."""
    admin = {"id": "admin", "user": "root", "key": ADMIN_KEY, "scopes": ["ai:use", "ai:manage", "usage:read"]}
    keys = [*config([])["keys"], admin]
    async with Stage.open(directory, models, queue={"max": 4}, keys=keys) as stage:
        await stage.post({"model": "narrow", "messages": [{"role": "user", "content": "Hi"}]})
        stage.upstream.endpoint("tired.a").replies(upstream_error(429, retry_after="500"))
        await stage.post({"model": "tired", "messages": [{"role": "user", "content": "Hi"}]})
        release = asyncio.Event()
        stage.upstream.endpoint("narrow.a").always(raw(release, full(200, b"{}")))
        body = {"model": "narrow", "messages": [{"role": "user", "content": "Hi"}]}
        running = [asyncio.create_task(stage.post(body)) for _ in range(2)]

        async def one_waits() -> bool:
            ready = (await stage.get("/readyz", key=KEYS["reader"])).json()
            return bool(ready["detail"]["queue"]["waiting"] == 1)

        await until(one_waits)
        yield stage
        release.set()
        await asyncio.gather(*running)


async def top(stage: Stage | None, *arguments: str, key: str | None = ADMIN_KEY, **more: str) -> tuple[int, str, str]:
    """Exit code and both outputs."""
    named = {"GATEWAY_URL": stage.url} if stage is not None else {}
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environ |= named | ({} if key is None else {"GATEWAY_KEY": key}) | more
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *arguments, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_once_prints_one_picture(tmp_path: Path) -> None:
    async with busy_stage(tmp_path) as stage:
        code, out, err = await top(stage, "--once", COLUMNS="140")
        assert (code, err) == (0, "")
        assert "\x1b" not in out
        assert "2 running, 1 of them waiting for an endpoint" in out
        rows = {tuple(line.split()[:2]): line for line in out.splitlines() if line}
        assert "cooling 4" in rows["tired", "tired.a"]
        assert "full" in rows["narrow", "narrow.a"]
        assert "tokens (day)" in out
        code, out, err = await top(stage, "--json")
        shown = json.loads(out)
        assert (code, err, shown["status"]) == (0, "", "ok")
        assert sorted(each["queued"] for each in shown["running"]) == [False, True]
        assert {each["endpointId"]: each["state"] for each in shown["endpoints"]} == {
            "narrow.a": "full",
            "tired.a": "cooling",
        }
        assert [each["user"] for each in shown["busiest"]] == [42]
        assert ADMIN_KEY not in out


async def test_what_the_key_may_not_see_is_said(tmp_path: Path) -> None:
    async with busy_stage(tmp_path) as stage:
        code, out, _ = await top(stage, "--once", key=KEYS["panel"])
        assert code == 0
        assert "pool: the key needs the scope ai:manage" in out
        assert "2 running" in out
        code, out, err = await top(stage, "--once", key="sk-wrong-0123456789abcdefghijkl")
        assert (code, out) == (1, "")
        assert "does not accept the key" in err


async def test_what_cannot_be_asked_is_said_in_a_line(tmp_path: Path) -> None:
    for arguments, key, expected, words in (
        (("--once", "--url", "http://127.0.0.1:1"), ADMIN_KEY, 1, "cannot be reached"),
        (("--once", "--url", "nonsense"), ADMIN_KEY, 2, "--url must be"),
        (("--once", "--url", "http://127.0.0.1:1"), None, 2, "GATEWAY_KEY"),
        (("--url", "http://127.0.0.1:1"), ADMIN_KEY, 2, "--once"),
        (("--once", "-c", str(tmp_path / "none.yaml")), ADMIN_KEY, 1, "there is no such file"),
    ):
        code, out, err = await top(None, *arguments, key=key)
        assert (code, out) == (expected, ""), arguments
        assert words in err
        assert "Traceback" not in err


class Terminal:
    """A pseudo-terminal with the program in it."""

    def __init__(self, process: asyncio.subprocess.Process, master: int, slave: int) -> None:
        self.process = process
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.seen = b""
        self._master = master
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    @classmethod
    @asynccontextmanager
    async def running(cls, stage: Stage) -> AsyncIterator[Terminal]:
        master, slave = pty.openpty()
        resize(slave, 100, 30)
        before = termios.tcgetattr(slave)
        environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environ |= {"GATEWAY_URL": stage.url, "GATEWAY_KEY": ADMIN_KEY, "TERM": "xterm"}
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, stdin=slave, stdout=slave, stderr=slave, env=environ, process_group=0
        )
        terminal = cls(process, master, slave)
        terminal.before = before
        try:
            yield terminal
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            asyncio.get_running_loop().remove_reader(master)
            os.close(master)
            os.close(slave)

    def _read(self) -> None:
        self.seen += os.read(self._master, 1 << 16)
        self._more.set()

    async def shows(self, text: str) -> None:
        """Wait until this has been drawn since the last time."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while text.encode() not in self.seen:
                self._more.clear()
                await self._more.wait()

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    async def ends(self) -> int:
        async with asyncio.timeout(DEADLINE_SECONDS):
            code = await self.process.wait()
            await self.shows("\x1b[?1049l")
        return code

    def assert_as_before(self) -> None:
        """The modes of the terminal, its cursor and its own screen."""
        assert termios.tcgetattr(self.slave) == self.before
        assert self.seen.rindex(b"\x1b[?25h") > self.seen.rindex(b"\x1b[?25l")
        assert self.seen.rindex(b"\x1b[?1049l") > self.seen.rindex(b"\x1b[?1049h")
        assert b"Traceback" not in self.seen


def resize(terminal: int, columns: int, lines: int) -> None:
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@pytest.mark.parametrize("ending", ["q", "interrupt", "terminate"])
async def test_the_live_view_leaves_the_terminal_as_it_was(tmp_path: Path, ending: str) -> None:
    async with busy_stage(tmp_path) as stage, Terminal.running(stage) as terminal:
        await terminal.shows("2 running, 1 of them waiting for an endpoint")
        await terminal.shows("cooling 4")
        await terminal.shows("q: quit")
        if ending == "q":
            terminal.press(b"q")
        else:
            terminal.process.send_signal(signal.SIGINT if ending == "interrupt" else signal.SIGTERM)
        assert await terminal.ends() == 0
        terminal.assert_as_before()


async def test_a_resize_draws_anew(tmp_path: Path) -> None:
    async with busy_stage(tmp_path) as stage, Terminal.running(stage) as terminal:
        await terminal.shows("q: quit")
        await terminal.shows("narrow.a")
        terminal.seen = b""
        resize(terminal.slave, 60, 12)
        terminal.process.send_signal(signal.SIGWINCH)
        await terminal.shows("q: quit")
        frames = terminal.seen.split(b"\x1b[H")
        assert max(frame.count(b"\r\n") for frame in frames[1:]) < 12
        terminal.press(b"q")
        assert await terminal.ends() == 0


async def test_a_gateway_that_goes_away_is_said_and_looked_for(tmp_path: Path) -> None:
    async with busy_stage(tmp_path) as stage, Terminal.running(stage) as terminal:
        await terminal.shows("2 running")
        os.kill(stage.gateway.process.pid, signal.SIGSTOP)
        try:
            terminal.seen = b""
            await terminal.shows("does not answer")
        finally:
            os.kill(stage.gateway.process.pid, signal.SIGCONT)
        terminal.seen = b""
        await terminal.shows("\x1b[32mok")
        terminal.press(b"q")
        assert await terminal.ends() == 0
