"""Convert records to rows and back.

How ids keep their type in a text column, and what a column can hold.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import msgspec

from gateway.types import Id
from gateway.usage.journal.records import Admission, Settlement

ID_CHARACTERS = 600  # what an index of PostgreSQL and MariaDB takes; see `longids` for what is longer
REQUEST_ID_CHARACTERS = 64
CLIENT_ID_CHARACTERS = 128
PRICE_ID_CHARACTERS = 32
_MOST_DIGITS = sys.int_info.default_max_str_digits  # of a number in a text; no id can have more and be one
ROUTE_CHARACTERS = 100
INTERRUPTED_STATUS = 503

SUMMED, SUMMED_BEFORE = 2, 1  # the latter: in sums that knew of no cached tokens

NONE = '"'  # no id is stored so: in a key of the sums it stands for NULL
_encode = msgspec.json.Encoder().encode

# Bounds of one request, far beyond what is real: an upstream's nonsense must not overflow the sum of a month.
MOST_TOKENS = 10**12
MOST_COST_NANO = 10**15

_OF_NUMBERS_AND_QUOTED = frozenset('-0123456789"')
_BEYOND_NUMBERS = ":"  # what begins with this or a later character is neither
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")  # as numbers are written: -0 is a text


def stored_id(value: Id) -> str:
    """Return a text that distinguishes numbers from strings.

    42 is `42`, "laptop" is `laptop`, and "42" is `"42"`.

    Whole, however long it is. A space at the end is quoted: MariaDB compares as if it were not there.
    """
    if not isinstance(value, str):
        return str(value)
    if value >= _BEYOND_NUMBERS and "\0" not in value and value[-1] != " ":  # most are
        return value
    clean = without_nul(value)
    looks_different = clean[:1] in _OF_NUMBERS_AND_QUOTED and (clean[:1] == '"' or _WHOLE_NUMBER.fullmatch(clean))
    return f'"{clean}"' if looks_different or clean.endswith(" ") else clean


def id_of(stored: str) -> Id:
    """What `stored_id` was given."""
    if stored.startswith('"'):
        return stored[1:-1]
    return id_of_text(stored)


def stored_forms(value: Id) -> tuple[str, ...]:
    """Return every stored text that equals this id.

    Ids compare as strings, so 42 and "42" are one.
    """
    return tuple(sorted({stored_id(str(value)), stored_id(id_of_text(str(value)))}))


def id_of_text(text: str) -> Id:
    """The number that a text is, else the text."""
    is_number = len(text) <= _MOST_DIGITS and _WHOLE_NUMBER.fullmatch(text)
    return int(text) if is_number else text


class Row(NamedTuple):
    """A finished row, in the order of the table's columns."""

    request_id: str
    client_request_id: str | None
    time_ms: int
    user_id: str
    organisation_id: str | None
    key_id: str
    model: str
    endpoint_id: str | None
    route: str
    streamed: bool
    status: int
    outcome: str
    answered: bool
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int
    usage_source: str
    cost_nano: int
    first_byte_ms: float | None
    duration_ms: float | None
    attempts: int
    counted_on: str | None
    details: str | None
    price_id: str | None
    failures: str | None
    summed: int
    further_requests: int | None
    price: str | None  # no column: it goes beside the table


def row_of(admission: Admission, settlement: Settlement) -> Row:
    """The finished row."""
    served = settlement.served_model
    price = settlement.price
    return Row._make(
        (
            _clean(admission.request_id, REQUEST_ID_CHARACTERS),
            _optional_text(admission.client_request_id, CLIENT_ID_CHARACTERS),
            round(admission.time * 1000),
            stored_id(admission.user),
            _optional_id(admission.organisation),
            stored_id(admission.key),
            stored_id(admission.model if served is None else served),
            _optional_id(settlement.endpoint),
            _clean(admission.route, ROUTE_CHARACTERS),
            admission.streamed,
            settlement.status,
            settlement.outcome,
            settlement.answered,
            _within(settlement.prompt_tokens, MOST_TOKENS),
            _within(settlement.completion_tokens, MOST_TOKENS),
            _within(settlement.cached_tokens, MOST_TOKENS),
            _within(settlement.reasoning_tokens, MOST_TOKENS),
            _within(settlement.total_tokens, MOST_TOKENS),
            settlement.usage_source,
            _within(settlement.cost_nano, MOST_COST_NANO),
            settlement.first_byte_ms,
            settlement.duration_ms,
            settlement.attempts,
            _optional_id(admission.counted_on),
            _optional_json(settlement.details),
            None if price is None else price_id(price),
            _optional_json(settlement.failures),
            SUMMED,  # whoever stores it adds it to the sums besides
            _within(settlement.requests - 1, MOST_TOKENS) or None,
            price,
        )
    )


def interrupted(admission: Admission) -> Settlement:
    """Return the settlement of a request whose process died.

    What it used is not known.
    """
    return Settlement(
        request_id=admission.request_id,
        served_model=None,
        endpoint=None,
        status=INTERRUPTED_STATUS,
        outcome="interrupted",
    )


@lru_cache(maxsize=1024)
def price_id(price: str) -> str:
    """The id of a price's JSON, the same in every process."""
    return sha256(price.encode("utf-8", "surrogatepass")).hexdigest()[:PRICE_ID_CHARACTERS]


def _optional_json(value: object) -> str | None:
    return without_nul(_encode(value).decode()) if value else None


def _optional_id(value: Id | None) -> str | None:
    return None if value is None else stored_id(value)


def _optional_text(value: str | None, most: int) -> str | None:
    return None if value is None else _clean(value, most)


def _clean(text: str, most: int) -> str:
    """No column takes more characters."""
    return without_nul(text)[:most]


def without_nul(text: str) -> str:
    """PostgreSQL takes none."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def _within(count: int, most: int) -> int:
    return count if 0 <= count <= most else min(max(count, 0), most)
