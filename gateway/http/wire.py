"""Heads of answers as bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from gateway.http.message import Headers

_STATUS_LINES = {
    (status.value, http11): f"HTTP/1.{int(http11)} {status.value} {status.phrase}\n"
    for status in HTTPStatus
    for http11 in (False, True)
}
_pair = ": ".join


def with_answer_fields(fields: Headers, answer_fields: Headers) -> Headers:
    """Add what every answer bears, instead of its own of those names."""
    if not answer_fields:
        return fields
    names = {name for name, _ in answer_fields if name != "vary"}  # which may come as often as it likes
    return (*(field for field in fields if field[0] not in names), *answer_fields)


def head_bytes(status: int, headers: Iterable[tuple[str, str]], *, close: bool, http11: bool) -> bytes:
    """Return status line and fields. Raises ValueError.

    For a control character in a field: nothing can be smuggled in.
    """
    lines = [*map(_pair, headers), "date: " + _date(int(time.time()))]
    if close:
        lines.append("connection: close")
    fields = "\n".join(lines)
    if "\r" in fields or "\0" in fields or fields.count("\n") != len(lines) - 1:
        raise ValueError("a control character in a response header")
    status_line = _STATUS_LINES.get((status, http11)) or f"HTTP/1.{int(http11)} {status} \n"
    return f"{status_line}{fields}\n\n".replace("\n", "\r\n").encode("latin-1")


def answer_bytes(status: int, fields: Headers, body: bytes, *, close: bool, http11: bool) -> bytes:
    """A whole answer."""
    return head_bytes(status, (*fields, *length_field(status, body)), close=close, http11=http11) + body


def length_field(status: int, body: bytes) -> Headers:
    """`content-length`, which a 204 must not have."""
    return () if status == 204 else (("content-length", str(len(body))),)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
