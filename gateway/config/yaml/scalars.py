"""Parse a scalar's text by the type wanted at its place.

The few words and number forms of YAML.
"""

from __future__ import annotations

import math
import re
import string
from datetime import UTC, datetime
from typing import Literal

import msgspec

from gateway.config.problems import Refused, shown

Kind = Literal["text", "whole number", "number", "boolean", "nothing", "reference"]

TRUE_WORDS = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"))
FALSE_WORDS = frozenset(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"))
NULL_WORDS = frozenset(("", "~", "null", "Null", "NULL"))

_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", re.ASCII)
_NUMBER = re.compile(
    r"""[-+]?(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?  # 1.5, 1e3; 007, octal in YAML 1.1
      | 0[xob][0-9a-fA-F_]+
      | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN)""",
    re.VERBOSE | re.ASCII,
)
_FIRST_OF_SPECIAL = frozenset("0123456789+-.~nNtTfFyYoO")
# What begins with one of these is text, as far as it needs no quotes at all.
FIRST_OF_TEXT = frozenset(string.ascii_letters) - _FIRST_OF_SPECIAL
_MOST_DIGITS = 25  # beyond any range that is asked for; keeps int() from its own limit
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}(?:[Tt ].+)?", re.ASCII)


class Scalar(msgspec.Struct, frozen=True, gc=False):
    """A scalar as it was found.

    `reference`: it came out of a `${…}`, so it must not be shown and has no type yet.
    """

    text: str
    kind: Kind


def plain_kind(text: str) -> Kind:
    """What YAML takes the unquoted `text` for."""
    if text[:1] not in _FIRST_OF_SPECIAL and text:
        return "text"
    if text in NULL_WORDS:
        return "nothing"
    if text in TRUE_WORDS or text in FALSE_WORDS:
        return "boolean"
    if _WHOLE.fullmatch(text):
        return "whole number"
    return "number" if _NUMBER.fullmatch(text) else "text"


def written(text: str) -> Scalar:
    """Parse a scalar as it stands in the file.

    Plain, or in quotes with nothing escaped inside.
    """
    return Scalar(text[1:-1], "text") if text[0] in "\"'" else Scalar(text, plain_kind(text))


def whole_number(text: str) -> int | None:
    """Parse decimal digits, with `_` between them; `None` for others.

    Leading zeros included.
    """
    return int(text) if len(text) <= _MOST_DIGITS and _WHOLE.fullmatch(text) else None


def short_number(text: str) -> int | None:
    """Parse the short numbers that ids mostly are; `None` for others."""
    return int(text) if text.isdecimal() and text[0] != "0" and len(text) < 19 and text.isascii() else None


def number(text: str) -> float | None:
    """A finite decimal number, `None` for anything else."""
    if len(text) > 2 * _MOST_DIGITS or not _NUMBER.fullmatch(text):
        return None
    try:
        value = float(text)
    except ValueError:  # 0x1F, .inf, 1__0
        return None
    return value if math.isfinite(value) else None


def truth(text: str) -> bool | None:
    if text in TRUE_WORDS:
        return True
    return False if text in FALSE_WORDS else None


def moment(text: str) -> datetime | None:
    """Parse a date or ISO 8601 time, in UTC; `None` for others.

    A date is its first moment; a time without a zone is taken as UTC.
    """
    if not _TIME.fullmatch(text):
        return None
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def wrong_type(expected: str, scalar: Scalar, *, secret: bool) -> Refused:
    """Return `expected X, found Y`, without what may be a secret."""
    return Refused(f"expected {expected}, found {_described(scalar, secret=secret)}{_quoting_advice(expected, scalar)}")


def _described(scalar: Scalar, *, secret: bool) -> str:
    if scalar.kind == "nothing":
        return "nothing"
    if scalar.kind == "reference":
        return "something else behind the `${…}`"
    if secret:
        return f"a {scalar.kind}" if scalar.kind != "text" else "other text"
    return f"the {scalar.kind} {shown(scalar.text) if scalar.kind == 'text' else scalar.text[:60]}"


def _quoting_advice(expected: str, scalar: Scalar) -> str:
    if scalar.kind in ("boolean", "number", "whole number") and "text" in expected:
        return " (put it in quotes if text is meant)"
    if scalar.kind == "text" and expected in ("a whole number", "a number") and number(scalar.text) is not None:
        return " (take the quotes away)"
    return ""
