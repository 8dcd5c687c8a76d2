"""Explain each source of grants in order."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.admin_records.explain.explanation import SourceExplained
from gateway.config import id_of_grant
from gateway.store.base import Catalogue, GrantStore, Kind
from gateway.types import Caller, Grant, Id, Model, Organisation, Plan, Source, id_text

_KINDS: dict[Source, Kind] = {"user": "user", "organisation": "org", "plan": "plan", "global": "model"}


def sources(
    caller: Caller, catalogue: Catalogue, wanted: Model | None, store: GrantStore, *, is_served: bool
) -> list[SourceExplained]:
    """List the sources in the order in which requests resolve.

    The first that grants wins, where the request is served at all.
    """
    user = caller.user
    explained = [_owner("user", user.id, user.name, user.grants, wanted, catalogue)]
    for organisation_id in user.organisations:
        explained.append(_member("organisation", organisation_id, caller.organisations, wanted, catalogue))
    for plan_id in user.plans:
        explained.append(_member("plan", plan_id, caller.plans, wanted, catalogue))
    explained.append(_global(catalogue, wanted))
    winner = next((each for each in explained if each.granted), None)
    if winner is not None:
        winner.wins = is_served
    for each in explained:
        # Of what is open to everyone the model's record says so.
        each.ageSeconds = aged(store, _KINDS[each.source], each.model if each.source == "global" else each.id)
    return explained


def aged(store: GrantStore, kind: Kind, record_id: Id | None) -> float | None:
    """Return how old the store's part of a record is.

    In seconds since the run-time store was asked for it.
    """
    age = None if record_id is None else store.age(kind, id_text(record_id))
    return None if age is None else round(age, 3)


def _member(
    source: Source, owner_id: str, known: Sequence[Organisation | Plan], wanted: Model | None, catalogue: Catalogue
) -> SourceExplained:
    owner = next((each for each in known if id_text(each.id) == owner_id), None)
    if owner is None:
        return SourceExplained(source, owner_id, None, False, False, f"there is no such {source}")
    return _owner(source, owner.id, owner.name, owner.grants, wanted, catalogue)


def _owner(
    source: Source, owner: Id, name: str | None, grants: Sequence[Grant], wanted: Model | None, catalogue: Catalogue
) -> SourceExplained:
    possible = [grant for grant in grants if catalogue.by_id(grant.model) is not None]
    if wanted is not None:
        possible = [grant for grant in possible if grant.model == id_text(wanted.id)]
    if not possible:
        why = f"no link to the model `{wanted.name}`" if wanted is not None else "no links"
        return SourceExplained(source, owner, name, False, False, why)
    grant = possible[0]
    model = catalogue.by_id(grant.model)
    assert model is not None  # noqa: S101 - narrows the type; the list above holds no others
    link = id_of_grant(grant, source, owner)
    why = f"its link `{id_text(link)}` grants the model `{model.name}`"
    return SourceExplained(source, owner, name, True, False, why, link, model.id)


def _global(catalogue: Catalogue, wanted: Model | None) -> SourceExplained:
    model = wanted if wanted is not None else next(iter(catalogue.open_to_all), None)
    if model is None or not model.is_global:
        why = "no model is open to everyone" if model is None else f"the model `{model.name}` is not open to everyone"
        return SourceExplained("global", None, None, False, False, why)
    return SourceExplained(
        "global", None, None, True, False, f"the model `{model.name}` is open to everyone", None, model.id
    )


def source_text(source: Source, owner: Id | None) -> str:
    return "being open to everyone" if source == "global" else f"the {source} `{id_text(owner or '')}`"
