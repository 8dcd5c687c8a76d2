"""A request as every route sees it.

`Head` is what stands before the body, `Body` gives what follows as it comes, and `Connection` is the client's side of
the request: where answers go, and what is known of the client. Both servers (`fast_lane`, `app_server`) fill them in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping, istr
from yarl import URL

from gateway.http.memory_budget import Held

Headers = Sequence[tuple[str, str]]
_CONTENT_LENGTH, _EXPECT = istr("content-length"), istr("expect")  # quick to look up


class Head(msgspec.Struct, eq=False):
    """A request's head.

    `target` is as it was sent, `path` still percent-encoded.

    One head may serve many requests of a connection: `content-length` in its `headers` is that of the first. `known` is
    for whoever serves them, to keep what follows from the head alone. `like`: a head of the same connection from which
    this one differs in the fields `varying` alone, in lower case.
    """

    method: str
    target: str
    path: str
    headers: CIMultiDictProxy[str]
    http11: bool
    keep_alive: bool
    known: Any = None
    like: Head | None = None
    varying: frozenset[str] = frozenset()

    @classmethod
    def of(cls, method: str, target: str, headers: CIMultiDictProxy[str], *, http11: bool, keep_alive: bool) -> Head:
        """Raise ValueError for a target in absolute form that is no URL."""
        # The absolute form is what proxies are asked in.
        path = (target if target.startswith("/") else URL(target, encoded=True).raw_path).partition("?")[0]
        # An older client, or one that has said its last, is answered until the connection's end.
        return cls(method, target, path, headers, http11, http11 and keep_alive)

    def varied(self, values: Mapping[str, str], varying: frozenset[str]) -> Head:
        """Return a head that differs in these fields.

        This one has each of them once."""
        headers = CIMultiDict(self.headers)
        headers.update(values)
        return Head(
            self.method,
            self.target,
            self.path,
            CIMultiDictProxy(headers),
            self.http11,
            self.keep_alive,
            None,
            self,
            varying,
        )

    @property
    def query(self) -> MultiMapping[str]:
        """The query's fields, decoded."""
        return URL(self.target, encoded=True).query

    @property
    def declared_length(self) -> int | None:
        """Bytes of the body, where its length was declared."""
        declared = self.headers.get(_CONTENT_LENGTH)
        return None if declared is None else int(declared)

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends its body only once it is asked to."""
        return self.http11 and self.headers.get(_EXPECT, "").lower() == "100-continue"

    def __repr__(self) -> str:
        return f"<Head {self.method} {self.target}>"


class Body(Protocol):
    """A request's body as it arrives.

    `whole`: its last byte has come, be it read or not.
    """

    whole: bool

    @property
    def at_end(self) -> bool:
        """Whether all of it has been read."""

    async def read(self) -> bytes:
        """Wait for bytes; empty at the end. Raises InvalidHttp.

        Where it is broken or never will be whole.
        """


class Connection(Protocol):
    """The client's side of one request.

    Everything that sends raises ConnectionResetError where the client has gone.
    """

    client: str  # its address
    answer_fields: Headers  # what any answer to the present request bears, whoever writes it

    @property
    def chunked(self) -> asyncio.WriteTransport | None:
        """The transport, where the present stream is chunked.

        A chunk may be written to it framed. None where pieces of the body have to come by `send`.
        """

    @property
    def ends_here(self) -> bool:
        """Whether no further request will be taken from this connection."""

    def watch(self, on_pressure: Callable[[bool], None] | None) -> None:
        """Cancel the request when its client leaves; report its pressure.

        `on_pressure(paused)` as its answer piles up or drains.
        """

    def unwatch(self) -> None:
        """End what `watch` began."""

    def ask_for_body(self) -> None:
        """Send `100 Continue` to a client that awaits it."""

    def give_up_on_body(self) -> None:
        """End the connection with the answer, the body unread."""

    def open_stream(self, request: Request, status: int, fields: Headers, *, close: bool) -> None:
        """Send the head of an answer whose body comes piece by piece."""

    def send(self, data: bytes) -> None:
        """Send a piece of the body, at once."""

    def end_stream(self) -> None:
        """End the body cleanly."""

    def abort(self) -> None:
        """Break the connection, so that the answer counts as cut."""

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent."""


class Request(msgspec.Struct, eq=False):
    """A request.

    Its body is `body`, or where that is None still arrives by `content`. `keep_alive`: as its head has it, until
    somebody ends the connection with its answer.
    """

    connection: Connection
    head: Head
    content: Body
    length: int | None  # of the body, as declared
    body: bytes | None
    keep_alive: bool
    held: Held | None = None  # the memory that it takes, until its answer has been taken

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.head.path

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self.head.headers

    @property
    def http11(self) -> bool:
        return self.head.http11

    @property
    def query(self) -> MultiMapping[str]:
        """The query's fields, decoded."""
        return self.head.query

    @property
    def is_here(self) -> bool:
        """Whether the client has sent all of it."""
        return self.body is not None or self.content.whole

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.head.target}>"
