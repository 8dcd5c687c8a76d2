"""Find whom a counter counts, by its name: `limits.scopes` reversed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import unquote

from gateway.access.resolve import access_to
from gateway.alerts import Counted
from gateway.errors import ModelNotAccessible
from gateway.limits import key_of, key_scope
from gateway.store.base import GrantStore
from gateway.types import MADE_BY, ApiKey, Caller, Id, Limits, Model, id_from_text, id_text

_USER_OR_ORGANISATION = 4  # parts of a name: kind, owner, `model`, model


FindKey = Callable[[str], Awaitable[ApiKey | None]]  # by its id, as text


async def counted_in(store: GrantStore, find_key: FindKey, scope: str) -> Counted | None:
    """Find whom a scope counts, and the limits that hold now.

    None where nobody is counted there any more. Raises StoreUnavailable.
    """
    key_id = key_of(scope)
    if key_id is not None:
        key = await find_key(key_id)
        if key is None:
            return Counted("key", id_from_text(key_id), None, None, None)
        return Counted("key", key.id, None, None, key.limits)
    parts = [unquote(part) for part in scope.split(":")]
    if len(parts) != _USER_OR_ORGANISATION or parts[2] != "model":
        return None
    kind, owner, _, model_id = parts
    model = (await store.catalogue()).by_id(model_id)
    if model is None:
        return None
    return await (_of_organisation if kind == "organisation" else _of_user)(store, owner, model)


async def _of_organisation(store: GrantStore, owner: str, model: Model) -> Counted | None:
    organisation = await store.organisation(owner)
    if organisation is None:
        return None
    grant = next((each for each in organisation.grants if each.model == id_text(model.id)), None)
    return _counted("organisation", organisation.id, model, model.limits if grant is None else grant.limits)


async def _of_user(store: GrantStore, owner: str, model: Model) -> Counted | None:
    user = await store.user(store.user_id(owner))
    plans = [await store.plan(each) for each in user.plans]
    organisations = [await store.organisation(each) for each in user.organisations]
    caller = Caller(
        user,
        ApiKey(id="", user=user.id, sha256=""),
        tuple(each for each in organisations if each is not None),
        tuple(each for each in plans if each is not None),
    )
    try:
        access = access_to(caller, model)
    except ModelNotAccessible:
        return None
    if access.source == "plan" and access.owner is not None:
        return Counted("plan", access.owner, model.id, model.name, access.limits, user.id)
    return _counted("user", user.id, model, access.limits)


def _counted(kind: str, owner: Id, model: Model, limits: Limits | None) -> Counted:
    return Counted(kind, owner, model.id, model.name, limits)  # type: ignore[arg-type]  # of the two that are named


def scopes_of_row(counted_on: str | None, key: Id) -> Iterator[str]:
    """Yield the scopes that a row of the ledger counts in.

    Its grant's, its key's, and those of the keys that made that.
    """
    if counted_on is not None:
        yield counted_on
    name = id_text(key)
    while name:
        yield key_scope(name)
        name = name.rpartition(MADE_BY)[0]
