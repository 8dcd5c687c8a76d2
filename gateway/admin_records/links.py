"""Links from users, organisations and plans to models, one at a time.

A link to somebody whom gateway.yaml defines goes into a document beside the file, that holds nothing but links. Other
admins and panels may write the same document at the same time: each change is made to what is there at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from gateway.admin_records.editor import Action, Desk, checked, encoded
from gateway.admin_records.owners import Fields, OwnerKind, fields_of, link_id, owner_in_file
from gateway.admin_records.record_bodies import GivenLimits, LimitsBody, LinkChange
from gateway.admin_records.redaction import LinkShown
from gateway.config import grant_id, id_of_grant
from gateway.errors import AlreadyThere, DefinedInFile, InvalidRequest, ModelNotFound, RecordNotFound
from gateway.store.base import Catalogue
from gateway.types import Id, Model, id_text

_BARE = frozenset(("id", "grants"))


class _Linked(msgspec.Struct):
    """A link and its owner, for the audit trail."""

    owner: Id
    kind: Literal["user", "organisation", "plan"]
    link: LinkShown


class _Found(NamedTuple):
    position: int
    fields: Fields


async def link(desk: Desk, of: OwnerKind, owner: Id, model: Model, limits: GivenLimits) -> tuple[LinkShown, bool]:
    """Link the model, or update the link; return whether it is new.

    Of a link that stands already the limits that are given change.
    """
    book = await _Book.of(desk, of, owner)
    book.refuse_granted_by_file(model)

    def change(page: _Page) -> _Found:
        found = page.link_to(model)
        if found is None:
            return page.add(model, limits)
        page.set(found, limits=limits)
        return found

    before, after = await book.change(change)
    assert after is not None  # noqa: S101 - narrows the type; `change` returns what it made
    return after, before is None


async def update(desk: Desk, of: OwnerKind, owner: Id, wanted: str, body: LinkChange) -> LinkShown:
    """Change a link's limits, its model, or both.

    The one with the id `wanted`.
    """
    book = await _Book.of(desk, of, owner)
    model = None if isinstance(body.modelId, UnsetType) else named_model(book.catalogue, body.modelId)
    if model is not None:
        book.refuse_granted_by_file(model)

    def change(page: _Page) -> _Found:
        found = page.link_of(wanted)
        standing = page.link_to(model) if model is not None else None
        if standing is not None and standing.position != found.position:
            raise AlreadyThere("Another link leads to this model already.")
        page.set(found, limits=body.limits, model=model)
        return found

    _, after = await book.change(change)
    assert after is not None  # noqa: S101 - narrows the type; `change` returns what it changed
    return after


async def unlink(
    desk: Desk, of: OwnerKind, owner: Id, *, wanted: str | None = None, model: Model | None = None
) -> None:
    """Take a link away, by its id or by its model."""
    book = await _Book.of(desk, of, owner)
    if model is not None:
        book.refuse_granted_by_file(model)

    def change(page: _Page) -> None:
        found = page.link_of(wanted) if wanted is not None else page.link_to(model) if model is not None else None
        if found is None:
            raise RecordNotFound(f"This {of.word} has no link to this model.")
        page.remove(found)

    await book.change(change)


def refuse_granted_by_file(desk: Desk, of: OwnerKind, owner: Id, model: Model) -> None:
    """Raise DefinedInFile where the file grants this owner this model."""
    listed = owner_in_file(desk, of, id_text(owner))
    if listed is not None and any(grant.model == id_text(model.id) for grant in listed.grants):
        raise _defined_in_file(desk, of, owner, f"grants this {of.word} the model `{model.name}`")


def refuse_link_of_file(desk: Desk, of: OwnerKind, owner: Id, wanted: str) -> None:
    """Raise DefinedInFile where the link is one of the file's.

    The one with the id `wanted`.
    """
    listed = owner_in_file(desk, of, id_text(owner))
    if listed is not None and any(id_text(id_of_grant(grant, of.word, listed.id)) == wanted for grant in listed.grants):
        raise _defined_in_file(desk, of, owner, f"defines the link `{wanted}`")


def _defined_in_file(desk: Desk, of: OwnerKind, owner: Id, what: str) -> DefinedInFile:
    where = desk.file.lines.where(of.word, id_text(owner))
    return DefinedInFile(f"{where} {what}; it can only be changed there.")


def named_model(catalogue: Catalogue, model_id: Id) -> Model:
    """The model that a body's `modelId` names. Raises ModelNotFound."""
    model = catalogue.by_id(model_id)
    if model is None:
        raise ModelNotFound(f"No model has the id `{id_text(model_id)}`.", param="modelId")
    return model


def required_model(catalogue: Catalogue, body: LinkChange) -> Model:
    """Raise InvalidRequest where the body names none."""
    if isinstance(body.modelId, UnsetType):
        raise InvalidRequest("modelId: is missing")
    return named_model(catalogue, body.modelId)


