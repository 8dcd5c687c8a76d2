"""The interface of every grant store, and the catalogue of models that each one hands out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from gateway.types import ApiKey, Id, Model, Organisation, Plan, User, id_text


class Catalogue:
    """All models in order, found by id, public name or alias."""

    __slots__ = ("_by_id", "_by_name", "models", "open_to_all")

    def __init__(self, models: Iterable[Model]) -> None:
        self.models = tuple(models)
        self.open_to_all = tuple(model for model in self.models if model.is_global)
        self._by_id = {id_text(model.id): model for model in self.models}
        self._by_name = {alias: model for model in self.models for alias in model.aliases}
        self._by_name.update((model.name, model) for model in self.models)

    def by_id(self, model_id: Id) -> Model | None:
        return self._by_id.get(id_text(model_id))

    def find(self, reference: Id) -> Model | None:
        """The model with this id, name or alias, in this order."""
        text = id_text(reference)
        return self._by_id.get(text) or self._by_name.get(text)

    def __repr__(self) -> str:
        return f"<Catalogue of {len(self.models)} models, {len(self.open_to_all)} open to all>"


class GrantStore(Protocol):
    """What a store answers. Records are frozen; a change makes new ones."""

    async def catalogue(self) -> Catalogue:
        """The models, as they stand now."""

    async def key(self, sha256: str) -> ApiKey | None:
        """The key with this SHA-256 (lower-case hex), expired or not; None where there is none."""

    async def user(self, user_id: Id) -> User:
        """The user; one that is not listed has the lowest tier and no grants."""

    async def organisation(self, organisation_id: str) -> Organisation | None: ...

    async def plan(self, plan_id: str) -> Plan | None: ...

    async def feature(self, name: str) -> bool:
        """Whether a feature is on; those that nobody mentions are."""
