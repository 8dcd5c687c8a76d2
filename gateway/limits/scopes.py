"""Who is counted together (contract §3): names of counters, made of ids.

`user:42:model:1`, `organisation:10:model:1`, `key:laptop`. Within an id, `:` and `%` are percent-encoded, so that no
two counters share a name.
"""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from gateway.limits.demand import Demand, is_limiting
from gateway.types import Access, Caller, Id, Limits, id_text

_KEY = "key:"
CALLS_A_MINUTE = 600  # of a user, for what runs no model


class Terms(msgspec.Struct, frozen=True):
    """The scopes that a caller's requests for a model count in.

    `organisation`: whose grant it is, else the user's first.
    """

    demands: tuple[Demand, ...]
    scope: str
    organisation: Id | None
    limits_cost: bool = False  # follows from the demands

    def __post_init__(self) -> None:
        limits_cost = any(demand.limits.cost is not None for demand in self.demands)
        msgspec.structs.force_setattr(self, "limits_cost", limits_cost)


def terms_of(access: Access, caller: Caller) -> Terms:
    """The same for each request of a caller for a model."""
    if access.source == "organisation":
        organisation = access.owner
    else:
        organisation = caller.organisations[0].id if caller.organisations else None
    return Terms(demands(access, caller), grant_scope(access, caller), organisation)


def demands(access: Access, caller: Caller) -> tuple[Demand, ...]:
    """List all limits that this request must keep to.

    Empty where there are none: then no limiter needs to be asked.
    """
    granted = access.limits
    wanted: list[Demand] = []
    if granted is not None and is_limiting(granted):
        wanted.append(Demand(grant_scope(access, caller), granted))
    for key in (caller.key, *caller.makers):  # what a key made shares its limits
        if key.limits is not None and is_limiting(key.limits):
            wanted.append(Demand(key_scope(key.id), key.limits))
    return tuple(wanted)


def call_terms(caller: Caller) -> Terms:
    """Return the scopes of a call that runs no model.

    It counts in the key's `concurrency` and in a bound of its own for each user, in nothing else.
    """
    scope = f"user:{_quoted(caller.user.id)}:calls"
    wanted = [Demand(scope, Limits(rpm=CALLS_A_MINUTE))]
    own = caller.key.limits
    if own is not None and own.concurrency is not None:
        wanted.append(Demand(key_scope(caller.key.id), Limits(concurrency=own.concurrency)))
    return Terms(tuple(wanted), scope, caller.organisations[0].id if caller.organisations else None)


def place_demands(caller: Caller) -> tuple[Demand, ...]:
    """List the key's own `rpm` and `concurrency` limits.

    They are asked before a large body is read.
    """
    return tuple(
        Demand(key_scope(key.id), Limits(rpm=own.rpm, concurrency=own.concurrency))
        for key in (caller.key, *caller.makers)
        for own in (key.limits,)
        if own is not None and (own.rpm is not None or own.concurrency is not None)
    )


def grant_scope(access: Access, caller: Caller) -> str:
    """Whom the winning grant counts: a whole organisation together, else each user.

    It is the same whether there are limits or not, and so fit for the ledger, from which totals are rebuilt.
    """
    model = _quoted(access.model.id)
    if access.source == "organisation" and access.owner is not None:
        return f"organisation:{_quoted(access.owner)}:model:{model}"
    return f"user:{_quoted(caller.user.id)}:model:{model}"


def key_scope(key_id: Id) -> str:
    return _KEY + _quoted(key_id)


def key_of(scope: str) -> str | None:
    """Return the key's id of a scope that counts a key.

    As text; None for the others.
    """
    return unquote(scope.removeprefix(_KEY)) if scope.startswith(_KEY) else None


def whose(scope: str) -> str:
    """Return a message's beginning that names the counter's owner."""
    if scope.startswith(_KEY):
        return "This key has"
    return "Your organisation has" if scope.startswith("organisation:") else "You have"


def _quoted(value: Id) -> str:
    text = id_text(value)
    return text.replace("%", "%25").replace(":", "%3A") if ":" in text or "%" in text else text
