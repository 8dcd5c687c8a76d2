"""What was seen of an answer, for the books."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.base import Contents, Scan, ToolCalls, Usage, UsageReader
from gateway.dialects.event_batch import Envelope, envelope_of
from gateway.dialects.openai import USAGE_READER
from gateway.dialects.token_counts import USUAL_TIERS
from gateway.http.sse import EventFramer, Fragment, events_data
from gateway.proxy.answer_view import BodyReader, View
from gateway.types import UsageDetails

_NO_CALLS = ToolCalls()
_NO_DETAILS = UsageDetails()
_RETELLING = (b"response.completed", b"response.incomplete", b"response.failed", b".done")
_BLANKS_BEFORE_JSON = 16
_SHORTEST_EVENT_BYTES = 24  # no shorter one has room for a text or a usage
_TYPE_WITHIN_BYTES = 200
_MOST_ENVELOPES = 3  # some streams change theirs with each event: looking for it is not worth while then
_NAMED_ERROR = (b"event: error", b"event:error")


class UsageMeter(msgspec.Struct, eq=False):
    """Meter an answer: its reported usage, or its text's size."""

    reader: UsageReader = USAGE_READER
    asked: bool = False  # some upstream has been sent the request
    answered: bool = False  # some upstream gave an answer, be it a refusal
    unfinished: bool = False  # the answer says that the work is yet to be done
    usage: Usage | None = None
    failed: bool = False  # an error took the answer's place, or came in its midst
    service_tier: str | None = None  # the last reported
    tools: ToolCalls | None = None
    images: int = 0
    ended: bool = False  # a response has said that it is over, be it that it failed
    waiting: list[
        bytes
    ] = []  # whole events of a stream that look like text alone; what they are is read many at a time, before any later
    _envelope: Envelope | None = None  # of the events that came last
    _envelopes_left: int = _MOST_ENVELOPES
    _text_bytes: int = 0
    _whole_text_bytes: int = 0  # the same text, told as a whole at the end
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
        """Meter the events that wait; return them, unless they are as others before but for their text."""
        events = b"".join(self.waiting)
        self.waiting.clear()
        if self._envelope is not None:
            size = self._envelope.text_bytes(events)
            if size is not None:
                self._text_bytes += size
                return b""
        self._read_together(events)
        return events

    def _read_together(self, events: bytes) -> None:
        read, self._envelope = self.reader.texts, None
        contents = read(events) if read is not None else None
        if read is None or contents is None:
            self.events(events)
            return
        self._text_bytes += contents.text_bytes
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
            contents = self._take_body(view.reader, is_text=is_text)
            self.unfinished = contents.unfinished and (self.usage is None or self.usage.total_tokens == 0)

    def is_plain(self, body: bytes) -> bool:
        """Meter a whole answer that is a JSON object.

        False where it is none that one decoding reads.
        """
        contents = self.reader.contents(body) if body.startswith(b"{") else None
        if contents is None:
            return False
        self._add(contents)
        self.unfinished = contents.unfinished and (self.usage is None or self.usage.total_tokens == 0)
        return True

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
            self._take_body(self._body, is_text=False)
            self._body = None

    def unread(self, size: int) -> None:
        """Count bytes passed on unreadable as text."""
        self._text_bytes += size

    @property
    def counts(self) -> bool:
        """Whether an upstream answered, so that its usage counts.

        Be it one of which nothing reached the client.
        """
        return self.answered or self.usage is not None or self.text_bytes > 0

    @property
    def saw_more(self) -> bool:
        """Whether there is more to charge than a usage."""
        return self.service_tier is not None or self.tools is not None or self.images > 0

    @property
    def text_bytes(self) -> int:
        """About so many bytes of text were answered; 0 where nothing was."""
        return max(self._text_bytes, self._whole_text_bytes)

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
        self._text_bytes += contents.text_bytes
        if contents.whole_text_bytes > self._whole_text_bytes:
            self._whole_text_bytes = contents.whole_text_bytes
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
                self._whole_text_bytes = max(self._whole_text_bytes, scan.text_bytes)
            else:
                self._text_bytes += scan.text_bytes

    def _take_body(self, body: BodyReader, *, is_text: bool) -> Contents:
        contents = body.contents(is_text=is_text)
        self._add(contents)
        return contents

    def _add(self, contents: Contents) -> None:
        if self.usage is None:
            self.usage = contents.usage
        elif contents.usage is not None:
            self.usage = self.reader.joined(self.usage, contents.usage)
        self._text_bytes += contents.text_bytes
        if contents.whole_text_bytes > self._whole_text_bytes:
            self._whole_text_bytes = contents.whole_text_bytes
        if contents.failed:
            self.failed = True
        if contents.service_tier:
            self.service_tier = contents.service_tier
        if contents.tools is not None:
            self.tools = contents.tools
        if contents.images:
            self.images += contents.images


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


def with_seen(usage: Usage, meter: UsageMeter) -> Usage:
    """Add what stands beside a usage: tier, tool calls, images."""
    calls, reported = meter.tools or _NO_CALLS, usage.details or _NO_DETAILS
    tier = None if meter.service_tier in USUAL_TIERS else meter.service_tier
    seen = {name: max(count, getattr(reported, name)) for name, count in calls._asdict().items()}
    return replaced(usage, **seen, images=meter.images, service_tier=tier or reported.service_tier)


def replaced(usage: Usage, **details: Any) -> Usage:
    changed = msgspec.structs.replace(usage.details or _NO_DETAILS, **details)
    return msgspec.structs.replace(usage, details=None if changed == _NO_DETAILS else changed)
