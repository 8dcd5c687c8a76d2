"""What was seen of an answer, for the books."""

from __future__ import annotations

from gateway.dialects.base import Scan
from gateway.dialects.event_batch import Envelope, envelope_of
from gateway.http.sse import EventFramer, Fragment, events_data
from gateway.proxy.answer_view import BodyReader, View
from gateway.proxy.books.accounting import Seen

_RETELLING = (b"response.completed", b"response.incomplete", b"response.failed", b".done")
_BLANKS_BEFORE_JSON = 16
_SHORTEST_EVENT_BYTES = 24  # no shorter one has room for a text or a usage
_TYPE_WITHIN_BYTES = 200
_MOST_ENVELOPES = 3  # some streams change theirs with each event: looking for it is not worth while then
_NAMED_ERROR = (b"event: error", b"event:error")


class UsageMeter(Seen):
    """Meter an answer: its reported usage, or its text's size."""

    # Whole events of a stream that look like text alone; what they are is read many at a time, before any later.
    waiting: list[bytes] = []  # noqa: RUF012 - each has its own
    _envelope: Envelope | None = None  # of the events that came last
    _envelopes_left: int = _MOST_ENVELOPES
    _scan: Scan | None = None  # of an event too large to be held
    _scan_retells: bool = False
    _body: BodyReader | None = None  # what is passed on as it comes

    def events(self, data: bytes) -> bool:
        """Meter whole events of a stream; True where one had usage."""
        if self._scan is not None:
            self._end_scan()
        start = data.find(b"\n") + 1
        if start == len(data) - 1:  # one line, as nearly every read is
            start = 0
        elif data.startswith(b"data"):
            start = -1
        # … or one that follows the event's name.
        if start >= 0 and data.startswith(b"data:", start) and data.find(b"\n", start) == len(data) - 2:
            if start:
                self._name(data)
            has_usage = self._payload(data[start + 5 : -2])
            if has_usage is not None or b"\r" not in data:
                return has_usage is True
        self._name(data)
        if b'"' not in data:  # pings, comments, blank lines: nothing has a name here
            return False
        return True in [self._payload(payload) for payload in events_data(data, _SHORTEST_EVENT_BYTES)]

    def catch_up(self) -> bytes:
        """Meter the events that wait; return those that are news.

        None are where they are as others before but for their text.
        """
        events = b"".join(self.waiting)
        self.waiting.clear()
        if self._envelope is not None:
            size = self._envelope.text_bytes(events)
            if size is not None:
                self.text_seen += size
                return b""
        self._read_together(events)
        return events

    def _read_together(self, events: bytes) -> None:
        read, self._envelope = self.reader.texts, None
        contents = read(events) if read is not None else None
        if read is None or contents is None:
            self.events(events)
            return
        self.text_seen += contents.text_bytes
        if contents.service_tier is not None:
            self.service_tier = contents.service_tier
        if self._envelopes_left:
            self._envelopes_left -= 1
            self._envelope = envelope_of(events[events.rfind(b"\n\n", 0, -2) + 2 :], read)

    def message(self, data: bytes) -> None:
        """Meter one event that came as a message of its own."""
        self._payload(data)

    def fragment(self, piece: Fragment) -> None:
        """A piece of an event too large to be held."""
        if self._scan is None:
            self._scan = self.reader.scan()
            self._scan_retells = any(name in piece[:_TYPE_WITHIN_BYTES] for name in _RETELLING)
        self._scan.feed(piece)

    def whole(self, view: View, *, is_text: bool) -> None:
        """Meter a whole answer.

        `is_text`: it is one also where it is no JSON.
        """
        if isinstance(view.reader, BodyReader):
            self.take(view.reader.contents(is_text=is_text))

    def body_view(self, encoding: bytes) -> View:
        """Return a view of a body that is no stream.

        It counts once it is `whole` or followed.
        """
        return View(BodyReader(self.reader), encoding)

    def events_view(self, encoding: bytes) -> View:
        """For a stream that is passed on unread, as it came compressed."""
        return View(_EventsReader(self), encoding)

    def follow(self, view: View) -> None:
        """Meter a body that flows to the client until it ends."""
        if isinstance(view.reader, BodyReader):
            self._body = view.reader

    def conclude(self) -> None:
        """Meter what is left of an answer or an event.

        Of an answer that flowed, of events that wait, or of one that has not ended. Idempotent.
        """
        if self.waiting:
            self.catch_up()
        if self._scan is not None:
            self._end_scan()
        if self._body is not None:
            self._body.end()
            self.add(self._body.contents(is_text=False))
            self._body = None

    def unread(self, size: int) -> None:
        """Count bytes passed on unreadable as text."""
        self.text_seen += size

    def _name(self, data: bytes) -> None:
        """Events may be errors by their name alone."""
        if b"error" in data and any(
            data.startswith(name) or b"\n" + name in data or b"\r" + name in data for name in _NAMED_ERROR
        ):
            self.failed = True

    def _payload(self, data: bytes) -> bool | None:
        """Meter one event's data; True where it had usage.

        None where it is no JSON object.
        """
        contents = self.reader.contents(data) if data.find(b"{", 0, _BLANKS_BEFORE_JSON) >= 0 else None
        if contents is None:
            return None
        self.text_seen += contents.text_bytes
        if contents.whole_text_bytes > self.text_retold:
            self.text_retold = contents.whole_text_bytes
        if contents.failed:
            self.failed = True
        elif contents.ended:
            self.ended = True
        if contents.service_tier is not None:
            self.service_tier = contents.service_tier
        if contents.images:
            self.images += contents.images
        if contents.usage is None:
            return False
        if contents.tools is not None:
            self.tools = contents.tools
        self.usage = self.reader.joined(self.usage, contents.usage)
        return True

    def _end_scan(self) -> None:
        scan, self._scan = self._scan, None
        if scan is not None:
            scan.end()
            self.usage = self.reader.joined(self.usage, scan.usage)
            self.images += scan.images
            self.service_tier = scan.service_tier or self.service_tier
            self.tools = scan.tools or self.tools
            if self._scan_retells:
                self.text_retold = max(self.text_retold, scan.text_bytes)
            else:
                self.text_seen += scan.text_bytes


class _EventsReader:
    """Reads a stream that is passed on as it comes."""

    def __init__(self, meter: UsageMeter) -> None:
        self._meter = meter
        self._framer = EventFramer()

    def feed(self, data: bytes) -> None:
        for piece in self._framer.take(data):
            if isinstance(piece, Fragment):
                self._meter.fragment(piece)
            else:
                self._meter.events(piece)

    def unreadable(self, size: int) -> None:
        self._meter.unread(size)

    def end(self) -> None:
        rest = self._framer.end()
        if rest:
            self._meter.events(rest)
