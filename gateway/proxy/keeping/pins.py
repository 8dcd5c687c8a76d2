"""Find a request's objects, and the account that keeps them.

They must be the caller's; unknown and foreign ones are one and the same 404 (contract §12).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from itertools import islice
from typing import Any, NamedTuple

from gateway.dialects.base import Operation
from gateway.dialects.openai.request_body import may_have
from gateway.dialects.references import Positions, Reference
from gateway.errors import ObjectNotFound, ObjectsApart
from gateway.objects.accounts import Account, Accounts
from gateway.objects.index import ObjectIndex
from gateway.objects.record import ObjectRecord
from gateway.types import Model, id_text

_STEP = re.compile(r"(?:^|\[)([^\[\]]*)")
_MOST_REFERENCES = 10_000  # of one body; the rest is the upstream's to refuse
_CONTENT_NAME = b'"encrypted_content"'


MaySee = Callable[[ObjectRecord], bool]


class Named(NamedTuple):
    """What a request names: objects by path and body, and known content."""

    references: tuple[Reference, ...]
    hashes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.references or self.hashes)


class Pin(NamedTuple):
    """The account that keeps what a request names, or makes it.

    `models`: those whose endpoints may be asked where the request itself needs none, the best first.
    """

    account: Account
    models: tuple[Model, ...] = ()

    def is_at(self, model: Model) -> bool:
        """Whether one of the model's endpoints belongs to the account."""
        return bool(self.account.endpoints_of(model))


class Found(NamedTuple):
    """The objects that a request names, all of them the caller's.

    `account` None: it names none that is known. `unknown`: ids that were not made through this gateway.
    """

    account: Account | None
    records: tuple[ObjectRecord, ...]
    unknown: tuple[Reference, ...]


def named_by(operation: Operation, params: Mapping[str, str], fields: Mapping[str, Any], raw: bytes | None) -> Named:
    """List what a request names.

    `raw` None: of a form, whose fields are few.
    """
    found = [Reference(each.kind, params[each.name], (each.name,)) for each in operation.segments if each.kind]
    bodies = list(_of_form(fields)) if raw is None else [fields] if may_have(operation.pins.signs, raw) else []
    if operation.pins:
        inner = (reference for body in bodies for reference in operation.pins.within(body))
        found += islice(inner, _MOST_REFERENCES)
    hashes: tuple[str, ...] = ()
    if operation.content_pins and raw is not None and _CONTENT_NAME in raw:
        hashes = hashes_of(operation.content_pins, fields)
    return Named(tuple(found), hashes)


def _of_form(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a form's texts as JSON has them: `video[id]` is nested."""
    for name, values in fields.items():
        first, *steps = _STEP.findall(name)
        for value in values if isinstance(values, list) else [values]:
            yield {first: reduce(lambda inner, step: {step: inner} if step else [inner], reversed(steps), value)}


def hashes_of(positions: Positions, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Hash each content at these positions."""
    contents = dict.fromkeys(each.id for each in positions.within(fields))
    return tuple(hashlib.sha256(each.encode("utf-8", "surrogatepass")).hexdigest() for each in contents)


async def find(
    index: ObjectIndex,
    accounts: Accounts,
    owner: str,
    named: Named,
    *,
    takes_unknown: bool,
    may_see: MaySee | None = None,
) -> Found:
    """Find what a request names.

    `takes_unknown`: ids that nobody has made through this gateway are passed on. `may_see`: whether the key is for what
    is the owner's.

    Raises ObjectNotFound, ObjectsApart or StoreUnavailable.
    """
    records = await index.find({each.id for each in named.references}) if named.references else {}
    unknown = tuple(each for each in named.references if each.id not in records)
    for reference in named.references:  # in the body's order, lest it tell which of two ids is known
        record = records.get(reference.id)
        if not takes_unknown if record is None else not _is_reached(record, owner, may_see):
            raise no_such_object(reference.param)
    places = _places(records, named.references, accounts)
    if named.hashes:
        places += await _places_of_content(index, accounts, owner, named.hashes)
    if any(place is not places[0] for place in places):
        raise objects_apart()
    if records:
        index.touch(records.values())
    return Found(places[0] if places else None, tuple(records.values()), unknown)


def _is_reached(record: ObjectRecord, owner: str, may_see: MaySee | None) -> bool:
    return record.owner == owner and (may_see is None or may_see(record))


def _places(records: Mapping[str, ObjectRecord], references: Iterable[Reference], accounts: Accounts) -> list[Account]:
    return [_account_of(records[each.id], each, accounts) for each in references if each.id in records]


async def _places_of_content(
    index: ObjectIndex, accounts: Accounts, owner: str, hashes: tuple[str, ...]
) -> list[Account]:
    """List where the owner's content was made, as far as known.

    And still configured.
    """
    made = await index.find_content(hashes)
    found = [accounts.find(place.account) for place in made.values() if place.owner == owner]
    return [account for account in found if account is not None]


def models_at(account: Account, models: Iterable[Model], first: str | None = None) -> tuple[Model, ...]:
    """Return the models with endpoints of an account that speak its protocol.

    `first`: the id, as text, of the one to ask first.
    """
    members = {model_id for model_id, _ in account.members}
    found = [
        model
        for model in models
        if id_text(model.id) in members
        and any("openai" in endpoint.protocols for endpoint in account.endpoints_of(model))
    ]
    return tuple(sorted(found, key=lambda model: id_text(model.id) != first))


def no_such_object(param: str) -> ObjectNotFound:
    """Return one error for unknown and foreign objects."""
    return ObjectNotFound(f"No object of yours has the id in `{param}`.", param=param)


def objects_apart() -> ObjectsApart:
    return ObjectsApart(
        "The objects of this request live at different endpoints, or at none of its model's; "
        "name a model that has made them all."
    )


def _account_of(record: ObjectRecord, reference: Reference, accounts: Accounts) -> Account:
    account = accounts.find(record.account)
    if account is None:
        raise ObjectNotFound(
            f"The endpoint that keeps the object in `{reference.param}` is not configured any more; "
            "it can be reached again once it is back.",
            param=reference.param,
        )
    return account
