"""What one hostile client costs all others: the longest single step for each MiB of what it sends, in CPU time.

A command of its own: `python -m bench.stalls`, or with words of some kinds; with `--json` a list of `Stall`.

A gateway in this process, on asyncio's own loop, each of whose callbacks is timed by the thread's CPU: what others on
the machine take plays no part. In its other threads each call into C is timed, which may hold the interpreter's lock
from beginning to end. Client and upstream have a thread of their own, which is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple

import msgspec

from gateway.app import make_server, running
from gateway.config import parse_settings
from gateway.observability.logging import make_logger
from gateway.process.serve import settle_the_collector

MIB = 1 << 20
GOAL_MS_PER_MIB = 20.0
GOAL_AT_ONCE_MS = 50.0
LEAST_MIB = GOAL_AT_ONCE_MS / GOAL_MS_PER_MIB  # what is smaller counts as so much
KEY = "sk-stalls-0123456789abcdefghijk"
SECONDS = 120.0
_OTHER = "in a thread"
_JSON = b"application/json"
_ANSWER = b'{"id":"a","choices":[{"message":{"role":"assistant","content":"x"}}]}'
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nconnection: close\r\n%b\r\n"
_STREAM = _HEAD % (b"text/event-stream", b"")


class Kind(NamedTuple):
    """`sends`: pieces of the client's request; `answers`: of the upstream's answer."""

    sends: Callable[[], Sequence[bytes]]
    answers: Callable[[], Sequence[bytes]] = lambda: [_HEAD % (_JSON, b""), _ANSWER]
    measured: str = "sends"


def request(
    body: bytes, path: bytes = b"/v1/chat/completions", fields: bytes = b"", kind: bytes = _JSON
) -> list[bytes]:
    head = b"POST %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer %b\r\n" % (path, KEY.encode())
    return [b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (head, kind, len(body), fields), body]


def _chat(more: bytes) -> Callable[[], list[bytes]]:
    return lambda: request(b'{"model":"m",%b}' % more)


def _said(content: bytes) -> Callable[[], list[bytes]]:
    return _chat(b'"messages":[{"role":"user","content":"%b"}]' % content)


def _streamed(block: bytes, mebibytes: int = 8) -> Kind:
    return _upstreams(lambda: [_STREAM, *[block] * (mebibytes * MIB // len(block))], b'"stream":true')


def _upstreams(answers: Callable[[], Sequence[bytes]], more: bytes = b'"n":1') -> Kind:
    return Kind(_chat(more), answers, "answers")


def _form() -> list[bytes]:
    parts = b"".join(b'--x\r\ncontent-disposition: form-data; name="f%d"\r\n\r\nv\r\n' % at for at in range(60_000))
    body = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n' + parts + b"--x--\r\n"
    return request(body, b"/v1/audio/transcriptions", kind=b"multipart/form-data; boundary=x")


def _upload() -> list[bytes]:
    start = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
    start += b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = start + b"\r\n--y\r\n-" * (2 * MIB) + b"\r\n--x--\r\n"
    return request(body, b"/v1/audio/transcriptions", kind=b"multipart/form-data; boundary=x")


def _bomb() -> Sequence[bytes]:
    packed = gzip.compress(b'data: {"choices":[]}\n\n' + b"a\n\n" * (12 * MIB), 9)
    return [_HEAD % (b"text/event-stream", b"content-encoding: gzip\r\n"), packed]


_TEXT = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n'
KINDS: dict[str, Kind] = {
    "JSON nested deeply": Kind(_chat(b'"a":%b' % (b"[" * (4 * MIB) + b"]" * (4 * MIB)))),
    "many objects": Kind(_chat(b'"messages":[%b1]' % (b'{"a":1},' * 330_000))),
    "many keys": Kind(_chat(b",".join(b'"%x":1' % at for at in range(400_000)))),
    "many numbers": Kind(_chat(b'"messages":[%b1]' % (b"1.5," * 990_000))),
    "a long text": Kind(_said(b"a" * (10 * MIB))),
    "a long text beyond ASCII": Kind(_said("ü€".encode() * (2 * MIB))),
    "a long text of escapes": Kind(_said(b'\\"' * (5 * MIB))),
    "a long text of \\u escapes": Kind(_said(b"\\u00fc" * (2 * MIB))),
    "many messages": Kind(_chat(b'"messages":[%b]' % b",".join([b'{"role":"user","content":"a"}'] * 200_000))),
    "many messages that name files": Kind(
        _chat(b'"messages":[%b]' % b",".join([b'{"content":[{"type":"file","file":{"file_id":"a"}}]}'] * 90_000))
    ),
    "many tools that name models": Kind(_chat(b'"tools":[%b]' % b",".join([b'{"type":"a","model":"m"}'] * 150_000))),
    "many fields in the head": Kind(lambda: request(b'{"model":"m"}', fields=b"x-a: b\r\n" * 3_000)),
    "many parts of a form": Kind(_form),
    "a form's file that looks like its end": Kind(_upload),
    "events of one letter": _streamed(b"a\n\n" * 21_000),
    "tiny events": _streamed(b"data: {}\n\n" * 6_500),
    "short texts": _streamed(_TEXT % b"x" * 1_000),
    "huge events": _streamed(_TEXT % (b"x" * (3 * MIB))),
    "huge events of escapes": _streamed(_TEXT % (b'\\"' * MIB)),
    "an event without an end": _streamed(b"data: " + b"x" * 65_530),
    "a packed stream": _upstreams(_bomb, b'"stream":true'),
    "a large answer": _upstreams(lambda: [_HEAD % (_JSON, b""), b'{"choices":[', b'{"a":[1,2]},' * 800_000, b"1]}"]),
    "a large answer of texts": _upstreams(
        lambda: [_HEAD % (_JSON, b""), b'{"choices":[{"message":{"content":"%b"}}]}' % (b'\\"' * (5 * MIB))]
    ),
}


class Stall(msgspec.Struct, frozen=True):
    """The longest steps that one kind made."""

    kind: str
    mebibytes: float
    status: int
    loop_ms: float
    loop_step: str
    thread_ms: float
    thread_step: str

    @property
    def longest_ms(self) -> float:
        return max(self.loop_ms, self.thread_ms)

    @property
    def ms_per_mib(self) -> float:
        return self.longest_ms / max(LEAST_MIB, self.mebibytes)

    def __str__(self) -> str:
        return (
            f"{self.kind:40} {self.mebibytes:6.2f} MiB {self.status:4} loop {self.loop_ms:7.1f} ms ({self.loop_step}) "
            f"{_OTHER} {self.thread_ms:7.1f} ms ({self.thread_step}) "
            f"{'met' if self.ms_per_mib <= GOAL_MS_PER_MIB else 'NOT MET'}"
        )


class Longest:
    """The longest single step of the gateway, on its loop and in its other threads; CPU seconds."""

    def __init__(self) -> None:
        self.loop_seconds, self.loop_step = 0.0, ""
        self.thread_seconds, self.thread_step = 0.0, ""

    def of_loop(self, seconds: float, step: Callable[[], str]) -> None:
        if seconds > self.loop_seconds:
            self.loop_seconds, self.loop_step = seconds, step()

    def of_thread(self, seconds: float, step: str) -> None:
        if seconds > self.thread_seconds:
            self.thread_seconds, self.thread_step = seconds, step


class _Watch:
    """Times callbacks and calls into C; `longest` is of what has been measured since it was set."""

    def __init__(self) -> None:
        self.longest = Longest()
        self._loop_thread = threading.get_ident()
        self._began = threading.local()

    @contextmanager
    def watching(self) -> Iterator[None]:
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            if threading.get_ident() != self._loop_thread:
                return run(handle)
            began = time.thread_time()
            run(handle)
            self.longest.of_loop(time.thread_time() - began, lambda: _name_of(handle))
            return None

        asyncio.Handle._run = timed  # type: ignore[method-assign]
        try:
            yield
        finally:
            asyncio.Handle._run = run  # type: ignore[method-assign]

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """For `threading.setprofile`."""
        if event == "c_call":
            self._began.at = time.thread_time()
        elif event in ("c_return", "c_exception") and (began := getattr(self._began, "at", None)) is not None:
            name = f"{getattr(argument, '__qualname__', argument)} in {frame.f_code.co_name}"
            self.longest.of_thread(time.thread_time() - began, name)
            self._began.at = None


def _name_of(handle: asyncio.Handle) -> str:
    """What ran: of a task, where its coroutine stands now."""
    callback: Any = handle._callback
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return getattr(callback, "__qualname__", repr(callback))
    stack = task.get_stack(limit=1)
    return f"{getattr(task.get_coro(), '__qualname__', '')} at {stack[-1].f_code.co_qualname if stack else 'its end'}"


@asynccontextmanager
async def gateway(
    folder: Path, upstream_port: int, more: Mapping[str, Any] = MappingProxyType({})
) -> AsyncIterator[int]:
    """Its port; `more`: further sections of its file."""
    endpoint = {"id": "a", "url": f"http://127.0.0.1:{upstream_port}/v1"}
    file = {
        "models": [{"id": 1, "name": "m", "global": True, "price": {"input": 1}, "endpoints": [endpoint]}],
        "keys": [{"id": "a", "user": "a", "key": KEY}],
        **more,
    }
    settings = parse_settings(json.dumps(file), "stalls.yaml", {}, folder)
    async with running(settings, make_logger("json", stream=io.StringIO())) as current:
        server = make_server(current)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            await server.finish(1)


class Outside:
    """Client and upstream, on a loop and in a thread of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.answers: Sequence[bytes] = [_HEAD % (_JSON, b""), _ANSWER]
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    async def start(self) -> int:
        server = await self._there(asyncio.start_server(self._answer, "127.0.0.1", 0))
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def ask(self, port: int, pieces: Sequence[bytes]) -> int:
        """The answer's status; 0 where there is none."""
        status: int = await self._there(self._ask(port, pieces))
        return status

    async def _there(self, coroutine: Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    async def _ask(self, port: int, pieces: Sequence[bytes]) -> int:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sending = asyncio.create_task(_send(writer, pieces))
            try:
                begin = await reader.readline()
                while await reader.read(MIB):
                    pass
            except ConnectionError:
                begin = b""
            await asyncio.wait([sending], timeout=5)
            writer.close()
        return int(begin.split()[1]) if begin else 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        left = int(length.split(b":")[1])
        while left and (part := await reader.read(min(left, MIB))):
            left -= len(part)
        await _send(writer, self.answers)
        writer.close()


async def _send(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    try:
        for piece in pieces:
            for at in range(0, len(piece), 1 << 16):
                writer.write(piece[at : at + (1 << 16)])
                await writer.drain()
    except ConnectionError:  # refused before its end
        pass


async def measure(names: Sequence[str], folder: Path) -> AsyncIterator[Stall]:
    outside, watch = Outside(), _Watch()
    upstream_port = await outside.start()
    threading.setprofile(watch.profile)
    with watch.watching():
        async with gateway(folder, upstream_port) as port:
            await outside.ask(port, request(b'{"model":"m"}'))  # what is made when first used
            settle_the_collector()
            for name in names:
                kind = KINDS[name]
                pieces, outside.answers = kind.sends(), kind.answers()
                mebibytes = sum(map(len, pieces if kind.measured == "sends" else outside.answers)) / MIB
                await asyncio.sleep(0)  # so that making them is no step of what follows
                watch.longest = Longest()
                status = await outside.ask(port, pieces)
                found = watch.longest
                loop, thread = (
                    (found.loop_seconds * 1000, found.loop_step),
                    (found.thread_seconds * 1000, found.thread_step),
                )
                yield Stall(name, mebibytes, status, *loop, *thread)
    threading.setprofile(None)  # type: ignore[arg-type]


async def _told(names: Sequence[str], *, as_json: bool) -> bool:
    """Whether the goals are met."""
    found: list[Stall] = []
    with tempfile.TemporaryDirectory() as directory:
        async for stall in measure(names, Path(directory)):
            found.append(stall)
            print(stall, file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(found))
    return as_json or all(each.ms_per_mib <= GOAL_MS_PER_MIB for each in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="of the kinds; default: all of them")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = [name for name in KINDS if not options.words or any(word in name for word in options.words)]
    return 0 if asyncio.run(_told(names, as_json=options.json)) else 1


if __name__ == "__main__":
    sys.exit(main())
