"""Write request heads that cannot be read as two."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TOKENS = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\n[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")


def request_head(method: str, target: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """Return a request's head, its blank line included.

    Header names and their order stay as given.

    Raises ValueError for what does not belong on the wire: a method or name that is no token, a space in the target,
    control characters anywhere (a tab within a value is allowed), characters beyond Latin-1. The message names the
    header, never its value.
    """
    names = "\n".join([method, *[name for name, _ in headers]])
    if names.count("\n") != len(headers) or not _TOKENS.fullmatch(names):
        raise ValueError(f"the method or a header's name is not a token: {names!r}")
    if not target or not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("the request target is empty or holds characters that must be percent-encoded")
    if not "".join([value for _, value in headers]).isprintable():
        _check_values(headers)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return _latin1(f"{method} {target} HTTP/1.1\r\n{lines}\r\n")


def _check_values(headers: Sequence[tuple[str, str]]) -> None:
    """`str.isprintable` refuses more than control characters, but nothing that a header needs."""
    for name, value in headers:
        if not value.replace("\t", "").isprintable():
            raise ValueError(f"the value of {name} holds a control character")


def _latin1(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("a header's value holds a character beyond Latin-1") from None
