"""Decide from an answer's first bytes what it is.

And whether its stream has begun.

What an upstream says of itself is no evidence: a stream is known by its bytes. Bytes in, a verdict out; no sockets.
"""

from __future__ import annotations

import enum
import re

from gateway.dialects import openai
from gateway.http.sse import blank_line_end, event_data, event_name, event_start
from gateway.proxy.endpoint_client import Content

MAX_HELD_BYTES = 1 << 20  # of what counts as no event, and of an event that is not finished
_NAME_WITHIN_BYTES = 4096  # before an event's data
_MOST_LINES = 1000  # of data that are put together
BOM = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"
_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
_BLANKS = re.compile(rb"[ \t\r\n]*")
# A data line that may count. It begins with a literal, which lets `re` skip ahead; comments cost next to nothing.
_DATA = re.compile(rb"data:[ \t]*[^ \t\r\n:]")


class Verdict(enum.Enum):
    """What the bytes so far are."""

    UNDECIDED = "undecided"
    EVENTS = "events"  # a stream whose first event is there, or too large to be waited for
    WHOLE = "whole"  # no stream: JSON or text as a whole
    FLOW = "flow"  # no stream, and neither JSON nor text
    ERROR = "error"  # a stream whose first event is an error, in `error_text`
    TOO_MUCH = "too much"  # more than is held, and no event among it


NO_STREAM = {
    Verdict.ERROR: "the first event of the stream is an error",
    Verdict.UNDECIDED: "the stream ended without an event",
    Verdict.TOO_MUCH: "too much came before the first event of the stream",
}


class Opening:
    """Hold an answer's bytes until its kind is known.

    `holds_preparations`: `response.created` and the like count as no event.
    """

    __slots__ = (
        "_at",
        "_content",
        "_holds_preparations",
        "_is_stream",
        "_last_event",
        "_searched",
        "_seen",
        "error_text",
        "held",
        "is_prepared",
        "silence",
    )

    def __init__(self, content: Content, *, holds_preparations: bool) -> None:
        self.held = bytearray()
        self.error_text = b""
        self.silence = 0  # so many bytes come before the first event that says anything
        self.is_prepared = False  # an event has said that the upstream has taken the request on
        self._content = content
        self._holds_preparations = holds_preparations
        self._is_stream = False
        self._at = 0  # events before this place have been looked at
        self._seen = 0  # no data line that may count begins before this place
        self._searched = 0  # no unfinished event ends before this place
        self._last_event = b""  # signs of life are mostly the same

    def __repr__(self) -> str:
        return f"<Opening held={len(self.held)}{' prepared' * self.is_prepared}>"

    def feed(self, data: bytes) -> Verdict:
        self.held += data
        if not self._is_stream:
            verdict = self._kind()
            if verdict is not Verdict.EVENTS:
                return self._bounded(verdict)
            self._is_stream, self._seen = True, 0
        return self._first_event(is_end=False)

    def end(self) -> Verdict:
        """Decide at the end of the bytes, which ends the last event.

        UNDECIDED: there was nothing that counts.
        """
        if self._is_stream:
            return self._first_event(is_end=True)
        is_short = self._seen < len(self.held) and self._content is not Content.EVENTS
        return Verdict.WHOLE if is_short else Verdict.UNDECIDED

    def _kind(self) -> Verdict:
        """EVENTS, WHOLE or FLOW by the first bytes that are not blank."""
        held = self.held
        if len(held) < len(BOM) and BOM.startswith(held):
            return Verdict.UNDECIDED
        if self._seen == 0 and held.startswith(BOM):
            self._seen = len(BOM)
        blanks = _BLANKS.match(held, self._seen)
        self._seen = blanks.end() if blanks else self._seen
        start = bytes(held[self._seen : self._seen + 6])
        if not start:
            return Verdict.UNDECIDED
        if start[0] in b"{[":
            return Verdict.WHOLE
        if self._content is Content.EVENTS:
            return Verdict.EVENTS
        return self._kind_by_field(start)

    def _kind_by_field(self, start: bytes) -> Verdict:
        """Decide whether an event's field begins a line."""
        if self._begins_line(self._seen):
            if start.startswith(_FIELDS):
                return Verdict.EVENTS
            if any(field.startswith(start) for field in _FIELDS):
                return Verdict.UNDECIDED
        return Verdict.WHOLE if self._content is Content.TEXT else Verdict.FLOW

    def _first_event(self, *, is_end: bool) -> Verdict:
        held = self.held
        while (line := self._next_data_line()) >= 0:
            start = event_start(held, line, self._at)
            end = blank_line_end(held, max(line, self._searched))
            if start > MAX_HELD_BYTES:
                return Verdict.TOO_MUCH
            if end < 0 and not is_end:
                self._searched = max(0, len(held) - 2)  # a line's end may be the first of two
                return self._unfinished(start)
            end = end if end >= 0 else len(held)
            if not self.is_prepared:
                self.silence = start
            event = bytes(held[max(start, line - _NAME_WITHIN_BYTES) : end])
            if event != self._last_event and (verdict := self._verdict_on(event)) is not Verdict.UNDECIDED:
                return verdict
            self._last_event = event
            self._at = self._seen = end
        return self._bounded(Verdict.UNDECIDED)

    def _unfinished(self, start: int) -> Verdict:
        """Of an event that is not all here."""
        if len(self.held) - start <= MAX_HELD_BYTES:
            return Verdict.UNDECIDED
        self.silence = self.silence if self.is_prepared else start
        return Verdict.EVENTS

    def _verdict_on(self, event: bytes) -> Verdict:
        if event.count(b"\ndata") > _MOST_LINES:
            return Verdict.EVENTS
        payload = event_data(event)
        weight = openai.weight_of(payload or b"", event_name(event))
        if weight is openai.Weight.ERROR:
            self.error_text = payload or b""
            return Verdict.ERROR
        if weight is openai.Weight.PREPARATION and self._holds_preparations:
            self.is_prepared = True
            return Verdict.UNDECIDED
        return Verdict.UNDECIDED if weight is openai.Weight.NONE else Verdict.EVENTS

    def _next_data_line(self) -> int:
        """Where the next data line begins that is not empty, or -1."""
        held = self.held
        while (found := _DATA.search(held, self._seen)) is not None:
            if self._begins_line(found.start()):
                self._seen = found.start()
                return self._seen
            self._seen = found.end()
        # Of the last line not everything may be here.
        self._seen = max(self._seen, held.rfind(b"\n") + 1, held.rfind(b"\r") + 1)
        return -1

    def _begins_line(self, place: int) -> bool:
        held = self.held
        return place == 0 or held[place - 1] in _LINE_ENDS or (place == len(BOM) and held.startswith(BOM))

    def _bounded(self, verdict: Verdict) -> Verdict:
        is_too_much = verdict is Verdict.UNDECIDED and len(self.held) > MAX_HELD_BYTES
        return Verdict.TOO_MUCH if is_too_much else verdict
