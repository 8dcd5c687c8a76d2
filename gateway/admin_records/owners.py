"""Users, organisations and plans: what may hold links to models.

One that gateway.yaml defines can have a document of its own beside it, which holds nothing but further links.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.admin_records.editor import Desk, as_id, checked, encoded, id_for, stored
from gateway.admin_records.record_bodies import GrantBody, LimitsBody, OwnerBody, UserBody
from gateway.admin_records.redaction import GrantShown, OwnerShown, UserShown
from gateway.config import grant_id, id_of_grant
from gateway.config.documents import Linked, RecordKind, fields_in
from gateway.errors import InvalidRequest, RecordNotFound
from gateway.store.base import Catalogue, page, user_of_any_key
from gateway.types import Id, Organisation, Plan, User, id_text

Owner = User | Organisation | Plan
Fields = dict[str, Any]  # a document, or a part of one


class OwnerKind(NamedTuple):
    """A kind of owner.

    `kind` names its documents; `word` stands for it in gateway.yaml, messages and the audit.
    """

    kind: Literal["user", "org", "plan"]
    word: Literal["user", "organisation", "plan"]


USER = OwnerKind("user", "user")
ORGANISATION = OwnerKind("org", "organisation")
PLAN = OwnerKind("plan", "plan")


async def listed(desk: Desk, of: OwnerKind, after: str | None, most: int) -> tuple[list[OwnerShown], str | None]:
    """List the file's owners, then a page of the store's.

    Of those that are in the store alone; with what to give as `after` for the next.
    """
    catalogue = await desk.catalogue()
    found = await page(desk.records, of.kind, after=after, most=most)
    in_file = _in_file(desk, of) if after is None else {}
    beside = await desk.records.get_many(of.kind, list(in_file))
    shown = [_view(desk, of, catalogue, each, document) for each, document in zip(in_file, beside, strict=True)]
    made = [each for each in found.records if (of.word, each[0]) not in desk.file.lines]
    shown += [_view(desk, of, catalogue, owner_id, document) for owner_id, document in made]
    return [each for each in shown if each is not None], found.next


async def shown(desk: Desk, of: OwnerKind, owner_id: str) -> OwnerShown:
    """Return an owner. Raises RecordNotFound.

    A user of whom there is no more than a key has the lowest tier and no grants.
    """
    catalogue = await desk.catalogue()
    view = _view(desk, of, catalogue, owner_id, await desk.records.get(of.kind, owner_id))
    if view is None and of is USER:
        view = await _of_a_key(desk, owner_id)
    if view is None:
        raise _not_found(of, owner_id)
    return view


async def put(desk: Desk, of: OwnerKind, path_id: str, body: OwnerBody) -> tuple[OwnerShown, bool]:
    """Create or replace an owner; return whether it is new.

    Grants stay where the body gives none.
    """
    desk.refuse_if_in_file(of.word, path_id)
    catalogue = await desk.catalogue()
    known = stored(of.kind, path_id, await desk.records.get(of.kind, path_id))
    owner_id = id_for(path_id, body.id, known.owner.id if isinstance(known, Linked) else _mentioned(desk, of, path_id))
    document = _document(desk, of, owner_id, body, catalogue)
    checked(of.kind, owner_id, document)
    replaced: list[bytes | None] = []

    def change(before: bytes | None) -> bytes:
        replaced.append(before)
        kept = {} if "grants" in document else {"grants": fields_of(of.kind, path_id, before).get("grants") or []}
        return encoded(document | kept)

    written = await desk.records.update(of.kind, path_id, change)
    before = _view(desk, of, catalogue, path_id, replaced[-1])
    after = _view(desk, of, catalogue, path_id, written)
    action: Literal["create", "replace"] = "create" if before is None else "replace"
    await desk.written_down(action, of.word, owner_id, before=before, after=after)
    if after is None:
        raise _not_found(of, path_id)  # taken away by somebody else at this very moment
    return after, before is None


async def delete(desk: Desk, of: OwnerKind, owner_id: str) -> None:
    """Delete an owner and its links.

    Keys of a user stay: they then belong to a user of the lowest tier without grants.
    """
    desk.refuse_if_in_file(of.word, owner_id)
    document = await desk.records.delete(of.kind, owner_id)
    if document is None:
        raise _not_found(of, owner_id)
    before = _view(desk, of, await desk.store.catalogue(), owner_id, document)
    await desk.written_down("delete", of.word, before.id if before else as_id(owner_id), before=before, after=None)


def owner_in_file(desk: Desk, of: OwnerKind, owner_id: str) -> Owner | None:
    if (of.word, owner_id) not in desk.file.lines:
        return None
    return _in_file(desk, of).get(owner_id)


def fields_of(kind: RecordKind, record_id: str, document: bytes | None) -> Fields:
    """Return a stored document's fields, a panel's own included.

    Empty where it cannot be used.
    """
    if document is None or stored(kind, record_id, document) is None:
        return {}
    return fields_in(document)


def link_id(of: OwnerKind, owner: Id, link: Mapping[str, Any], catalogue: Catalogue) -> Id:
    """Return a link's id, given or derived.

    Derived from its owner and model.
    """
    if link.get("id") is not None:
        given: Id = link["id"]
        return given
    model = catalogue.find(link["model"])
    return grant_id(of.word, owner, id_text(model.id) if model is not None else id_text(link["model"]))


def owner_id_of(desk: Desk, of: OwnerKind, path_id: str) -> Id:
    """Return the id that a path names. Raises InvalidRequest.

    In the type that the file knows it by.
    """
    known = owner_in_file(desk, of, path_id)
    if known is not None:
        return known.id
    return as_id(path_id) if (mentioned := _mentioned(desk, of, path_id)) is None else mentioned


def _mentioned(desk: Desk, of: OwnerKind, path_id: str) -> Id | None:
    """Return the id in the type that a key uses."""
    return next((key.user for key in desk.file.keys if id_text(key.user) == path_id), None) if of is USER else None


async def _of_a_key(desk: Desk, user_id: str) -> UserShown | None:
    listed = _mentioned(desk, USER, user_id)
    mentioned = listed if listed is not None else await user_of_any_key(desk.records, user_id)
    if mentioned is None:
        return None
    source: Literal["file", "store"] = "store" if listed is None else "file"
    tier = desk.file.tiers[0]
    return UserShown(id=mentioned, name=None, grants=[], source=source, tier=tier, organisations=[], plans=[])


def _not_found(of: OwnerKind, owner_id: str) -> RecordNotFound:
    return RecordNotFound(f"No {of.word} has the id `{owner_id}`.")


def _in_file(desk: Desk, of: OwnerKind) -> Mapping[str, Owner]:
    records: Mapping[OwnerKind, Iterable[Owner]] = {
        USER: desk.file.users,
        ORGANISATION: desk.file.organisations,
        PLAN: desk.file.plans,
    }
    return {id_text(record.id): record for record in records[of]}


def _document(desk: Desk, of: OwnerKind, owner_id: Id, body: OwnerBody, catalogue: Catalogue) -> Fields:
    """Build the document, with grants only if given.

    Where the body gives them.
    """
    document: Fields = {"id": owner_id, "name": body.name}
    if isinstance(body, UserBody):
        if body.tier is not None and body.tier not in desk.file.tiers:
            raise InvalidRequest(f"tier: must be one of {', '.join(desk.file.tiers)}")
        document |= {"tier": body.tier, "organisations": body.organisations, "plans": body.plans}
        if not body.enabled:
            document["enabled"] = False
    if not isinstance(body.grants, msgspec.UnsetType):
        document["grants"] = _grants(of, owner_id, body.grants, catalogue)
    return document


def _grants(of: OwnerKind, owner_id: Id, bodies: Iterable[GrantBody], catalogue: Catalogue) -> list[Fields]:
    found: dict[str, Fields] = {}
    for index, body in enumerate(bodies):
        model = catalogue.find(body.model)
        if model is None:
            raise InvalidRequest(f"grants[{index}].model: no model has the id, name or alias `{id_text(body.model)}`")
        if id_text(model.id) in found:
            raise InvalidRequest(f"grants[{index}].model: `{id_text(body.model)}` is granted twice")
        link: Fields = msgspec.to_builtins(body) | {"model": model.id}
        link.pop("source", None)
        link["id"] = link_id(of, owner_id, link, catalogue)
        found[id_text(model.id)] = link
    return list(found.values())


def _view(desk: Desk, of: OwnerKind, catalogue: Catalogue, owner_id: str, document: bytes | None) -> OwnerShown | None:
    """Return the owner with its links, or its document.

    The file's with the links beside it, or that of the document.
    """
    owner = owner_in_file(desk, of, owner_id)
    linked = stored(of.kind, owner_id, document)
    fields = fields_of(of.kind, owner_id, document)
    if owner is not None:
        own = [
            _file_grant(id_of_grant(grant, of.word, owner.id), grant.model, LimitsBody.of(grant.limits), catalogue)
            for grant in owner.grants
        ]
        memberships = _memberships(desk, owner)
    elif isinstance(linked, Linked):
        owner, own = linked.owner, []
        memberships = {name: fields.get(name) or [] for name in ("organisations", "plans")}
    else:
        return None
    grants = own + _links(of, owner.id, linked, fields, catalogue)
    source: Literal["file", "store"] = "file" if (of.word, owner_id) in desk.file.lines else "store"
    if not isinstance(owner, User):
        return OwnerShown(id=owner.id, name=owner.name, grants=grants, source=source)
    tier = owner.tier if owner.tier in desk.file.tiers else desk.file.tiers[0]
    return UserShown(
        id=owner.id, name=owner.name, grants=grants, source=source, tier=tier, enabled=owner.enabled, **memberships
    )


def _memberships(desk: Desk, owner: Owner) -> dict[str, list[Id]]:
    """The ids with the types that they have where they are defined."""
    if not isinstance(owner, User):
        return {}
    organisations, plans = _in_file(desk, ORGANISATION), _in_file(desk, PLAN)
    return {
        "organisations": [organisations[each].id for each in owner.organisations],
        "plans": [plans[each].id for each in owner.plans],
    }


def _file_grant(grant: Id, model: str, limits: LimitsBody | None, catalogue: Catalogue) -> GrantShown:
    found = catalogue.by_id(model)
    return GrantShown(id=grant, model=found.id if found is not None else model, limits=limits, source="file")


def _links(of: OwnerKind, owner: Id, linked: object, fields: Fields, catalogue: Catalogue) -> list[GrantShown]:
    if not isinstance(linked, Linked):
        return []
    return [
        GrantShown(
            id=link_id(of, owner, written, catalogue),
            model=found.id if (found := catalogue.find(link.model)) is not None else written["model"],
            limits=LimitsBody.of(link.limits),
            source="store",
        )
        for link, written in zip(linked.links, fields.get("grants") or (), strict=True)
    ]
