"""Relay a stream's whole events, and meter them on their way.

Bytes in, bytes out; no sockets.
"""

from __future__ import annotations

from gateway.dialects import openai
from gateway.http.sse import EventFramer, Fragment, blank_line_end, event_data, event_name, event_start, whole_events
from gateway.proxy.usage_meter import UsageMeter

_FINISH = b'"finish_reason"'
_NOT_FINISHED, _NOT_FINISHED_SPACED = _FINISH + b":null", _FINISH + b": null"
_NUMBER = b'"sequence_number"'
_NUMBER_BYTES = 48  # the name, and a number behind it
_LOOKED_AT_BYTES = 4096  # of an event too large to hold
_USAGE = b'"usage"'
_NULL_USAGE, _NULL_USAGE_SPACED = _USAGE + b":null", _USAGE + b": null"
WAITING_BYTES = 2048  # a dozen events: that is nearly all that reading them together can save


class Live:
    """Relay whole events, all but the usage that only we requested.

    `end_signs`: an event with none of them in it is not the stream's last. `is_numbered`: its events bear a
    `sequence_number`. `take_usage_out`: the client did not ask for the event that tells of usage.
    """

    __slots__ = (
        "_framer",
        "_is_finished",
        "_is_last_begun",
        "_left_in_crlf",
        "_meter",
        "_number",
        "_take_usage_out",
        "end_signs",
        "is_between",
        "is_numbered",
        "is_whole",
        "waiting",
        "waiting_bytes",
    )

    def __init__(
        self, meter: UsageMeter, end_signs: tuple[bytes, ...], *, is_numbered: bool, take_usage_out: bool
    ) -> None:
        self.is_whole = False  # the stream has said so itself: whatever becomes of its connection, nothing is missing
        self._meter = meter
        self._framer = EventFramer()
        self.end_signs = end_signs
        self.is_numbered = is_numbered
        self._take_usage_out = take_usage_out
        self._is_finished = False  # an event had a `finish_reason`
        self._is_last_begun = False  # and is too large to hold
        self._left_in_crlf = False  # an event was taken out whose last LF may still come
        self._number = b""
        self.is_between = True  # events: nothing of what came is held, and nothing is expected of what comes
        self.waiting, self.waiting_bytes = meter.waiting, 0

    def __repr__(self) -> str:
        return f"<Live stream{', whole' * self.is_whole}{', in the middle of an event' * self.mid_event}>"

    @property
    def mid_event(self) -> bool:
        """Whether the client is in the middle of an oversized event."""
        return self._framer.mid_event

    @property
    def next_number(self) -> int:
        """The `sequence_number` of an event that would follow."""
        number = openai.sequence_number(self._number)
        return 0 if number is None else number + 1

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes, as far as they are the client's."""
        return data if self._is_text(data) else self._examined(data)

    def _is_text(self, data: bytes) -> bool:
        """Whether these are whole events of text, at a glance.

        As nearly every read of a stream is. They are metered later, many at a time.
        """
        if not (self.is_between and data.endswith(b"\n\n")) or has_usage(data):
            return False
        for sign in self.end_signs:
            if data.find(sign) >= 0:
                return False
        if self.is_numbered:
            self._take_number(data)
        self.waiting.append(data)
        self.waiting_bytes = waiting = self.waiting_bytes + len(data)
        if waiting > WAITING_BYTES:
            self.catch_up()
        return True

    def catch_up(self) -> None:
        """Look through the events that wait."""
        events = self._meter.catch_up()
        if events and self._take_usage_out and not self._is_finished:
            self._look_for_finish(events)
        self.waiting_bytes = 0

    def _examined(self, data: bytes) -> bytes:
        framer = self._framer
        if self._left_in_crlf and data:
            self._left_in_crlf = False
            data = data.removeprefix(b"\n")
        pieces = framer.take(data)
        passed = self._passed(pieces[0]) if len(pieces) == 1 else b"".join(map(self._passed, pieces))
        if self._left_in_crlf:
            self._left_in_crlf = framer.holds_nothing and data.endswith(b"\r")
        if self._is_last_begun and not framer.mid_event:
            self.is_whole = True
        self.is_between = framer.holds_nothing and not self._left_in_crlf and not self._is_last_begun
        return passed

    def end(self) -> bytes:
        """Return a last event without its blank line, unchanged.

        Readers differ on it.
        """
        rest = self._framer.end()
        return self._passed(rest) if rest else b""

    def last_words(self) -> bytes | None:
        """Return the rest of a stream that is whole, else None."""
        if self.mid_event:
            return None
        was_whole, rest = self.is_whole, self.end()
        if was_whole:
            return b""  # what came behind its end and is not whole
        return rest if self.is_whole else None

    def _passed(self, piece: bytes) -> bytes:
        """Meter whole events; return them without what only we requested."""
        if self.waiting:
            self.catch_up()
        if isinstance(piece, Fragment):
            self._meter.fragment(piece)
            self._look_at_start(piece)
        elif self._meter.events(piece) and self._take_usage_out:
            return b"".join([event for event in whole_events(piece) if not self._is_ours(event)])
        else:
            self._look(piece)
        return piece

    def _is_ours(self, event: bytes) -> bool:
        if openai.is_usage_only(event, finished=self._is_finished):
            self._left_in_crlf = True
            return True
        self._left_in_crlf = False
        self._look(event)
        return False

    def _look(self, events: bytes) -> None:
        for sign in self.end_signs:
            if sign in events and self._is_last(events, events.rfind(sign)):
                self.is_whole = True
        if self.is_numbered:
            self._take_number(events)
        elif not self._is_finished:
            self._look_for_finish(events)

    def _look_for_finish(self, events: bytes) -> None:
        count = events.count(_FINISH)
        if count and count > events.count(_NOT_FINISHED) and count > events.count(_NOT_FINISHED_SPACED):
            self._is_finished = openai.has_finish_reason(events)

    def _look_at_start(self, fragment: bytes) -> None:
        """Classify an event too large to hold by its start."""
        self._is_last_begun = self._is_last_begun or openai.begins_last(fragment[:_LOOKED_AT_BYTES])
        if self.is_numbered:
            self._take_number(fragment)

    def _take_number(self, events: bytes) -> None:
        at = events.rfind(_NUMBER)
        if at >= 0:
            self._number = events[at : at + _NUMBER_BYTES]

    def _is_last(self, events: bytes, place: int) -> bool:
        """Whether the event at this place is the stream's last."""
        end = blank_line_end(events, place)
        event = events[event_start(events, place) : end if end >= 0 else None]
        payload = event_data(event)
        return payload is not None and openai.is_last(payload, event_name(event))


def has_usage(events: bytes) -> bool:
    """Whether an event may report usage that is not null."""
    found = events.count(_USAGE)
    return found > 0 and found > events.count(_NULL_USAGE) + events.count(_NULL_USAGE_SPACED)
