"""W3C Trace Context: relay `traceparent` and `tracestate`, or continue them.

Without `telemetry` the gateway adds no span of its own, so nothing in them changes; with it, the attempt's span becomes
the parent of what the upstream records. What is not valid is dropped, as the recommendation has it: a broken
`traceparent` takes `tracestate` with it, a broken `tracestate` goes alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from multidict import CIMultiDictProxy, istr

_TRACEPARENT, _TRACESTATE = istr("traceparent"), istr("tracestate")
# version, trace id, parent id, flags; versions to come may add more, behind another dash
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?", re.ASCII)
_SAMPLED, _KNOWN_FLAGS = 1, 3  # whether it is recorded; whether its id is random, as far as version 00 knows flags
_SPAN_IDS = (1 << 64) - 1  # from 1
_LONGEST_PARENT = 512
_UNKNOWN_VERSION = "ff"
_KEY = r"[a-z0-9][a-z0-9_*/@-]{0,255}"
_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_MEMBER = re.compile(rf"{_KEY}={_VALUE}", re.ASCII)
_MOST_MEMBERS = 32
_LONGEST_STATE = 32 * 513


class Trace(NamedTuple):
    """A trace context.

    `fields` are the header lines for the upstream, each with its line end; `state` the one of `tracestate` among them.
    """

    trace_id: str
    parent_id: str
    flags: int
    fields: bytes
    state: str

    @property
    def is_sampled(self) -> bool:
        """Whether the caller records this trace."""
        return bool(self.flags & _SAMPLED)

    def continued(self, span_id: str) -> bytes:
        """Return the header lines of a call made within this span."""
        return f"traceparent: 00-{self.trace_id}-{span_id}-{self.flags & _KNOWN_FLAGS:02x}\r\n{self.state}".encode(
            "ascii"
        )


def span_id(request_id: str, attempt: int = 0) -> str:
    """Derive the id of a request's span, or an attempt's, from 1.

    Nothing has to be kept for it: the end of a request's id is random.
    """
    return f"{(int(request_id[-16:], 16) + attempt) % _SPAN_IDS + 1:016x}"


def trace_of(headers: CIMultiDictProxy[str]) -> Trace | None:
    """Return the request's trace; None without a valid one."""
    if _TRACEPARENT not in headers:
        return None
    parents = headers.getall(_TRACEPARENT)
    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 and len(parents[0]) <= _LONGEST_PARENT else None
    if found is None or not _is_meaningful(found[1], found[2], found[3], found[5]):
        return None
    members = _state(headers.getall(_TRACESTATE)) if _TRACESTATE in headers else ""
    state = f"tracestate: {members}\r\n" if members else ""
    fields = f"traceparent: {parents[0]}\r\n{state}"
    return Trace(found[2], found[3], int(found[4], 16), fields.encode("ascii"), state)


def _is_meaningful(version: str, trace_id: str, parent_id: str, more: str | None) -> bool:
    """Whether ids are not all zeros, and version 00 ends.

    It ends with its flags.
    """
    return (
        version != _UNKNOWN_VERSION
        and bool(trace_id.strip("0") and parent_id.strip("0"))
        and not (version == "00" and more is not None)
    )


def _state(lines: list[str]) -> str:
    """Join the lines; empty for none or an invalid one."""
    joined = ",".join(lines)
    if len(joined) > _LONGEST_STATE:
        return ""
    members = [member.strip(" \t") for member in joined.split(",")]
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members}
    is_valid = len(keys) == len(members) <= _MOST_MEMBERS and all(map(_MEMBER.fullmatch, members))
    return ",".join(members) if is_valid else ""
