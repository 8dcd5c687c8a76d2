"""What an upstream's answer, or the lack of one, means for the request and for the endpoint."""

from __future__ import annotations

import enum

from gateway.errors import ConnectTimedOut, FirstByteTimedOut, TransportError
from gateway.pool import Cause
from gateway.relay.attempt import Attempt, Shape
from gateway.relay.outlet import RawHeaders

_TRIED_ELSEWHERE_FIRST = frozenset((403, 404))
_FAILED = frozenset((401, 408, 425, 429))  # and all from 500
_MAY_REFUSE_STREAM_OPTIONS = frozenset((400, 422))


class Meaning(enum.Enum):
    """What a status means."""

    ANSWER = "answer"
    FAILED = "failed"  # a failed attempt: the next endpoint is tried
    REDIRECT = "redirect"
    REFUSED = "refused"  # the request is at fault: relayed
    REFUSED_HERE = "refused_here"  # relayed where no other endpoint does better


def meaning_of(status: int) -> Meaning:
    if 200 <= status < 300:
        return Meaning.ANSWER
    if status >= 500 or status in _FAILED:
        return Meaning.FAILED
    if status < 400:
        return Meaning.REDIRECT
    return Meaning.REFUSED_HERE if status in _TRIED_ELSEWHERE_FIRST else Meaning.REFUSED


def cause_of(error: TransportError) -> Cause:
    return Cause.TIMED_OUT if isinstance(error, ConnectTimedOut | FirstByteTimedOut) else Cause.BROKEN


def refuses_stream_options(attempt: Attempt) -> bool:
    """A 400 or 422 that names what we added. Others are the client's own, and asking twice would not mend them."""
    if attempt.shape is not Shape.WHOLE or attempt.status not in _MAY_REFUSE_STREAM_OPTIONS:
        return False
    text = attempt.body.lower()
    return b"stream_options" in text or b"include_usage" in text


def texts_of(headers: RawHeaders) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
