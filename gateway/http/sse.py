"""Frame server-sent events, byte for byte.

Nothing is decoded and nothing normalised. Lines end with LF, CRLF or CR, in any mixture; an event ends with a blank
line and is passed out in the very call that brought that line's end.
"""

from __future__ import annotations

import re

# Two line ends in a row. Of the first one its last byte says enough, be it a CRLF's; that CRLF itself does not match.
# Each alternative begins with a literal, which lets `re` skip ahead to the next CR or LF.
_BLANK_LINE = re.compile(rb"\n\n|\n\r\n?|\r\r\n?")
_BOM = b"\xef\xbb\xbf"
_LF, _CR = 0x0A, 0x0D  # a search for a number skips the work of taking a bytes argument apart
_LINE_ENDS = b"\r\n"
# A line with its value; the colon and the blank behind it may be missing.
_DATA_LINE = re.compile(rb"^data(?:: ?([^\n]*))?$", re.MULTILINE)
_EVENT_LINE = re.compile(rb"^event(?:: ?([^\n]*))?$", re.MULTILINE)


class Fragment(bytes):
    """A piece of an event too large to hold."""

    __slots__ = ()


class EventFramer:
    """Cut a stream of bytes into events.

    Joined, the pieces given out and `end()` are the bytes fed.

    An event is everything up to and with its blank line. Comments and other lines without data that precede an event's
    lines belong to it; a surplus blank line is an event of its own, without data. A blank line that ends with CR ends
    its event at once; should the CR's LF follow in a later call, it is given out at once as a piece `b"\\n"` of its
    own, like a surplus blank line.

    An event of which more than `max_held` bytes would have to be held is given out in `Fragment`s, without delay from
    then on; the piece that ends it is a `Fragment` as well.
    """

    __slots__ = ("_held", "_last_byte", "_max_held", "_scanned", "mid_event")

    def __init__(self, max_held: int = 1 << 20) -> None:
        self._max_held = max_held
        self._held = bytearray()  # the open event, as far as it has come
        self._scanned = 0  # no blank line's two line ends meet before this place in `_held`
        self._last_byte = b""  # the last one given out of an open event too large to hold
        self.mid_event = False
        """True while the last piece given out was a `Fragment` whose event has not ended."""

    def __repr__(self) -> str:
        return f"<EventFramer held={len(self._held)} mid_event={self.mid_event}>"

    @property
    def holds_nothing(self) -> bool:
        """Whether all bytes are out and no event is open."""
        return not self._held and not self.mid_event

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, in order."""
        one_event = data.find(b"\n\n") == len(data) - 2 > 0 and data[0] != _LF and _CR not in data
        if one_event and not self._held and not self.mid_event:  # as most reads of a stream are: worth being quick
            return [data]
        return self._cut(data) if data else []

    def take(self, data: bytes) -> list[bytes]:
        """Feed bytes; return whole events joined in one piece.

        What a read costs is not up to its events.
        """
        if not self._held and not self.mid_event and data.endswith(b"\n\n"):
            return [data]
        pieces: list[bytes] = []
        if self.mid_event and data:
            data = data[self._continue_oversize(data, pieces, _CR in data) :]
        if not data:
            return pieces
        end = _last_blank_line_end(bytes(self._held[-1:]), data)
        if end:
            pieces.append(bytes(self._held) + data[:end])
            self._held.clear()
        if end < len(data):
            self._hold(data[end:] if end else data, pieces)
        return pieces

    def end(self) -> bytes:
        """Give up the held, unfinished rest (empty if there is none)."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def _cut(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        start, has_cr = 0, _CR in data
        if self.mid_event:
            start = self._continue_oversize(data, pieces, has_cr)
        elif self._held:
            start = self._continue_held(data, pieces, has_cr)
        while start < len(data):
            end = _event_end(data, start, has_cr)
            if end < 0:
                self._hold(data[start:], pieces)
                break
            pieces.append(data[start:end])
            start = end
        return pieces

    def _continue_held(self, data: bytes, pieces: list[bytes], has_cr: bool) -> int:
        """Complete the held event; return the bytes used."""
        before = len(self._held)
        self._held += data
        end = _blank_line_end(self._held, self._scanned, has_cr)
        if end < 0:
            self._release_oversize(pieces)
            return len(data)
        pieces.append(bytes(memoryview(self._held)[:end]))
        self._held.clear()
        return end - before

    def _continue_oversize(self, data: bytes, pieces: list[bytes], has_cr: bool) -> int:
        """Pass on an oversized event; return the bytes used.

        Up to its end.
        """
        end = _blank_line_end(self._last_byte + data, 0, has_cr) - 1
        self.mid_event = end < 0
        used = len(data) if self.mid_event else end
        pieces.append(Fragment(data[:used]))
        self._last_byte = data[-1:]
        return used

    def _hold(self, data: bytes, pieces: list[bytes]) -> None:
        self._held += data
        self._release_oversize(pieces)

    def _release_oversize(self, pieces: list[bytes]) -> None:
        self._scanned = len(self._held) - 1  # a line end at the very end may be the first of two
        if len(self._held) <= self._max_held:
            return
        pieces.append(Fragment(self._held))
        self._last_byte = bytes(self._held[-1:])
        self._held.clear()
        self.mid_event = True


