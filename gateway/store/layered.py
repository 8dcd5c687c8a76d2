"""gateway.yaml over the run-time records: what the gateway serves from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from gateway.config import grant_id
from gateway.config.documents import Link, Linked
from gateway.errors import StoreUnavailable
from gateway.store.base import Catalogue, Kind
from gateway.store.cached import CachedRecords, Known, Slot
from gateway.store.file import YamlStore
from gateway.store.runtime_models import NOT_KNOWN, ModelLayer
from gateway.types import ApiKey, Grant, Id, Model, Organisation, Plan, User, id_from_text, id_text

_Owner = TypeVar("_Owner", User, Organisation, Plan)


class LayeredStore:
    """Join gateway.yaml with a run-time store.

    Where both have an id the file's record holds, and the grants of the two are joined.

    After a reload of gateway.yaml a new one is made over the same records, which stay remembered.
    While the run-time store cannot be asked, what the file says goes on working, with what is remembered beside it.
    """

    def __init__(self, yaml: YamlStore, records: CachedRecords, *, tiers: Sequence[str]) -> None:
        self._yaml = yaml
        self._records = records
        self._tiers = tuple(tiers)
        self._layer: ModelLayer = NOT_KNOWN
        self._catalogue = Catalogue(yaml.models, is_complete=False)

    async def catalogue(self) -> Catalogue:
        layer = await self._records.models()
        if layer is not self._layer:
            self._catalogue = _joined_catalogue(self._yaml.models, layer, self._catalogue)
            self._layer = layer
        return self._catalogue

    async def key(self, sha256: str) -> ApiKey | None:
        listed = await self._yaml.key(sha256)
        if listed is not None:
            return listed
        known = await self._records.find("key", sha256)
        return known.record if known is not None and isinstance(known.record, ApiKey) else None

    async def user(self, user_id: Id) -> User:
        as_text = id_text(user_id)
        listed = self._yaml.listed_user(as_text)
        known = await self._find_beside(listed, ("user", as_text))
        if known is None:
            return listed if listed is not None else User(id=user_id, tier=self._tiers[0])
        user = await self._joined("user", listed, known)
        if known.warmed is not known.asked:
            known.warmed = known.asked
            await self._records.warm(_memberships(user))
        return user

    def user_id(self, text: str) -> Id:
        """Return a user's id: a number where written as one.

        Of one whom the file does not mention, as records have it.
        """
        known = self._yaml.known_user_id(text)
        return id_from_text(text) if known is None else known

    async def organisation(self, organisation_id: str) -> Organisation | None:
        listed = await self._yaml.organisation(organisation_id)
        known = await self._find_beside(listed, ("org", organisation_id))
        return listed if known is None else await self._joined("organisation", listed, known)

    async def plan(self, plan_id: str) -> Plan | None:
        listed = await self._yaml.plan(plan_id)
        known = await self._find_beside(listed, ("plan", plan_id))
        return listed if known is None else await self._joined("plan", listed, known)

    def age(self, kind: Kind, record_id: str) -> float | None:
        if kind == "model":
            model = self._catalogue.by_id(record_id)
            if model is not None and self._catalogue.is_in_file(model):
                return None
        return self._records.age(kind, record_id)

    async def feature(self, name: str) -> bool:
        """Return the run-time switch, else the file's. Never raises.

        The file has an answer for each.
        """
        try:
            known = await self._records.find("feature", name)
        except StoreUnavailable:
            known = None
        return bool(known.record) if known is not None else await self._yaml.feature(name)

    async def _find_beside(self, listed: object, slot: Slot) -> Known | None:
        """Return the run-time record, or None beside the file's.

        Where it cannot be asked for, the file's is enough if there is one.
        """
        try:
            return await self._records.find(*slot)
        except StoreUnavailable:
            if listed is None:
                raise
            return None

    async def _joined(self, kind: str, listed: _Owner | None, known: Known) -> _Owner:
        """Return the joined record, cached by record and catalogue.

        Made once for each version of the two, and kept beside the record.
        """
        catalogue = await self.catalogue()
        if known.joined_with is not catalogue:
            known.joined = self._join(kind, listed, known.record, catalogue)
            known.joined_with = catalogue
        return known.joined  # type: ignore[return-value]  # the kind decides it

    def _join(
        self, kind: str, listed: User | Organisation | Plan | None, record: object, catalogue: Catalogue
    ) -> object:
        assert isinstance(record, Linked)  # noqa: S101 - narrows the type; records of owners are
        owner = listed if listed is not None else self._with_tier(record.owner)
        grants = _joined_grants(kind, owner, record.links, catalogue)
        return msgspec.structs.replace(owner, grants=grants) if grants != owner.grants else owner

    def _with_tier(self, owner: User | Organisation | Plan) -> User | Organisation | Plan:
        """Return the user with a known tier, by default the lowest."""
        if not isinstance(owner, User) or owner.tier in self._tiers:
            return owner
        return msgspec.structs.replace(owner, tier=self._tiers[0])

    def __repr__(self) -> str:
        return f"<LayeredStore: {self._yaml!r} over {self._records!r}>"


def _memberships(user: User) -> list[Slot]:
    organisations: list[Slot] = [("org", each) for each in user.organisations]
    return organisations + [("plan", each) for each in user.plans]


def _joined_grants(
    kind: str, owner: User | Organisation | Plan, links: Sequence[Link], catalogue: Catalogue
) -> tuple[Grant, ...]:
    """Return the owner's grants, then its links' new ones.

    Of those links whose model is known now.
    """
    grants = {grant.model: grant for grant in owner.grants}
    for link in links:
        model = catalogue.find(link.model)
        if model is not None:
            text = id_text(model.id)
            made = link.id if link.id is not None else grant_id(kind, owner.id, text)
            grants.setdefault(text, Grant(id=made, model=text, limits=link.limits))
    return tuple(grants.values())


def _joined_catalogue(listed: tuple[Model, ...], layer: ModelLayer, before: Catalogue) -> Catalogue:
    """Join the catalogues, fallbacks of run-time models resolved.

    What has not changed stays the same object.
    """
    references = Catalogue(listed, layer.models)
    models = [_with_fallbacks(model, references, before) for model in layer.models]
    return Catalogue(listed, models, is_complete=layer.is_complete)


def _with_fallbacks(model: Model, references: Catalogue, before: Catalogue) -> Model:
    if not model.fallbacks:
        return model
    found = [references.find(text) for text in model.fallbacks]
    others = dict.fromkeys(
        id_text(each.id) for each in found if each is not None and id_text(each.id) != id_text(model.id)
    )
    resolved = msgspec.structs.replace(model, fallbacks=tuple(others))
    known = before.by_id(model.id)
    return known if known == resolved and known is not None else resolved
