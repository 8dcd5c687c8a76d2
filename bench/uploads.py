"""One large upload: its memory, its time, and whether its bytes arrive.

A command of its own: `python -m bench.uploads --mb 1024`.

A client streams a form to a gateway of its own, which spools it and asks an upstream that hashes what it gets.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

MB = 2**20
GOAL_MB = 20
KEY = "sk-uploads-0123456789abcdefghij"
BOUNDARY = "uploads"
_PARTS = (
    f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="model"\r\n\r\nlistener\r\n'
    f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
).encode()
_END = f"\r\n--{BOUNDARY}--\r\n".encode()
_ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{"text":"ok"}'


class Outcome(NamedTuple):
    """What an upload came to."""

    status: int
    seconds: float
    grown_mb: float  # the gateway's memory, at its highest, over what it was before
    is_equal: bool  # the upstream got the client's bytes


class HashingUpstream:
    """Answers a form once it is whole; `digests` of the files that it got."""

    def __init__(self, size: int) -> None:
        self.digests: list[str] = []
        self._size = size

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
            left = int(length[1]) if length is not None else 0
            while b"filename=" not in (part := await reader.readuntil(b"\r\n\r\n")):
                left -= len(part)
            left -= len(part)
            digest, of_file = hashlib.sha256(), self._size
            while left and (data := await reader.read(min(left, MB))):
                digest.update(data[:of_file])
                of_file -= min(of_file, len(data))
                left -= len(data)
            self.digests.append(digest.hexdigest())
            writer.write(_ANSWER)
            await writer.drain()
        finally:
            writer.close()


async def upload(size_mb: int, directory: Path) -> Outcome:
    """Upload a file of this size through a gateway that is started for it."""
    upstream = HashingUpstream(size_mb * MB)
    server = await asyncio.start_server(upstream, "127.0.0.1", 0, limit=MB)
    process = _started(directory, server.sockets[0].getsockname()[1], size_mb)
    try:
        port = await asyncio.to_thread(_port_of, process)
        await _send(port, 2)  # what is needed for any is there
        upstream.digests.clear()
        before = _memory_mb(process.pid, "VmRSS")
        _forget_highest(process.pid)
        began = time.perf_counter()
        status, digest = await _send(port, size_mb)
        seconds = time.perf_counter() - began
        grown = _memory_mb(process.pid, "VmHWM") - before
        return Outcome(status, seconds, grown, upstream.digests == [digest])
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()
        server.close()


def _started(directory: Path, upstream_port: int, size_mb: int) -> subprocess.Popen[str]:
    listener = {"id": "a", "url": f"http://127.0.0.1:{upstream_port}/v1"}
    settings = {
        "server": {"port": 0, "max_upload_mb": size_mb + 1, "spool_mb": 2 * size_mb + 8},
        "models": [{"id": 1, "name": "listener", "global": True, "endpoints": [listener]}],
        "keys": [{"id": "a", "user": "a", "key": KEY}],
    }
    file = directory / "gateway.yaml"
    file.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(file), "--log-format", "json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if found is not None:
            return int(found[1])
    raise RuntimeError("the gateway did not start")


async def _send(port: int, size_mb: int) -> tuple[int, str]:
    """Stream one upload; the status of its answer, and its file's hash."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = len(_PARTS) + size_mb * MB + len(_END)
    writer.write(
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
        f"connection: close\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"content-length: {length}\r\n\r\n".encode()
    )
    writer.write(_PARTS)
    digest, chance = hashlib.sha256(), random.Random(size_mb)
    block = chance.randbytes(MB)
    for number in range(size_mb):
        piece = number.to_bytes(8, "big") + block[8:]
        digest.update(piece)
        writer.write(piece)
        await writer.drain()
    writer.write(_END)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), digest.hexdigest()


def _forget_highest(pid: int) -> None:
    """The highest memory is counted anew from here on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory_mb(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{field}:"))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mb", type=int, default=1024, help="size of the file (default: %(default)s)")
    size_mb = options.parse_args().mb
    with tempfile.TemporaryDirectory() as directory:
        outcome = asyncio.run(upload(size_mb, Path(directory)))
    is_met = outcome.status == 200 and outcome.is_equal and outcome.grown_mb < GOAL_MB
    print(
        f"{size_mb} MB: status {outcome.status}, {outcome.seconds:.1f} s, {outcome.grown_mb:.1f} MB more memory, "
        f"bytes {'equal' if outcome.is_equal else 'DIFFER'}: {'met' if is_met else 'NOT MET'}"
    )
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
