"""Render records as CSV (RFC 4180), safe in a spreadsheet."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from gateway.pricing import Usage
from gateway.usage.receipts import RequestRecord
from gateway.usage.views.amounts import kinds_of, requests_of

# A spreadsheet takes a cell that begins like this for a formula, and runs it. Ids come from clients and records.
_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NEEDS_QUOTES = frozenset('",\r\n')
_EXACT_COST_DIGITS = 9
_COLUMNS = (
    *("request_id", "client_request_id", "time", "user", "organisation", "key", "model", "endpoint", "route"),
    *("streamed", "status", "outcome", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"),
    *("total_tokens", "usage_source", "cost", "first_byte_ms", "duration_ms", "attempts"),
)
_KINDS = tuple(kinds_of(Usage()))  # by the component of a price that each is paid by


def csv_line(record: RequestRecord) -> str:
    """One record as a line, in the order of `CSV_HEADER`."""
    cells = [getattr(record, name) if name != "cost" else _cost(record.cost_nano) for name in _COLUMNS]
    kinds = kinds_of(record.usage)
    tier = record.details.service_tier if record.details is not None else None
    cells += (requests_of(record), *(kinds[name] for name in _KINDS), tier, record.price)
    return _line([_cell(cell) for cell in cells])


def _cost(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-_EXACT_COST_DIGITS)


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


CSV_HEADER = _line([*_COLUMNS, "request", *_KINDS, "service_tier", "price"])
