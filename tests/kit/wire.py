"""A client without manners: raw bytes out, answers read as they arrive, and every way of leaving.

Independent of the gateway's own parsing and of any HTTP library, so that a mistake shared by both cannot hide.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

DEADLINE_SECONDS = 30.0  # what "it never came" means in every wait of the kit: no promise, only an end of waiting

UPSTREAM_WORDS = "the upstream's own words"  # in every error of the fake upstream, and in none of the gateway's

Headers = Iterable[tuple[str, str]]


def request_bytes(
    method: str,
    target: str,
    body: bytes | dict[str, Any] | None = None,
    *,
    key: str | None = None,
    headers: Headers = (),
    version: str = "1.1",
) -> bytes:
    """A request's bytes; a dict becomes JSON, a body brings its content-length, a key its bearer header."""
    payload = json.dumps(body).encode() if isinstance(body, dict) else body
    lines = [f"{method} {target} HTTP/{version}", "host: gateway.test"]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    if payload is not None:
        lines += ["content-type: application/json", f"content-length: {len(payload)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (payload or b"")


@dataclass
class Reply:
    """An answer; `headers` in order, names lower-cased."""

    version: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name]

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """The `error` object, once its shape is seen to be OpenAI's."""
        document = self.json()
        assert set(document) == {"error"}, document
        assert set(document["error"]) == {"message", "type", "param", "code"}, document
        assert document["error"]["message"], "an error without a message helps nobody"
        return dict(document["error"])


def assert_error(reply: Reply, status: int, code: str, kind: str | None = None, param: str | None = None) -> None:
    """This is the gateway's own error of the contract's table, and none of the upstream's words are in it.

    `kind` is the table's type; where it is not given, that of most errors of the status' class.
    """
    error = reply.error()
    kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
    assert (reply.status, error["code"], error["type"], error["param"]) == (status, code, kind, param)
    assert reply.header("content-type") == "application/json"
    assert UPSTREAM_WORDS.encode() not in reply.body


class Wire:
    """One connection. Everything that waits gives up after `DEADLINE_SECONDS`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._reply: Reply | None = None
        self._left: int | None = None  # bytes of a body with a length that have not come yet
        self._is_over = False  # the last chunk has come
        self._undelivered = b""

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int, *, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
        """A connection to 127.0.0.1 until the end of the block; see `connected`."""
        wire = await cls.connected(port, receive_buffer=receive_buffer)
        try:
            yield wire
        finally:
            await wire.close()

    @classmethod
    async def connected(cls, port: int, *, receive_buffer: int | None = None) -> Wire:
        """A connection to 127.0.0.1, to be closed; a small `receive_buffer` makes back-pressure felt early."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
                return cls(*await asyncio.open_connection(sock=sock, limit=1 << 16))
        except BaseException:
            sock.close()
            raise

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            self.writer.write(data)
            await self.writer.drain()

    async def head(self) -> Reply:
        """Reads the next answer's head, skipping 1xx."""
        while (reply := await self.any_head()).status < 200:
            pass
        return reply

    async def any_head(self) -> Reply:
        """Reads the next head, be it a 1xx."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            block = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = block[:-4].decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ", 2)
        pairs = [line.split(":", 1) for line in lines]
        self._reply = Reply(version, int(status), [(name.lower(), value.strip()) for name, value in pairs])
        self._left = int(self._reply.header("content-length") or 0)
        self._is_over = False
        return self._reply

    async def piece(self) -> bytes:
        """The next bytes of the body as they were framed (a chunk, or what one read gave); `b""` from its end on."""
        reply = self._current()
        async with asyncio.timeout(DEADLINE_SECONDS):
            if reply.header("transfer-encoding") == "chunked":
                return await self._chunk()
            if reply.header("content-length") is None and reply.status not in (204, 304):
                return await self.reader.read(1 << 16)
            return await self._sized_piece()

    async def _chunk(self) -> bytes:
        if self._is_over:
            return b""  # what comes on this connection belongs to the next answer, if it comes at all
        size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
        data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n"), "a chunk that does not end where it said"
        self._is_over = size == 0
        return data[:-2]

    async def _sized_piece(self) -> bytes:
        data = await self.reader.read(min(self._left or 0, 1 << 16)) if self._left else b""
        if self._left and not data:
            raise asyncio.IncompleteReadError(b"", self._left)
        self._left = (self._left or 0) - len(data)
        return data

    async def event(self) -> bytes:
        """The next bytes of the body up to and with a blank line (LF); at the end what is left, and then `b""`."""
        while b"\n\n" not in self._undelivered:
            piece = await self.piece()
            if not piece:
                rest, self._undelivered = self._undelivered, b""
                return rest
            self._undelivered += piece
        one, self._undelivered = self._undelivered.split(b"\n\n", 1)
        return one + b"\n\n"

    async def body(self) -> Reply:
        """Reads the rest of the current answer's body."""
        reply = self._current()
        pieces = [self._undelivered] if self._undelivered else []
        self._undelivered = b""
        while piece := await self.piece():
            pieces.append(piece)
        reply.pieces, reply.body = pieces, b"".join(pieces)
        return reply

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """Reads a whole answer; `bodiless` for one to HEAD."""
        head = await self.head()
        return head if bodiless else await self.body()

    async def ended(self) -> bytes:
        """Waits for the peer to close; whatever came before that."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def stop_reading(self) -> None:
        """From here on nothing is taken out of the socket: the kernel's buffers fill and the peer feels it."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def half_close(self) -> None:
        """FIN, and the answer can still be read."""
        self.writer.write_eof()

    def reset(self) -> None:
        """RST instead of FIN, as when a client's process is killed with data unread."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self.writer.wait_closed()
        except ConnectionError:
            pass  # the peer was quicker; closed is closed

    def _current(self) -> Reply:
        assert self._reply is not None, "read a head first"
        return self._reply
