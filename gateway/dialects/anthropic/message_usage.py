"""Read the usage of Messages, which comes in two parts."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.base import Usage
from gateway.dialects.openai.metering.usage_report import read_report


class MessagesUsage(Usage, frozen=True):
    """A usage with its report, which a later one is laid over."""

    report: dict[str, Any] = msgspec.field(default_factory=dict)


def read_message_report(report: object) -> MessagesUsage | None:
    """Read a decoded report; None where it holds no count."""
    usage = read_report(report)
    if usage is None or not isinstance(report, dict):
        return None
    return MessagesUsage(**{name: getattr(usage, name) for name in Usage.__struct_fields__}, report=report)


def joined_usage(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """Join two reports of one answer: the last of each field holds.

    A later one that is empty or all zero says nothing.
    """
    if later is None or earlier is None:
        return later or earlier
    if not later.total_tokens:
        return earlier
    if not (isinstance(earlier, MessagesUsage) and isinstance(later, MessagesUsage)):
        return later
    newer = {name: value for name, value in later.report.items() if value is not None}
    return read_message_report(earlier.report | newer) or later


def decoded_report(raw: msgspec.Raw) -> object:
    """Decode a report; None where it cannot be."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
