"""Resolve a request's model and the source that grants it.

Contract §3. Pure: everything needed is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gateway.errors import GatewayError, ModelNotAccessible, ModelNotFound, NoModelGranted, StoreUnavailable
from gateway.store.base import Catalogue
from gateway.types import Access, Caller, Grant, Id, Model, Source, id_text


class Named(NamedTuple):
    """The model fields of a body.

    `model_id` from `modelId`, `name` from `model`; None where it is absent.
    """

    model_id: Id | None
    name: Id | None
    name_given: bool  # `model` is there and is not null, be it of a sensible type or not


def named_model(fields: Mapping[str, Any]) -> Named:
    """Read `modelId` and `model`; raise ModelNotFound for a bad id.

    For a `modelId` that can be no id.
    """
    model_id, name = fields.get("modelId"), fields.get("model")
    if model_id is not None and not _is_id(model_id):
        raise ModelNotFound("`modelId` must be a number or a string.", param="model")
    return Named(model_id, name if _is_id(name) else None, name is not None)


def resolve(caller: Caller, catalogue: Catalogue, named: Named, *, unknown_is_assigned: bool) -> Access:
    """The model to serve and who grants it.

    `unknown_is_assigned`: a `model` that nobody registered gets the caller's assigned model, instead of a 404.
    Raises ModelNotFound, ModelNotAccessible, NoModelGranted or StoreUnavailable.
    """
    if named.model_id is not None:
        model = catalogue.by_id(named.model_id)
        if model is None:
            raise not_found(catalogue, "No model has this `modelId`.")
        return access_to(caller, model)
    if named.name_given:
        model = catalogue.find(named.name) if named.name is not None else None
        if model is not None:
            return access_to(caller, model)
        if not unknown_is_assigned:
            raise not_found(catalogue, "The model named in `model` does not exist; `GET models` lists yours.")
    return assigned(caller, catalogue)


def not_found(catalogue: Catalogue, message: str) -> GatewayError:
    """Return the 404; or, while models cannot be read, 503."""
    if catalogue.is_complete:
        return ModelNotFound(message, param="model")
    return StoreUnavailable("The models cannot be read at the moment; ask again.")


def access_to(caller: Caller, model: Model) -> Access:
    """The first source that grants this caller this model. Raises ModelNotAccessible."""
    wanted = id_text(model.id)
    if caller.may_use(model):
        for source, owner, grant in grants_in_order(caller):
            if grant.model == wanted:
                return Access(model, source, owner, grant)
        if model.is_global:
            return Access(model, "global")
    raise ModelNotAccessible(f"Your key has no access to the model `{model.name}`.", param="model")


def assigned(caller: Caller, catalogue: Catalogue) -> Access:
    """The caller's assigned model: the first that they may use. Raises NoModelGranted."""
    for access in accessible(caller, catalogue):
        return access
    if not catalogue.is_complete:
        raise StoreUnavailable("The models cannot be read at the moment; ask again.")
    raise NoModelGranted("No model has been granted to you yet; ask your administrator for one.")


def accessible(caller: Caller, catalogue: Catalogue) -> Iterator[Access]:
    """List the caller's models once each, in order of assignment.

    Each of the winning source.
    """
    seen: set[str] = set()
    for source, owner, grant in grants_in_order(caller):
        model = catalogue.by_id(grant.model)
        if model is not None and grant.model not in seen and caller.may_use(model):
            seen.add(grant.model)
            yield Access(model, source, owner, grant)
    for model in catalogue.open_to_all:
        if id_text(model.id) not in seen and caller.may_use(model):
            yield Access(model, "global")


def grants_in_order(caller: Caller) -> Iterator[tuple[Source, Id, Grant]]:
    """The user's grants, then the organisations' in order, then the plans'."""
    for grant in caller.user.grants:
        yield "user", caller.user.id, grant
    for organisation in caller.organisations:
        for grant in organisation.grants:
            yield "organisation", organisation.id, grant
    for plan in caller.plans:
        for grant in plan.grants:
            yield "plan", plan.id, grant


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
