"""The bounds of an answer, and what is refused of it."""

from __future__ import annotations

import httptools

MAX_INTERIM_HEADS = 10


class AnswerRules:
    """What has come of an answer, and what is refused of it."""

    __slots__ = (
        "_allowance",
        "_chunked",
        "_fields",
        "_head_bytes",
        "_http",
        "_interim_heads",
        "_keep_alive",
        "_max_head_bytes",
        "_sized",
        "_surplus",
        "between_chunks",
        "complete",
        "fault",
        "headers",
        "parts",
        "reusable",
        "status",
    )

    def __init__(self, max_head_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._http = httptools.HttpResponseParser(self)
        # No answer after which another may come leaves anything else in these than what they begin with.
        self.between_chunks = False  # the last read ended with a chunk's end
        self.fault: str | None = None
        self._surplus = False  # something followed the answer's end
        # These are set with each head.
        self._keep_alive = False
        self.headers: list[tuple[bytes, bytes]] = []
        self._chunked = False
        self._sized = False  # there is a content-length
        self._allowance = max_head_bytes  # what chunk headers, extensions and trailers may still cost
        # And these with the beginning of an answer.
        self._fields: list[tuple[bytes, bytes]] = []  # of the head, or of trailers
        self._head_bytes = 0  # of reads up to the head's end, interim heads included
        self._interim_heads = 0
        self.status = 0
        self.parts: list[bytes] = []
        self.complete = self.reusable = False

    @property
    def stage(self) -> str:
        """Where the answer stands, for error texts."""
        if self.status:
            return "within the body"
        return "within the head" if self._head_bytes else "before the answer"

    @property
    def until_close(self) -> bool:
        """Whether the body ends where the connection does."""
        return self.status not in (0, 204, 304) and not self._sized and not self._chunked

    def let_go(self) -> None:
        """Drop the parser, which knows this one: nothing is read any more."""
        del self._http

    def _stopped(self, error: httptools.HttpParserError) -> None:
        """Conclude from the parser's stop.

        For a fault of the answer, or for what follows it and must not be read.
        """
        if self.complete:
            self._surplus = True
        elif self.fault is None:
            self.fault = str(error)

    def _refuse(self, fault: str) -> None:
        """Stop the parser from within a callback."""
        self.fault = fault
        raise Refused

    def _bound_head(self) -> None:
        if self._head_bytes > self._max_head_bytes and self.fault is None:
            self.fault = f"the head is larger than {self._max_head_bytes} bytes"

    def _count_overhead(self, read_bytes: int) -> None:
        """Bound chunk extensions and trailers.

        They could go on for ever, unseen by the receiver.
        """
        allowance = self._allowance - read_bytes  # `on_body` has added what the body's bytes allow
        self._allowance = allowance if allowance < self._max_head_bytes else self._max_head_bytes
        if allowance < 0 and self.fault is None:
            self.fault = "chunk extensions or trailers without end"

    def _skip_interim(self, status: int) -> None:
        self._interim_heads += 1
        if status == 101:
            self._refuse("a change of protocol that nobody asked for (101)")
        if self._interim_heads > MAX_INTERIM_HEADS:
            self._refuse(f"more than {MAX_INTERIM_HEADS} interim answers (1xx)")

    def _check_size(self) -> None:
        """Bound the head in the read that ends it.

        That may hold much of the body too; `feed` has the reads before.
        """
        if sum([len(name) + len(value) + 4 for name, value in self._fields]) > self._max_head_bytes:
            self._refuse(f"the head is larger than {self._max_head_bytes} bytes")

    def _check_coding(self) -> None:
        """Refuse other transfer codings than chunked, which llhttp lets pass.

        It refuses by itself both framings at once, two lengths, bad numbers.
        """
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings != [b"chunked"]:
            self._refuse("a transfer-encoding other than chunked")
        self._allowance = self._max_head_bytes


class Refused(Exception):
    """Stop the parser; `fault` has the reason, if any.

    Without one the answer was complete already.
    """
