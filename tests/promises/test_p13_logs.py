"""P13, for the log: whoever reads it may go, stop or have no space, and requests are answered all the same."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from kit import KEYS, Wire, config, request_bytes
from kit.stage import ask, endpoint, model
from kit.wire import DEADLINE_SECONDS, Reply
from promise_kit import upstream_with

FULL = Path("/dev/full")
# A pipe holds about 190 lines; the buffer behind it holds many more, see `test_log_stream`.
MORE_THAN_A_PIPE_HOLDS = 400


class Quiet:
    """A gateway whose standard error is somebody else's: it says on stdout nothing, and is asked on its port."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    async def ask(self, *requests: bytes) -> list[Reply]:
        """On one connection."""
        async with Wire.open(self.port) as wire:
            replies = []
            for request in requests:
                await wire.send(request)
                replies.append(await wire.reply())
            return replies

    async def answers(self) -> None:
        """A chat and the health of the process."""
        chat = request_bytes("POST", "/v1/chat/completions", ask("m"), key=KEYS["user"])
        replies = await self.ask(chat, request_bytes("GET", "/healthz"))
        assert [reply.status for reply in replies] == [200, 200]

    async def lost_lines(self) -> int:
        (reply,) = await self.ask(request_bytes("GET", "/metrics"))
        (found,) = re.findall(rb"^gateway_log_lines_lost_total (\d+)", reply.body, re.MULTILINE)
        return int(found)

    async def loses(self, lines: int) -> None:
        """Waits until so many are lost at least."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.lost_lines() < lines:  # noqa: ASYNC110  # another process counts them
                await asyncio.sleep(0.01)

    async def ends(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, DEADLINE_SECONDS)


@asynccontextmanager
async def quiet(directory: Path, stderr: int | None, *, shell: Sequence[str] = ()) -> AsyncIterator[Quiet]:
    async with upstream_with() as upstream:
        settings = config([model("m", [endpoint(upstream, "a")])], server={"metrics_public": True})
        file = directory / "gateway.yaml"
        file.write_text(json.dumps(settings))
        listening, port = _listener()
        command = [sys.executable, "-c", _SERVE, str(listening), str(file)]
        process = subprocess.Popen(  # noqa: ASYNC220  # asyncio's would read its output
            [*shell, *command], stderr=stderr, stdin=subprocess.DEVNULL, pass_fds=(listening,)
        )
        os.close(listening)
        try:
            yield Quiet(process, port)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


# The port is known before the gateway runs: nothing can be read from its log.
_SERVE = """
import socket, sys
from gateway.cli import main, serve_command
listening = socket.socket(fileno=int(sys.argv[1]))
serve_command.listening_socket = lambda host, port: listening
sys.exit(main(["serve", "-c", sys.argv[2]]))
"""


def _listener() -> tuple[int, int]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    listening.setblocking(False)
    port = listening.getsockname()[1]
    return listening.detach(), port


async def test_requests_go_on_when_the_logs_reader_is_gone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    async with quiet(tmp_path, writing) as gateway:
        os.close(writing)
        await gateway.answers()
        os.close(reading)
        for _ in range(3):
            await gateway.answers()
        await gateway.loses(6)


async def test_requests_go_on_when_nobody_reads_the_log(tmp_path: Path) -> None:
    """And every line is there when somebody does, as far as the buffer held it."""
    reading, writing = os.pipe()
    async with quiet(tmp_path, writing) as gateway:
        os.close(writing)
        health = request_bytes("GET", "/healthz?" + "x" * 900)
        replies = await gateway.ask(*[health] * MORE_THAN_A_PIPE_HOLDS)
        assert {reply.status for reply in replies} == {200}
        await gateway.answers()
        assert await gateway.lost_lines() == 0
        log = asyncio.create_task(asyncio.to_thread(_read_all, reading))
        code = await gateway.ends()
        lines = [json.loads(line) for line in (await log).splitlines()]
        assert code == 0
        assert sum(line.get("path") == "/healthz" for line in lines) == MORE_THAN_A_PIPE_HOLDS + 1
        assert lines[-1]["event"] == "stopped"


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


async def test_a_gateway_whose_log_is_not_read_stops_when_it_is_told_to(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    async with quiet(tmp_path, writing) as gateway:
        os.close(writing)
        health = request_bytes("GET", "/healthz?" + "x" * 900)
        await gateway.ask(*[health] * MORE_THAN_A_PIPE_HOLDS)
        assert await gateway.ends() == 0
    os.close(reading)


async def test_requests_go_on_when_there_is_no_space_for_the_log(tmp_path: Path) -> None:
    with FULL.open("wb") as full:  # noqa: ASYNC230  # a device: it opens at once
        async with quiet(tmp_path, full.fileno()) as gateway:
            for _ in range(3):
                await gateway.answers()
            await gateway.loses(6)
            assert await gateway.ends() == 0


async def test_a_log_file_that_reached_its_bound_is_told_of_later(tmp_path: Path) -> None:
    log = tmp_path / "log"
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with log.open("ab") as file:
        async with quiet(tmp_path, file.fileno()) as gateway:
            await gateway.answers()
            written = await _until_written(log, b'"path":"/healthz"')
            # The ledger's files are small still: the log alone is at the bound.
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (max(written, 1 << 20), most))
            with log.open("ab") as other:
                other.truncate(1 << 20)
            for _ in range(3):
                await gateway.answers()
            await gateway.loses(6)
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (most, most))
            await gateway.answers()
            await _until_written(log, b"log lines lost")
    told = [json.loads(line) for line in log.read_bytes().splitlines() if b"log lines lost" in line]
    assert sum(line["lines"] for line in told) >= 6


async def _until_written(log: Path, words: bytes) -> int:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while words not in _content(log):  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.01)
    return len(_content(log))


def _content(log: Path) -> bytes:
    return log.read_bytes()


async def test_a_gateway_without_standard_files_serves_and_writes_into_no_file_of_its_own(tmp_path: Path) -> None:
    """A closed descriptor's number goes to the next file that is opened: the ledger's database would be the log."""
    shell = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    async with quiet(tmp_path, None, shell=shell) as gateway:
        await gateway.answers()
        await gateway.loses(2)
        assert await gateway.ends() == 0
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or b'"event":"request"' not in file.read_bytes()
