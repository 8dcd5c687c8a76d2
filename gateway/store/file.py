"""The store of gateway.yaml: read once, replaced whole when the file changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.store.base import Catalogue, Kind
from gateway.types import ApiKey, Id, Model, Organisation, Plan, User, id_text


class YamlStore:
    """Answer from the records of one configuration file.

    See `GrantStore` for what each method returns.
    """

    def __init__(
        self,
        *,
        models: Iterable[Model] = (),
        organisations: Iterable[Organisation] = (),
        plans: Iterable[Plan] = (),
        users: Iterable[User] = (),
        keys: Iterable[ApiKey] = (),
        features: Mapping[str, bool] | None = None,
        lowest_tier: str = "free",
    ) -> None:
        self._catalogue = Catalogue(models)
        self._organisations = {id_text(record.id): record for record in organisations}
        self._plans = {id_text(record.id): record for record in plans}
        self._users = {str(record.id): record for record in users}
        self._keys = {record.sha256: record for record in keys}
        users_of_keys = {str(key.user): key.user for key in self._keys.values()}
        self._unlisted_users = {text: user for text, user in users_of_keys.items() if text not in self._users}
        self._features = dict(features or {})
        self._lowest_tier = lowest_tier

    async def catalogue(self) -> Catalogue:
        return self._catalogue

    @property
    def models(self) -> tuple[Model, ...]:
        return self._catalogue.models

    async def key(self, sha256: str) -> ApiKey | None:
        return self._keys.get(sha256)

    async def user(self, user_id: Id) -> User:
        return self.listed_user(user_id) or User(id=user_id, tier=self._lowest_tier)

    def user_id(self, text: str) -> Id:
        known = self.known_user_id(text)
        return text if known is None else known

    def known_user_id(self, text: str) -> Id | None:
        """That of a user who is listed or whom a key mentions."""
        listed = self._users.get(text)
        return self._unlisted_users.get(text) if listed is None else listed.id

    def listed_user(self, user_id: Id) -> User | None:
        """The user where the file lists them."""
        return self._users.get(id_text(user_id))

    async def organisation(self, organisation_id: str) -> Organisation | None:
        return self._organisations.get(organisation_id)

    async def plan(self, plan_id: str) -> Plan | None:
        return self._plans.get(plan_id)

    def age(self, kind: Kind, record_id: str) -> float | None:
        """Return None: a changed file makes another store."""
        return None

    async def feature(self, name: str) -> bool:
        return self._features.get(name, True)

    def __repr__(self) -> str:
        return f"<YamlStore: {len(self._catalogue.models)} models, {len(self._users)} users, {len(self._keys)} keys>"
