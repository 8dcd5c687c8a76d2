"""Choose where a user's things are made that need no model.

Chosen once, by rendezvous hash among the endpoints of the assigned model that keep objects, and remembered (contract
§12).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gateway.errors import ModelRequired
from gateway.objects.accounts import Account, Accounts
from gateway.objects.index import ObjectIndex
from gateway.types import Access, Endpoint, Model, id_text

MODEL_HEADER = "x-gateway-model"


async def home_of(index: ObjectIndex, accounts: Accounts, owner: str, assigned: Access | None) -> Account:
    """Return a user's home, chosen now where it has none.

    Or where its account has left.

    `assigned`: the model by which it is chosen. Raises ModelRequired, StoreUnavailable or LedgerUnavailable.
    """
    label = await index.home(owner)
    account = accounts.find(label) if label is not None else None
    if account is not None:
        return account
    if assigned is None:
        raise model_required()
    chosen = among(assigned.model, accounts, owner)
    holds = await index.set_home(owner, accounts.label(assigned.model, chosen), instead_of=label)
    return accounts.find(holds) or _account(accounts, assigned.model, chosen)


async def home_at(index: ObjectIndex, accounts: Accounts, owner: str, model: Model) -> Account:
    """Return where a user's things are made near a model.

    Its home, if that is there; else chosen by the same hash. Raises ModelRequired.
    """
    label = await index.home(owner)
    account = accounts.find(label) if label is not None else None
    if account is not None and any(each.objects for each in account.endpoints_of(model)):
        return account
    return _account(accounts, model, among(model, accounts, owner))


def among(model: Model, accounts: Accounts, owner: str) -> Endpoint:
    """Choose one of a model's endpoints that keep objects. Raises ModelRequired."""
    keeping = [each for each in model.endpoints if each.objects and "openai" in each.protocols]
    if not keeping:
        raise model_required()
    lowest = min(each.priority for each in keeping)
    return max(_of_priority(keeping, lowest), key=lambda endpoint: _score(owner, model, endpoint))


def model_required() -> ModelRequired:
    return ModelRequired(
        f"No endpoint of your assigned model keeps objects; name a model of yours in the header `{MODEL_HEADER}`.",
        param="model",
    )


def _of_priority(endpoints: Iterable[Endpoint], priority: int) -> list[Endpoint]:
    return [each for each in endpoints if each.priority == priority]


def _score(owner: str, model: Model, endpoint: Endpoint) -> bytes:
    parts = (owner, id_text(model.id), id_text(endpoint.id))
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _account(accounts: Accounts, model: Model, endpoint: Endpoint) -> Account:
    account = accounts.of(model, endpoint)
    if account is None:
        raise LookupError(f"the accounts are older than {endpoint.id} of {model.name}")
    return account