def _event_end(data: bytes, start: int, has_cr: bool) -> int:
    """Where the event that begins at `start` ends, or -1."""
    if data[start] not in _LINE_ENDS:
        return _blank_line_end(data, start, has_cr)
    return start + 2 if data.startswith(b"\r\n", start) else start + 1


def _blank_line_end(data: bytes | bytearray, start: int, has_cr: bool) -> int:
    """Return the end of the first blank line, or -1.

    After a line's end; `has_cr`: whether what is new has a CR.
    """
    if not has_cr:
        found = data.find(b"\n\n", start)
        return found + 2 if found >= 0 else -1
    match = _BLANK_LINE.search(data, start)
    return match.end() if match else -1


def blank_line_end(data: bytes | bytearray, start: int = 0) -> int:
    """Return the first blank line's end behind `start`, or -1.

    One that ends with CR is over with that.
    """
    found = data.find(b"\n\n", start)
    if data.find(b"\r", start, found if found >= 0 else len(data)) < 0:
        return found + 2 if found >= 0 else -1
    match = _BLANK_LINE.search(data, start)
    return match.end() if match else -1


def event_start(data: bytes | bytearray, before: int, start: int = 0) -> int:
    """Return where the event open at `before` begins.

    Of those behind `start`: behind a blank line, or with it.
    """
    lines = data[start:before]
    if _CR in lines:
        lines = lines.replace(b"\r\n", b"\n\0").replace(b"\r", b"\n")  # of the same length
    blank = max(lines.rfind(b"\n\n"), lines.rfind(b"\n\0\n"))
    return start + blank + 2 if blank >= 0 else start


def _last_blank_line_end(before: bytes, data: bytes) -> int:
    """Return where the last event in `data` ends, or 0.

    `before`: the open event's last byte, if one is open.
    """
    text = before + data if before else data
    # Two line ends in a row are a blank line, whatever stands before them; a CRLF is one.
    last = max(text.rfind(b"\n\n"), text.rfind(b"\n\r"), text.rfind(b"\r\r")) if _CR in text else text.rfind(b"\n\n")
    if last < 0:
        # Blank lines where no event is open.
        return 0 if before else len(data) - len(data.lstrip(_LINE_ENDS))
    end = last + 2
    if text[end - 1] == _CR and text.startswith(b"\n", end):
        end += 1
    return end - len(before)


def whole_events(events: bytes) -> list[bytes]:
    """Split a piece into its events.

    It begins and ends with one; the last may lack its blank line.
    """
    framer = EventFramer(len(events))
    pieces = framer.feed(events)
    rest = framer.end()
    return [*pieces, rest] if rest else pieces


def events_data(events: bytes, shortest: int = 1) -> list[bytes]:
    """Yield the data of each event in whole events.

    Of those that have at least so many bytes in all.

    In time that grows with the bytes alone: a million empty events are no more work than one large one.
    """
    found = [_data_of_lines(event) for event in _with_lf(events).split(b"\n\n") if len(event) >= shortest]
    return [data for data in found if data is not None]


def event_data(event: bytes) -> bytes | None:
    """Return the data lines joined by LF, or None.

    None for comments, `retry:`, blank lines only.
    """
    if event.startswith(b"data: ") and event.find(_LF) == len(event) - 2 and _CR not in event:
        return event[6:-2]
    return _data_of_lines(_with_lf(event))


def event_name(event: bytes) -> bytes | None:
    """Return the last `event:` line's value, or None.

    None where there is none or it is empty (which means the default name).
    """
    if b"event" not in event:
        return None
    names = _EVENT_LINE.findall(_with_lf(event).removeprefix(_BOM))
    return (names[-1] or None) if names else None


def _data_of_lines(lines: bytes) -> bytes | None:
    """As `event_data`, of lines that end with LF."""
    lines = lines.removeprefix(_BOM)
    start = 0 if lines.startswith(b"data") else lines.find(b"\ndata") + 1
    if lines.startswith(b"data:", start):
        value = lines[start + len(b"data:") :].rstrip(b"\n")
        if _LF not in value:  # the only line of data, and the last
            return value.removeprefix(b" ")
    values = _DATA_LINE.findall(lines) if b"data" in lines else None
    return b"\n".join(values) if values else None


def _with_lf(lines: bytes) -> bytes:
    return lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if _CR in lines else lines