class _Book:
    """One owner's links, those of the file and those beside it."""

    def __init__(self, desk: Desk, of: OwnerKind, owner: Id, catalogue: Catalogue) -> None:
        listed = owner_in_file(desk, of, id_text(owner))
        self.desk = desk
        self.of_kind = of
        self.owner = owner if listed is None else listed.id
        granted = () if listed is None else listed.grants
        self.file_grants = [id_text(id_of_grant(each, of.word, self.owner)) for each in granted]
        self.catalogue = catalogue

    @classmethod
    async def of(cls, desk: Desk, of: OwnerKind, owner: Id) -> _Book:
        return cls(desk, of, owner, await desk.catalogue())

    def refuse_granted_by_file(self, model: Model) -> None:
        refuse_granted_by_file(self.desk, self.of_kind, self.owner, model)

    async def change(self, change: Callable[[_Page], _Found | None]) -> tuple[LinkShown | None, LinkShown | None]:
        """Change the document, audit it; return both links.

        The link before and after it.
        """
        pages: list[_Page] = []
        record_id = id_text(self.owner)

        def apply(document: bytes | None) -> bytes | None:
            page = _Page(self, fields_of(self.of_kind.kind, record_id, document))
            page.changed(change(page))
            pages.append(page)
            return page.document()

        await self.desk.records.update(self.of_kind.kind, record_id, apply)
        before, after = pages[-1].before, pages[-1].after
        action: Action = "create" if before is None else "delete" if after is None else "update"
        touched = after or before
        assert touched is not None  # noqa: S101 - narrows the type; every change touches a link
        await self.desk.written_down(
            action, "link", touched.id, before=self._audited(before), after=self._audited(after)
        )
        return before, after

    def _audited(self, link: LinkShown | None) -> _Linked | None:
        return None if link is None else _Linked(self.owner, self.of_kind.word, link)


class _Page:
    """An owner's document while it changes.

    A panel's own fields in it stay.
    """

    def __init__(self, book: _Book, fields: Fields) -> None:
        self._book = book
        self._fields = {"id": book.owner} | fields
        self._links: list[Fields] = list(fields.get("grants") or [])
        self.before: LinkShown | None = None
        self.after: LinkShown | None = None

    def link_to(self, model: Model) -> _Found | None:
        for found in self._all():
            named = self._book.catalogue.find(found.fields["model"])
            if named is not None and id_text(named.id) == id_text(model.id):
                return self._touch(found)
        return None

    def link_of(self, wanted: str) -> _Found:
        for found in self._all():
            if id_text(self._id(found.fields)) == wanted:
                return self._touch(found)
        refuse_link_of_file(self._book.desk, self._book.of_kind, self._book.owner, wanted)
        raise RecordNotFound(f"This {self._book.of_kind.word} has no link with the id `{wanted}`.")

    def add(self, model: Model, limits: GivenLimits) -> _Found:
        made: Fields = {"id": self._free_id(model), "model": model.id}
        self._links.append(made)
        found = _Found(len(self._links) - 1, made)
        self.set(found, limits=limits)
        return found

    def set(self, found: _Found, *, limits: GivenLimits = UNSET, model: Model | None = None) -> None:
        changed = found.fields | {"id": self._id(found.fields)}
        if model is not None:
            changed["model"] = model.id
        if isinstance(limits, LimitsBody):
            changed["limits"] = msgspec.to_builtins(limits)
        elif limits is None:
            changed.pop("limits", None)
        self._links[found.position] = changed

    def remove(self, found: _Found) -> None:
        del self._links[found.position]

    def changed(self, found: _Found | None) -> None:
        self.after = None if found is None else self._shown(self._links[found.position])

    def document(self) -> bytes | None:
        """Return the document, None where nothing is left in it.

        One that held nothing but links, and holds none any more.
        """
        if not self._links and _BARE.issuperset(self._fields):
            return None
        document = self._fields | {"grants": self._links}
        checked(self._book.of_kind.kind, self._book.owner, document)
        return encoded(document)

    def _all(self) -> Iterator[_Found]:
        return (_Found(position, fields) for position, fields in enumerate(self._links))

    def _touch(self, found: _Found) -> _Found:
        self.before = self.before or self._shown(found.fields)
        return found

    def _id(self, fields: Fields) -> Id:
        return link_id(self._book.of_kind, self._book.owner, fields, self._book.catalogue)

    def _free_id(self, model: Model) -> str:
        """Return a free id, by owner and model if possible.

        Another one where a link has it that has been led to another model since.
        """
        taken = {id_text(self._id(each)) for each in self._links} | set(self._book.file_grants)
        return next(made for number in count() if (made := self._made_id(model, number)) not in taken)

    def _made_id(self, model: Model, number: int) -> str:
        return grant_id(self._book.of_kind.word, self._book.owner, id_text(model.id) + "#" * number)

    def _shown(self, fields: Fields) -> LinkShown:
        model = self._book.catalogue.find(fields["model"])
        return LinkShown(
            id=self._id(fields),
            modelId=model.id if model is not None else fields["model"],
            limits=_limits_of(fields.get("limits")),
        )


def _limits_of(written: Any) -> LimitsBody | None:
    """Return the limits of a link, a panel's own fields aside."""
    if written is None:
        return None
    known = {name: written[name] for name in LimitsBody.__struct_fields__ if name in written}
    return msgspec.convert(known, LimitsBody)
