"""Asks the functions that requests go through, and changes nothing.

No upstream is called, nothing is counted, no turn of a rotation is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple

import msgspec

from gateway.access.authenticate import is_valid
from gateway.access.makers import makers_of, within
from gateway.access.resolve import Named, resolve
from gateway.admin_records.endpoint_states import watched
from gateway.admin_records.explain.explanation import (
    Explanation,
    KeyExplained,
    LimitExplained,
    LimitName,
    PoolExplained,
    UserExplained,
    Verdict,
)
from gateway.admin_records.explain.sources import aged, source_text, sources
from gateway.config import Settings
from gateway.errors import FeatureDisabled, GatewayError, InsufficientScope, InvalidKey, StoreUnavailable
from gateway.limits import Demand, Limiter, Standing, demands, expected_refusal
from gateway.limits.demand import units
from gateway.limits.scopes import whose
from gateway.pool import Pool, no_answer
from gateway.store.base import Catalogue, GrantStore
from gateway.types import Access, ApiKey, Caller, Id, Limits, Model, User, id_text, utc_text

_MINUTE = "sliding minute"


class _Counted(NamedTuple):
    """The limits that hold, and the refusal they cause."""

    rows: list[LimitExplained] = []  # noqa: RUF012 - never changed
    refusal: GatewayError | None = None


@dataclass(frozen=True, slots=True)
class Explainer:
    """`pool_now`: the clock of the pools; `clock`: the time of day."""

    settings: Settings
    store: GrantStore
    limiter: Limiter
    pool_of: Callable[[Model], Pool]
    pool_now: Callable[[], float]
    clock: Callable[[], datetime]
    # Why this process would serve nobody now. None where it is not the one that serves: then it counts nothing either.
    refuses: Callable[[], GatewayError | None] | None = None

    async def explain(self, *, user_id: Id, key: ApiKey | None, asked: str | None) -> Explanation:
        """Explain for a user, and perhaps a key. Raises StoreUnavailable."""
        catalogue = await self.store.catalogue()
        user = await self.store.user(user_id)
        if key is not None:
            key = await self.store.key(key.sha256) or key  # as requests know it
        makers = () if key is None else await makers_of(key, self.store, self._is_good)
        caller = await self._caller(user, key, makers or ())
        outcome = self._resolved(caller, catalogue, asked)
        access = outcome if isinstance(outcome, Access) else None
        wanted = None if asked is None else catalogue.find(asked)
        served = access.model if access is not None else wanted
        key_explained = None if key is None else self._key(caller.key, is_orphan=makers is None)
        counted = _Counted() if access is None else await self._counted(access, caller)
        candidates = [] if served is None else [served, *_fallbacks(served, catalogue)]
        return Explanation(
            asked=asked,
            user=UserExplained(user.id, user.tier, user.name, aged(self.store, "user", user.id)),
            key=key_explained,
            verdict=await self._verdict(user, key_explained, outcome, asked, counted, candidates),
            sources=sources(caller, catalogue, wanted, self.store, is_served=access is not None),
            limits=counted.rows,
            pools=[self._pool(model, is_fallback=model is not served) for model in candidates],
            overridden=list(self.settings.overridden),
        )

    async def _is_good(self, maker: ApiKey) -> bool:
        return is_valid(maker, self.clock()) and (await self.store.user(maker.user)).enabled

    async def _caller(self, user: User, key: ApiKey | None, makers: tuple[ApiKey, ...]) -> Caller:
        organisations = [await self.store.organisation(each) for each in user.organisations]
        plans = [await self.store.plan(each) for each in user.plans]
        return Caller(
            user,
            within(key, makers) if key is not None else ApiKey(id="", user=user.id, sha256=""),
            tuple(each for each in organisations if each is not None),
            tuple(each for each in plans if each is not None),
            makers,
        )

    def _resolved(self, caller: Caller, catalogue: Catalogue, asked: str | None) -> Access | GatewayError:
        """Resolve as a request that names the model so."""
        by_assignment = self.settings.routing.unknown_model == "assigned"
        named = Named(None, asked, asked is not None)
        try:
            return resolve(caller, catalogue, named, unknown_is_assigned=by_assignment)
        except GatewayError as refusal:
            return refusal

    def _key(self, key: ApiKey, *, is_orphan: bool) -> KeyExplained:
        refusal, code = None, None
        if not key.enabled:
            refusal, code = "it is switched off or revoked", InvalidKey.code
        elif not is_valid(key, self.clock()):
            refusal, code = "it has expired", InvalidKey.code
        elif is_orphan:
            refusal, code = "a key that made it is gone, expired or switched off", InvalidKey.code
        elif "ai:use" not in key.scopes:
            refusal, code = "it does not have the scope `ai:use`", InsufficientScope.code
        age = aged(self.store, "key", key.sha256)
        return KeyExplained(
            key.id, sorted(key.scopes), utc_text(key.expires) if key.expires is not None else None, refusal, code, age
        )

    async def _verdict(
        self,
        user: User,
        key: KeyExplained | None,
        outcome: Access | GatewayError,
        asked: str | None,
        counted: _Counted,
        candidates: Sequence[Model],
    ) -> Verdict:
        """In the order in which a request meets what could refuse it."""
        if not await self.store.feature("ai"):
            return Verdict(False, "the feature `ai` is switched off", FeatureDisabled.code)
        refused = _refused_caller(user, key)
        if refused is not None:
            return refused
        if isinstance(outcome, GatewayError):
            return Verdict(False, outcome.message, outcome.code)
        model, refusal, wait = outcome.model, counted.refusal, ""
        if refusal is None and self.refuses is not None:
            refusal = self.refuses()
            if refusal is None and (refusal := self._refusal_of_pools(candidates)) and self._waits(candidates):
                refusal, wait = None, "; no endpoint is free: it waits in the queue, if that has room"
        if refusal is not None:
            return Verdict(False, refusal.message, refusal.code, model.id, model.name, outcome.source)
        return Verdict(True, _why_granted(outcome, asked) + wait, None, model.id, model.name, outcome.source)

    # -- limits

    async def _counted(self, access: Access, caller: Caller) -> _Counted:
        wanted = demands(access, caller)
        if not wanted:
            return _Counted()
        now = self.clock().timestamp()
        try:
            found = await self.limiter.standing(wanted, now)
        except StoreUnavailable as unknown:
            rows = [each for demand in wanted for each in _explained_limits(demand, None)]
            return _Counted(rows, None if self.refuses is None else unknown)
        # How long until there is room is told to those who were refused; it is no longer than this.
        standings = [
            msgspec.structs.replace(
                at, rpm_wait=at.rpm_wait or at.minute_leaves, tpm_wait=at.tpm_wait or at.minute_leaves
            )
            for at in found
        ]
        rows = [each for demand, at in zip(wanted, standings, strict=True) for each in _explained_limits(demand, at)]
        return _Counted(rows, expected_refusal(wanted, standings, now))

    # -- pools

    def _refusal_of_pools(self, candidates: Sequence[Model]) -> GatewayError | None:
        """Return the error of a request that no endpoint takes.

        Where none of them all can be asked now.
        """
        now, pools = self.pool_now(), [self.pool_of(model) for model in candidates]
        if any(pool.order(now) for pool in pools):
            return None
        return no_answer([obstacle for pool in pools for obstacle in pool.blocked(now)], now)

    def _waits(self, candidates: Sequence[Model]) -> bool:
        """Whether such a request waits instead, as `queue` has it."""
        rules, now = self.settings.queue, self.pool_now()
        ends = [self.pool_of(model).free_at(now) for model in candidates]
        return rules.max > 0 and min(ends, default=inf) <= now + rules.wait

    def _pool(self, model: Model, *, is_fallback: bool) -> PoolExplained:
        pool, now = self.pool_of(model), self.pool_now()
        ids = {id_text(endpoint.id): endpoint.id for endpoint in model.endpoints}
        endpoints = [watched(model, state) for state in pool.snapshot(now)]
        order = [ids[each] for each in pool.order(now)]
        return PoolExplained(model.id, model.name, model.rotation, is_fallback, order, endpoints)


def _refused_caller(user: User, key: KeyExplained | None) -> Verdict | None:
    """Return the refusal of a key or its user.

    In the order in which a request meets it.
    """
    if key is not None and key.code == InvalidKey.code:
        return Verdict(False, f"the key does not open it: {key.refusal}", key.code)
    if not user.enabled:
        return Verdict(False, "the user is switched off, and all their keys with them", InvalidKey.code)
    if key is not None and key.refusal is not None:
        return Verdict(False, f"the key does not open it: {key.refusal}", key.code)
    return None


def _why_granted(access: Access, asked: str | None) -> str:
    """Describe the grant's source and an assigned model.

    That is named where none of the asked name exists.
    """
    model, why = access.model, f"granted by {source_text(access.source, access.owner)}"
    if asked in (id_text(model.id), model.name, *model.aliases):
        return why
    unknown = "" if asked is None else f"no model is called `{asked}`, so "
    return f"{unknown}the assigned model serves, {why}"


def _fallbacks(model: Model, catalogue: Catalogue) -> list[Model]:
    found = [catalogue.by_id(reference) for reference in model.fallbacks]
    return [each for each in found if each is not None]


def _explained_limits(demand: Demand, at: Standing | None) -> Iterator[LimitExplained]:
    who = whose(demand.scope).removesuffix(" has").removesuffix(" have").lower()
    resets = utc_text(datetime.fromtimestamp(at.period_end, UTC)) if at is not None and at.period_end else None
    for name, most, used, window in _standing(demand.limits, at or Standing()):
        if most is not None:
            is_total = window == demand.limits.period
            taken = None if at is None else used
            yield LimitExplained(who, name, most, taken, window, resets if is_total else None)


def _standing(limits: Limits, at: Standing) -> list[tuple[LimitName, float | None, float, str]]:
    """List each limit, its use and its window."""
    return [
        ("rpm", limits.rpm, at.minute_requests, _MINUTE),
        ("tpm", limits.tpm, at.minute_tokens, _MINUTE),
        ("concurrency", limits.concurrency, at.running, "at a time"),
        ("requests", limits.requests, at.requests, limits.period),
        ("tokens", limits.tokens, at.tokens + at.tokens_reserved, limits.period),
        ("cost", limits.cost, units(at.cost_nano + at.cost_reserved_nano), limits.period),
    ]
