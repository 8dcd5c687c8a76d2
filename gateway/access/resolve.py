"""Resolve a request's model and the source that grants it.

Contract §3. Pure: everything needed is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gateway.errors import (
    GatewayError,
    ModelNotAccessible,
    ModelNotFound,
    ModelRequired,
    NoModelGranted,
    StoreUnavailable,
)
from gateway.store.base import Catalogue
from gateway.types import Access, Caller, Grant, Id, Model, OperationKind, Source, id_text

_UNKNOWN = "The model named in `model` does not exist; `GET models` lists yours."


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


def resolve(
    caller: Caller,
    catalogue: Catalogue,
    named: Named,
    *,
    unknown_is_assigned: bool,
    kind: OperationKind | None = None,
    is_text: bool = True,
) -> Access:
    """The model to serve and who grants it.

    `unknown_is_assigned`: a `model` that nobody registered gets the caller's assigned model, instead of a 404.
    `kind`: what the model must serve; on a route without `is_text` the assigned one must say that it does.
    Raises ModelNotFound, ModelNotAccessible, NoModelGranted, ModelRequired or StoreUnavailable.
    """
    if named.model_id is not None:
        model = catalogue.by_id(named.model_id)
        if model is None:
            raise not_found(catalogue, "No model has this `modelId`.")
        return serving(access_to(caller, model), kind)
    if named.name_given:
        model = catalogue.find(named.name) if named.name is not None else None
        if model is not None:
            return serving(access_to(caller, model), kind)
        if not unknown_is_assigned:
            raise not_found(catalogue, _UNKNOWN)
    try:
        return assigned(caller, catalogue, kind, is_text=is_text)
    except ModelRequired:
        if named.name_given:
            raise not_found(catalogue, _UNKNOWN) from None
        raise


def serving(access: Access, kind: OperationKind | None) -> Access:
    """Return the access where its model serves this. Raises ModelNotFound."""
    operations = access.model.operations
    if operations is not None and kind is not None and kind not in operations:
        named = ", ".join(f"`{each}`" for each in operations)
        raise ModelNotFound(f"The model `{access.model.name}` does not serve `{kind}`, only {named}.", param="model")
    return access


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


def assigned(
    caller: Caller, catalogue: Catalogue, kind: OperationKind | None = None, *, is_text: bool = True
) -> Access:
    """The caller's assigned model: the first that they may use for this.

    Where results are not text it must name the operation. Raises NoModelGranted or ModelRequired.
    """
    has_any = False
    for access in accessible(caller, catalogue):
        has_any, operations = True, access.model.operations
        if is_text if operations is None else kind is None or kind in operations:
            return access
    if not catalogue.is_complete:
        raise StoreUnavailable("The models cannot be read at the moment; ask again.")
    if has_any:
        raise ModelRequired(f"Name a `model`: none of yours is set up for `{kind}` by itself.", param="model")
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
