"""Plan an upstream's faults: what is sent, when, and its end.

A plan is pure: the same request and the same dice give the same bytes. It knows nothing of sockets, so that it may
break every rule of HTTP; `faulty` plays it.
"""

from __future__ import annotations

import enum
import gzip
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import NamedTuple

from gateway.demo.answers import DONE, EVENTS, JSON, Asked, chunk, chunked, document, error, event, events, head, sized

DRIP_SECONDS = 0.02
ENDLESS_PIECE_SECONDS = 0.005
_ENDLESS_PIECE_BYTES = 4096
RETRY_AFTER_SECONDS = 1


class Stall(NamedTuple):
    """Silence. `seconds` None: until the peer leaves."""

    seconds: float | None = None


class Endless(NamedTuple):
    """Repeat `data`, with pauses, until the peer leaves."""

    data: bytes
    pause_seconds: float = ENDLESS_PIECE_SECONDS


class End(enum.Enum):
    """The end of a connection."""

    CLOSE = "FIN"
    RESET = "RST"


Step = bytes | Stall | Endless | End
Plan = Iterable[Step]


class Fault(NamedTuple):
    """One fault.

    `plan` is the steps by a request and the dice that choose places; `says` is for people.
    """

    name: str
    says: str
    plan: Callable[[Asked, random.Random], Plan]


def whole(asked: Asked, dice: random.Random | None = None) -> Plan:
    """The good answer, which faults are departures from."""
    return [_stream(asked) if asked.stream else sized(200, document(asked, asked.usage))]


def dice_for(seed: int, number: int) -> random.Random:
    """The dice of a run's nth request."""
    return random.Random(f"{seed}:{number}")


def picked(faults: Sequence[Fault], seed: int, number: int) -> Fault:
    """The fault of a run's nth request."""
    return dice_for(seed, number).choice(faults)


# --- the connection


def _reset_at_once(_: Asked, __: random.Random) -> Plan:
    return [End.RESET]


def _close_at_once(_: Asked, __: random.Random) -> Plan:
    return [End.CLOSE]


def _reset_in_head(asked: Asked, dice: random.Random) -> Plan:
    return [_cut(asked, dice, in_head=True), Stall(0), End.RESET]


def _reset_in_body(asked: Asked, dice: random.Random) -> Plan:
    # A moment for what was sent to be read: a reset takes with it whatever its peer has not yet taken.
    return [_cut(asked, dice), Stall(DRIP_SECONDS), End.RESET]


def _close_in_body(asked: Asked, dice: random.Random) -> Plan:
    return [_cut(asked, dice), End.CLOSE]


def _stall_at_once(_: Asked, __: random.Random) -> Plan:
    return [Stall()]


def _stall_in_head(asked: Asked, dice: random.Random) -> Plan:
    return [_cut(asked, dice, in_head=True), Stall()]


def _stall_in_body(asked: Asked, dice: random.Random) -> Plan:
    return [_cut(asked, dice), Stall()]


