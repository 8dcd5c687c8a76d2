"""Convert records to rows and back.

How ids keep their type in a text column, and what a column can hold.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

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
PLACE = "\0"  # no id has it, and it comes before every other character
_MOST_KINDS = 4_096  # some 3 MB
_encode = msgspec.json.Encoder().encode

# Bounds of one request, far beyond what is real: an upstream's nonsense must not overflow the sum of a month.
MOST_TOKENS = 10**12
MOST_COST_NANO = 10**15
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")

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


class Kind(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What many rows have in common.

    Made once and compared as an object. `columns`: the values of `KIND_COLUMNS`; truths are numbers. `day`: its key in
    the daily sums but for the time, as one text that sorts as the key does. `key`, `scope`: its owners in the hourly.
    """

    columns: tuple[Any, ...]
    is_call: int
    answered: int
    further_requests: int
    day: str
    key: str
    scope: str | None
    key_id: str
    counted_on: str | None


def stored_kind(
    user_id: str,
    organisation_id: str | None,
    key_id: str,
    model: str,
    endpoint_id: str | None,
    route: str,
    counted_on: str | None,
    answered: int,
    further_requests: int | None,
) -> Kind:
    """The kind of a row with these columns."""
    organisation = NONE if organisation_id is None else organisation_id
    endpoint = NONE if endpoint_id is None else endpoint_id
    return Kind(
        (user_id, organisation_id, key_id, model, endpoint_id, route, counted_on, +answered, further_requests),
        +(" " in route),
        +answered,
        further_requests or 0,
        PLACE.join((organisation, user_id, key_id, model, endpoint)),
        f"k:{key_id}",
        None if counted_on is None else f"c:{counted_on}",
        key_id,
        counted_on,
    )


@lru_cache(maxsize=_MOST_KINDS)
def _kind_of(
    user: Id,
    organisation: Id | None,
    key: Id,
    model: Id,
    endpoint: Id | None,
    route: str,
    counted_on: str | None,
    answered: bool,
    requests: int,
) -> Kind:
    return stored_kind(
        stored_id(user),
        None if organisation is None else stored_id(organisation),
        stored_id(key),
        stored_id(model),
        None if endpoint is None else stored_id(endpoint),
        _clean(route, ROUTE_CHARACTERS),
        None if counted_on is None else stored_id(counted_on),
        answered,
        None if requests == 1 else _within(requests - 1, MOST_TOKENS) or None,
    )


class Row(NamedTuple):
    """A finished row.

    Its kind, a price that goes beside the table, and columns of its own.
    """

    kind: Kind
    price: str | None
    request_id: str
    client_request_id: str | None
    time_ms: int
    streamed: int
    status: int
    outcome: str
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
    details: str | None
    price_id: str | None
    failures: str | None
    summed: int


_OWN = Row._fields.index("request_id")
KIND_COLUMNS = (
    "user_id",
    "organisation_id",
    "key_id",
    "model",
    "endpoint_id",
    "route",
    "counted_on",
    "answered",
    "further_requests",
)
COLUMNS = (*Row._fields[_OWN:], *KIND_COLUMNS)  # of the table, in the order of `values_of`


def values_of(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Each row's values of `COLUMNS`."""
    return [row[_OWN:] + row[0].columns for row in rows]


def row_of(admission: Admission, settlement: Settlement) -> Row:
    """The finished row."""
    served = settlement.served_model
    price, client_request_id = settlement.price, admission.client_request_id
    used = settlement if _is_within(settlement) else _cut(settlement)
    return Row._make(
        (
            _kind_of(
                admission.user,
                admission.organisation,
                admission.key,
                admission.model if served is None else served,
                settlement.endpoint,
                admission.route,
                admission.counted_on,
                settlement.answered,
                settlement.requests,
            ),
            price,
            _clean(admission.request_id, REQUEST_ID_CHARACTERS),
            None if client_request_id is None else _clean(client_request_id, CLIENT_ID_CHARACTERS),
            round(admission.time * 1000),
            +admission.streamed,
            settlement.status,
            settlement.outcome,
            used.prompt_tokens,
            used.completion_tokens,
            used.cached_tokens,
            used.reasoning_tokens,
            used.total_tokens,
            used.usage_source,
            used.cost_nano,
            settlement.first_byte_ms,
            settlement.duration_ms,
            settlement.attempts,
            _json(settlement.details) if settlement.details else None,
            None if price is None else price_id(price),
            _json(settlement.failures) if settlement.failures else None,
            SUMMED,  # whoever stores it adds it to the sums besides
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


def _json(value: object) -> str:
    return without_nul(_encode(value).decode())


def _is_within(settlement: Settlement) -> bool:
    return (
        0 <= settlement.prompt_tokens <= MOST_TOKENS
        and 0 <= settlement.completion_tokens <= MOST_TOKENS
        and 0 <= settlement.cached_tokens <= MOST_TOKENS
        and 0 <= settlement.reasoning_tokens <= MOST_TOKENS
        and 0 <= settlement.total_tokens <= MOST_TOKENS
        and 0 <= settlement.cost_nano <= MOST_COST_NANO
    )


def _cut(settlement: Settlement) -> Settlement:
    """Cut what was used to its bounds."""
    return msgspec.structs.replace(
        settlement,
        **{name: _within(getattr(settlement, name), MOST_TOKENS) for name in _TOKENS},
        cost_nano=_within(settlement.cost_nano, MOST_COST_NANO),
    )


def _clean(text: str, most: int) -> str:
    """No column takes more characters."""
    return without_nul(text)[:most]


def without_nul(text: str) -> str:
    """PostgreSQL takes none."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def _within(count: int, most: int) -> int:
    return min(max(count, 0), most)
