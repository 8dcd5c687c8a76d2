"""Bound and escape what anybody's words bring into a log line."""

from __future__ import annotations

import json

from structlog.typing import EventDict, WrappedLogger

from gateway.types import Secret

# Of what strangers may send, in characters: a line stays small enough to be written in one piece.
LONGEST_PATH = 1_000
LONGEST_TEXT = 5_000  # what upstreams said is cut to 4,000 before
LONGEST_TRACEBACK = 20_000
MOST_ITEMS = 100


def make_short(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Bounds what anybody's words can add to the log."""
    longest = {"path": LONGEST_PATH, "exception": LONGEST_TRACEBACK}
    return {key: _shortened(value, longest.get(key, LONGEST_TEXT)) for key, value in event.items()}


def _shortened(value: object, longest: int) -> object:
    if isinstance(value, str):
        return value if len(value) <= longest else _cut(value, longest)
    if isinstance(value, list | tuple):
        more = [f"… and {len(value) - MOST_ITEMS} more"] if len(value) > MOST_ITEMS else []
        return [*(_shortened(item, longest) for item in value[:MOST_ITEMS]), *more]
    return value


def shortened_path(path: str) -> str:
    return _cut(path, LONGEST_PATH)


def _cut(text: str, longest: int) -> str:
    return f"{text[:longest]}… ({len(text)} characters)"


def make_printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape control characters for the console renderer.

    It would print them as they are (and a terminal would obey).
    """
    return {key: _escaped_lines(value) if key == "exception" else escaped(value) for key, value in event.items()}


def _escaped_lines(traceback: str) -> str:
    """Escape a traceback's lines, and keep them apart.

    A traceback is ours and needs its lines; what an exception's text quotes may be anybody's.
    """
    return "\n".join(str(escaped(line)) for line in traceback.split("\n"))


def escaped(value: object) -> object:
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, str) and not value.isprintable():
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)
    return value


def harmless_json(line: bytes) -> bytes:
    """Escape control characters from U+007F on, which terminals obey.

    JSON leaves them alone.
    """
    return "".join(c if c.isprintable() else _json_escaped(c) for c in line.decode()).encode()


def _json_escaped(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
