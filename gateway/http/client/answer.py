"""Parse answers with httptools (llhttp) and stricter bounds.

Without sockets and without callbacks into other people's code, so that a receiver's exception can never look like a
parser's error.
"""

from __future__ import annotations

import httptools

MAX_INTERIM_HEADS = 10
# What a chunk may cost with each of its bytes: "00000001\r\n" and "\r\n" around a single one is still tolerated.
_ALLOWED_PER_BODY_BYTE = 17
_LONGEST_SIZE = 6  # of a chunk well below a large read, with its line end


class AnswerParser:
    """Reads one answer after another from one connection; `begin` comes before each.

    After each `feed`: `status` (0 until the head is complete), `headers` (names lower-cased), `parts` (body bytes not
    yet taken), `complete`, and `fault`, a text once the bytes were no acceptable answer. What came before a fault
    stands in `status` and `parts` as if it had come alone. After `complete`, `reusable` tells whether a next answer
    may follow on this connection, and only then there is one. Interim answers (1xx) and trailers are left out.
    """

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
        self.begin()

    def begin(self) -> None:
        """Forget the last answer."""
        self._fields: list[tuple[bytes, bytes]] = []  # of the head, or of trailers
        self.parts: list[bytes] = []
        self.complete = self.reusable = False
        # `_head_bytes`: of reads up to the head's end, interim heads included
        self.status = self._head_bytes = self._interim_heads = 0

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

    def take_body(self) -> bytes:
        """The body bytes of the last read in one piece."""
        parts = self.parts
        self.parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def lone_chunk(self, data: bytes) -> bytes | None:
        """Return the body bytes of a read that is one whole chunk.

        As nearly every read of a stream is; None for any other, which is to be fed. To be asked `between_chunks` only:
        the parser, which never hears of this chunk, goes on with the next.
        """
        end = data.find(b"\r\n", 0, _LONGEST_SIZE)
        if end > 0 and data.endswith(b"\r\n"):
            size, piece = data[:end], data[end + 2 : -2]
            if piece and (size == b"%x" % len(piece) or size == b"%X" % len(piece)):
                return piece
        return None

    def feed(self, data: bytes) -> None:
        """Read what one read of the socket gave; never raises."""
        head_was_complete = self.status
        if head_was_complete:
            self.between_chunks = False
        else:
            self._head_bytes += len(data)
        try:
            self._http.feed_data(data)
        except httptools.HttpParserError as error:
            self._stopped(error)
        if self.complete:
            self.between_chunks = False
            self.reusable = self._keep_alive and not self._surplus and self._ends_with_answer(data)
        elif self._chunked and self.status:
            if head_was_complete:
                self._count_overhead(len(data))
            self.between_chunks = self.between_chunks and data.endswith(b"\r\n")
        elif not self.status:
            self._bound_head()

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
        raise _Refused

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

    def _ends_with_answer(self, data: bytes) -> bool:
        """Whether the completing read ended with the answer.

        llhttp skips line ends between answers without a word (anything else it reports), so only those are looked for.
        In doubt (a body of line ends only, an end split over tiny reads) the answer is no: that costs a connection,
        not an answer.
        """
        if self._sized and self.parts:
            last = self.parts[-1]
            return data.endswith(last) and not last.isspace()
        return data.endswith(b"\r\n\r\n") and data[-5:-4] not in (b"", b"\r", b"\n")

    # What httptools calls. An exception here stops it and comes out of `feed_data` as an HttpParserCallbackError.

    def on_message_begin(self) -> None:
        if self.complete:
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        http = self._http
        status = http.get_status_code()
        if http.get_http_version() not in ("1.1", "1.0") or status < 100:
            self._refuse("not an answer of HTTP/1.1 or HTTP/1.0")
        if status < 200:
            self._skip_interim(status)
            return
        if self._head_bytes > self._max_head_bytes:
            self._check_size()
        self.headers, self._fields = self._fields, []
        names = dict(self.headers)
        self._chunked, self._sized = b"transfer-encoding" in names, b"content-length" in names
        if self._chunked:
            self._check_coding()
        self.status = status

    def on_chunk_header(self) -> None:
        self.between_chunks = False

    def on_chunk_complete(self) -> None:
        self.between_chunks = True

    def on_body(self, data: bytes) -> None:
        if not self.status:
            self._refuse("an interim answer with a body")
        self.parts.append(data)
        if self._chunked:
            self._allowance += _ALLOWED_PER_BODY_BYTE * len(data)

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True
            self._keep_alive = self._http.should_keep_alive()  # forgotten by llhttp once this call returns
        else:
            self._fields = []

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


class _Refused(Exception):
    """Stop the parser; `fault` has the reason, if any.

    Without one the answer was complete already.
    """
