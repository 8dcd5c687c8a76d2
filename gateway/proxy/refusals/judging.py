"""Judge an upstream's answer: for the request and for the endpoint."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.dialects import openai
from gateway.errors import (
    ConnectFailed,
    ConnectionCut,
    ConnectTimedOut,
    FirstByteTimedOut,
    IdleTimedOut,
    InvalidResponse,
    LoopDetected,
    TransportError,
)
from gateway.pool import Cause, retry_after_seconds
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import RawHeaders, Shape
from gateway.proxy.refusals.masking import readable

_TRIED_ELSEWHERE_FIRST = frozenset((402, 403, 404))
_FAILED = frozenset((401, 408, 425, 429))  # and all from 500
_MAY_REFUSE_STREAM_OPTIONS = frozenset((400, 422))
_LOOKED_AT_BYTES = 2**14
_UNKNOWN_FIELD = re.compile(
    rb"(?i)stream_options|include_usage|extra[ _](?:inputs?|fields?|forbidden|keys?|parameters?|arguments?)"
    rb"|(?:unknown|unrecogni[sz]ed|unexpected|unsupported|not support(?:ed)?)[ \w]{0,24}"
    rb"(?:field|key|param|argument|propert|option|member|attribute)"
    rb"|additional ?propert"
)
_REASONS: Mapping[type[TransportError], str] = {
    ConnectFailed: "connect",
    ConnectTimedOut: "connect",
    FirstByteTimedOut: "first_byte",
    ConnectionCut: "cut_off",
    IdleTimedOut: "idle",
    InvalidResponse: "invalid_answer",
}
_LOOP = b'"loop_detected"'


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


class Fault(NamedTuple):
    """Why an attempt failed.

    `wait_seconds`: for how long the upstream asks to be left alone. `words`: those of a 500 that may be the request's
    own fault. `is_loop`: the endpoint leads back to this gateway.
    """

    cause: Cause
    why: str
    wait_seconds: float | None = None
    words: bytes | None = None
    is_loop: bool = False


def fault_in(attempt: Attempt) -> Fault:
    """The fault behind a status that is a failed attempt."""
    status, why = attempt.status, f"status {attempt.status}"
    if status == 401:
        return Fault(Cause.CREDENTIALS, why)
    wait = retry_after_seconds(texts_of(attempt.headers), datetime.now(UTC)) if status == 429 or status >= 500 else None
    if status == 429:
        return Fault(Cause.RATE_LIMITED, why, wait)
    words = _words_of(attempt) if status == 500 and not wait else None
    return Fault(Cause.BROKEN, why, wait, words, is_loop=status == LoopDetected.status and _LOOP in attempt.body)


def _words_of(attempt: Attempt) -> bytes | None:
    content = readable(attempt.body, attempt.head.encoding) if attempt.shape is Shape.WHOLE else None
    return openai.error_words(content) if content is not None else None


def cause_of(error: TransportError) -> Cause:
    return Cause.TIMED_OUT if isinstance(error, ConnectTimedOut | FirstByteTimedOut) else Cause.BROKEN


def reason_of(error: TransportError | None, status: int) -> str:
    """Name why an attempt failed, in our own words."""
    if error is None:
        return "credential" if status == 401 else f"status_{status}"
    return next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), "broken")


def refuses_stream_options(attempt: Attempt) -> bool:
    """Whether a 400 or 422 refuses the field that we added.

    It names it, or says of some field that it does not know it.
    """
    if attempt.shape is not Shape.WHOLE or attempt.status not in _MAY_REFUSE_STREAM_OPTIONS:
        return False
    content = readable(attempt.body, attempt.head.encoding)
    return content is not None and _UNKNOWN_FIELD.search(content[:_LOOKED_AT_BYTES]) is not None


def texts_of(headers: RawHeaders) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
