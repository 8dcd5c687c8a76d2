"""Render records as CSV (RFC 4180), safe in a spreadsheet."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from gateway.usage import UsageRecord

# A spreadsheet takes a cell that begins like this for a formula, and runs it. Ids come from clients and records.
_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NEEDS_QUOTES = frozenset('",\r\n')
_EXACT_COST_DIGITS = 9


def csv_line(record: UsageRecord) -> str:
    """One record as a line, in the order of `CSV_HEADER`."""
    return _line([_cell(getattr(record, name)) for name in UsageRecord.__struct_fields__])


def _cell(value: object) -> str:
    """Render a value, quoted and without formulas.

    Numbers as numbers; texts quoted where they must be, and with an apostrophe before what could be a formula.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    if isinstance(value, float | Decimal):
        return f"{value:.{_EXACT_COST_DIGITS}f}".rstrip("0").rstrip(".")
    return str(value) if isinstance(value, int) else _text(str(value))


def _text(text: str) -> str:
    guarded = f"'{text}" if text.startswith(_BEGINS_A_FORMULA) else text
    if _NEEDS_QUOTES.isdisjoint(guarded):
        return guarded
    return '"' + guarded.replace('"', '""') + '"'


def _line(cells: list[str]) -> str:
    return ",".join(cells) + "\r\n"


CSV_HEADER = _line(list(UsageRecord.__struct_fields__))
