"""What one open stream holds in the gateway, by the line that made it.

A command of its own: `python -m bench.held [STREAMS]`. Upstream and clients are another process; each stream has had
one event and waits for the next. Memory of Python by tracemalloc, without buffers of the kernel's and of uvloop's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path

import uvloop

from bench.processes import most_connections
from bench.stalls import gateway, request

STREAMS = 500
_SHOWN = 40
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'


def _clients_and_upstream(line: socket.socket) -> None:
    """Serve, then open as many streams as asked for, each until its first event."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(_HEAD + b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT))
        await reader.read()
        writer.close()

    async def begin(port: int) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(request(b'{"model":"m","stream":true}')).replace(b"connection: close\r\n", b""))
        await reader.readuntil(_EVENT)
        return writer

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        line.send(b"%d\n" % server.sockets[0].getsockname()[1])
        writers = []
        while told := await asyncio.to_thread(line.recv, 100):
            port, count = map(int, told.split())
            writers += [await begin(port) for _ in range(count)]
            line.send(b"open\n")

    asyncio.run(run())


async def measure(line: socket.socket, folder: Path, count: int) -> None:
    async with gateway(folder, int(line.recv(100))) as port:

        async def streams(number: int) -> None:
            line.send(b"%d %d" % (port, number))
            await asyncio.to_thread(line.recv, 100)
            await asyncio.sleep(0.2)
            gc.collect()

        await streams(20)  # what is made when first used
        tracemalloc.start(1)
        resident, objects = _resident_kb(), _objects()
        before = tracemalloc.take_snapshot()
        await streams(count)
        after = tracemalloc.take_snapshot()
        resident, more = _resident_kb() - resident, _objects() - objects
        tracemalloc.stop()
        differences = after.compare_to(before, "lineno")
        total = sum(each.size_diff for each in differences)
        print(
            f"{count} streams: {total / count:.0f} bytes of Python's each, {resident / count:.1f} KB resident (traced)"
        )
        for each in differences[:_SHOWN]:
            frame = each.traceback[0]
            print(f"  {each.size_diff / count:7.0f} in {each.count_diff / count:5.1f}  {frame.filename}:{frame.lineno}")
        print("objects that the collector knows, of each:")
        for name, number in more.most_common(_SHOWN):
            if number >= count // 2:
                print(f"  {number / count:7.1f}  {name}")


def _objects() -> Counter[str]:
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())


def _resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS
    most_connections()
    here, there = socket.socketpair()
    child = os.fork()
    if not child:
        here.close()
        _clients_and_upstream(there)
        os._exit(0)
    there.close()
    try:
        with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(here, Path(directory), count))
    finally:
        here.close()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