def _slow_drip(asked: Asked, _: random.Random) -> Iterator[Step]:
    (answer,) = whole(asked)
    assert isinstance(answer, bytes)  # noqa: S101 - `whole` has one step
    step = max(1, len(answer) // 40)
    for start in range(0, len(answer), step):
        yield answer[start : start + step]
        yield Stall(DRIP_SECONDS)


# --- HTTP


def _length_too_long(asked: Asked, _: random.Random, *, is_whole: bool = False) -> Plan:
    """Declare more than is sent."""
    body, kind = _body(asked, is_whole=is_whole)
    return [head(200, kind, ("content-length", str(len(body) + 100))) + body, End.CLOSE]


def _length_too_short(asked: Asked, _: random.Random) -> Plan:
    """Declare less than is sent."""
    body, kind = _body(asked)
    return [sized(200, body, content_type=kind) + b"left over"]


def _second_answer(asked: Asked, _: random.Random) -> Plan:
    """Send two answers to one request: the second is dropped."""
    poison = sized(200, b'{"id":"poison","choices":[]}')
    return [*whole(asked), poison]


def _truncated_chunk(asked: Asked, _: random.Random, *, is_whole: bool = False) -> Plan:
    body, kind = _body(asked, is_whole=is_whole)
    first = head(200, kind, ("transfer-encoding", "chunked"))
    return [first + b"%x\r\n%b" % (len(body) + 64, body), End.CLOSE]


def _no_last_chunk(asked: Asked, _: random.Random, *, is_whole: bool = False) -> Plan:
    body, kind = _body(asked, is_whole=is_whole)
    return [head(200, kind, ("transfer-encoding", "chunked")) + chunk(body), End.CLOSE]


def _bad_chunk(asked: Asked, _: random.Random, *, is_whole: bool = False) -> Plan:
    """The second chunk's size is no number."""
    body, kind = _body(asked, is_whole=is_whole)
    return [head(200, kind, ("transfer-encoding", "chunked")) + chunk(body), Stall(DRIP_SECONDS), b"zz\r\nzz\r\n"]


def _garbage(_: Asked, dice: random.Random) -> Plan:
    return [b"\xff" + dice.randbytes(dice.randrange(20, 2000)), Stall(1), End.CLOSE]


def _two_lengths(asked: Asked, _: random.Random) -> Plan:
    body, kind = _body(asked)
    return [head(200, kind, ("content-length", str(len(body))), ("content-length", "1")) + body]


def _endless_head(_: Asked, __: random.Random) -> Plan:
    return [b"HTTP/1.1 200 OK\r\n", Endless(b"x-more: " + b"m" * 1000 + b"\r\n")]


def _endless_body(asked: Asked, _: random.Random) -> Plan:
    """Valid all the way, and without an end."""
    first = head(200, EVENTS if asked.stream else JSON, ("transfer-encoding", "chunked"))
    text = " " * _ENDLESS_PIECE_BYTES
    data = event({"id": asked.id, "choices": [], "padding": text}) if asked.stream else text.encode()
    return [first, Endless(chunk(data))]


def _endless_event(asked: Asked, _: random.Random) -> Plan:
    """Stream a first event that never ends."""
    return [head(200, EVENTS, ("transfer-encoding", "chunked")), chunk(b"data: "), Endless(chunk(b"e" * 1000))]


# --- the content


def _wrong_type(asked: Asked, _: random.Random) -> Plan:
    """A page of a captive portal, with status 200."""
    return [sized(200, b"<html>Please log in</html>", content_type="text/html")]


def _swapped_type(asked: Asked, _: random.Random) -> Plan:
    """Send events as JSON, or JSON as events."""
    body, kind = _body(asked)
    return [sized(200, body, content_type=JSON if kind == EVENTS else EVENTS)]


def _gzip(asked: Asked, _: random.Random) -> Plan:
    """Compressed, although identity was asked for."""
    body, kind = _body(asked)
    return [sized(200, gzip.compress(body, mtime=0), ("content-encoding", "gzip"), content_type=kind)]


def _gzip_lie(asked: Asked, dice: random.Random) -> Plan:
    """Declare gzip and send none."""
    _, kind = _body(asked)
    return [sized(200, dice.randbytes(200), ("content-encoding", "gzip"), content_type=kind)]


def _error_first(asked: Asked, _: random.Random) -> Plan:
    """Send 200, and an error as first event or answer."""
    refusal = error(f"fault in {asked.id}")
    return [chunked([event(refusal)])] if asked.stream else [sized(200, event(refusal)[6:-2])]


def _error_in_stream(asked: Asked, _: random.Random) -> Plan:
    """An error as the second event; the stream then ends well."""
    if not asked.stream:
        return _error_first(asked, _)
    return [chunked([events(asked)[0], event(error(f"fault in {asked.id}"))])]


def _done_twice(asked: Asked, _: random.Random) -> Plan:
    return _with_events(asked, [*events(asked, asked.usage), DONE])


def _no_done(asked: Asked, _: random.Random) -> Plan:
    return _with_events(asked, [each for each in events(asked, asked.usage) if each != DONE])


def _no_events(asked: Asked, _: random.Random) -> Plan:
    """A stream of comments only."""
    return _with_events(asked, [b": nothing to say\n\n"])


def _usage_twice(asked: Asked, _: random.Random) -> Plan:
    """Report usage twice, of which the last counts."""
    return _with_events(asked, events(asked, dict.fromkeys(asked.usage, 1), asked.usage))


def _usage_never(asked: Asked, _: random.Random) -> Plan:
    return [chunked(events(asked))] if asked.stream else [sized(200, document(asked, None))]


# --- refusals


def _status(status: int, *headers: tuple[str, str]) -> Callable[[Asked, random.Random], Plan]:
    def plan(asked: Asked, _: random.Random) -> Plan:
        return [sized(status, b'{"error":{"message":"fault in %b"}}' % asked.id.encode(), *headers)]

    return plan


def _limited_until_date(asked: Asked, dice: random.Random) -> Plan:
    """Refuse until an HTTP date, by the clock."""
    until = datetime.now(UTC) + timedelta(seconds=RETRY_AFTER_SECONDS + 1)
    return _status(429, ("retry-after", format_datetime(until, usegmt=True)))(asked, dice)


# --- parts


def _stream(asked: Asked) -> bytes:
    return chunked(events(asked, asked.usage))


def _with_events(asked: Asked, parts: list[bytes]) -> Plan:
    return [chunked(parts)] if asked.stream else whole(asked)


def _body(asked: Asked, *, is_whole: bool = True) -> tuple[bytes, str]:
    """Return the good answer's body and type."""
    if asked.stream:
        parts = events(asked, asked.usage)
        return b"".join(parts if is_whole else parts[:-1]), EVENTS
    return document(asked, asked.usage), JSON


def _cut(asked: Asked, dice: random.Random, *, in_head: bool = False) -> bytes:
    """Cut the good answer at a random byte."""
    (answer,) = whole(asked)
    assert isinstance(answer, bytes)  # noqa: S101 - `whole` has one step
    body_at = answer.index(b"\r\n\r\n") + 4
    if in_head:
        return answer[: dice.randrange(1, body_at - 1)]
    if not asked.stream:
        return answer[: dice.randrange(body_at, len(answer))]
    first, *_, last = events(asked, asked.usage)
    return answer[: dice.randrange(answer.index(first) + len(first), answer.rindex(last))]


FAULTS = (
    Fault("reset-at-once", "RST instead of an answer", _reset_at_once),
    Fault("close-at-once", "FIN instead of an answer", _close_at_once),
    Fault("reset-in-head", "RST at some byte of the head", _reset_in_head),
    Fault("reset-in-body", "RST at some byte of the body", _reset_in_body),
    Fault("close-in-body", "FIN at some byte of the body", _close_in_body),
    Fault("stall-at-once", "silence instead of an answer", _stall_at_once),
    Fault("stall-in-head", "silence from some byte of the head on", _stall_in_head),
    Fault("stall-in-body", "silence from some byte of the body on", _stall_in_body),
    Fault("slow-drip", "a few bytes at a time", _slow_drip),
    Fault("length-too-long", "content-length promises more than comes", _length_too_long),
    Fault(
        "length-too-long-after-done", "the same behind a stream's last event", partial(_length_too_long, is_whole=True)
    ),
    Fault("length-too-short", "bytes after the end of the answer", _length_too_short),
    Fault("second-answer", "a second answer to one request", _second_answer),
    Fault("truncated-chunk", "FIN within a chunk", _truncated_chunk),
    Fault(
        "truncated-chunk-after-done", "the same behind a stream's last event", partial(_truncated_chunk, is_whole=True)
    ),
    Fault("no-last-chunk", "FIN instead of the last chunk", _no_last_chunk),
    Fault("no-last-chunk-after-done", "the same behind a stream's last event", partial(_no_last_chunk, is_whole=True)),
    Fault("bad-chunk", "a chunk whose size is no number", _bad_chunk),
    Fault("bad-chunk-after-done", "the same behind a stream's last event", partial(_bad_chunk, is_whole=True)),
    Fault("two-lengths", "two content-lengths that disagree", _two_lengths),
    Fault("garbage", "random bytes instead of HTTP", _garbage),
    Fault("endless-head", "headers without end", _endless_head),
    Fault("endless-body", "a body or stream without end", _endless_body),
    Fault("endless-event", "one event without end", _endless_event),
    Fault("wrong-type", "a web page, with status 200", _wrong_type),
    Fault("swapped-type", "events called JSON, or JSON called events", _swapped_type),
    Fault("gzip", "compressed, although identity was asked for", _gzip),
    Fault("gzip-lie", "says gzip and is none", _gzip_lie),
    Fault("error-first", "status 200, and an error in it", _error_first),
    Fault("error-in-stream", "an error as the second event", _error_in_stream),
    Fault("done-twice", "a second [DONE]", _done_twice),
    Fault("no-done", "a stream without [DONE]", _no_done),
    Fault("no-events", "a stream of comments only", _no_events),
    Fault("usage-twice", "usage told twice, differently", _usage_twice),
    Fault("usage-never", "usage never told", _usage_never),
    Fault("429-retry-after", "429 with retry-after", _status(429, ("retry-after", str(RETRY_AFTER_SECONDS)))),
    Fault("429-retry-after-ms", "429 with retry-after-ms", _status(429, ("retry-after-ms", "700"))),
    Fault("429-date", "429 with retry-after as an HTTP date", _limited_until_date),
    Fault(
        "429-reset-requests", "429 with x-ratelimit-reset-requests", _status(429, ("x-ratelimit-reset-requests", "1s"))
    ),
    Fault("429-reset-tokens", "429 with x-ratelimit-reset-tokens", _status(429, ("x-ratelimit-reset-tokens", "0m1s"))),
    Fault("429-bare", "429 that does not say for how long", _status(429)),
    Fault("status-400", "400", _status(400)),
    Fault("status-401", "401: the credential is refused", _status(401)),
    Fault("status-403", "403", _status(403)),
    Fault("status-500", "500", _status(500)),
    Fault("redirect", "307 to somewhere else", _status(307, ("location", "http://127.0.0.1:9/"))),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
