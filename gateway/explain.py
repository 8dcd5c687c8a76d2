"""Why a request would be served as it is: each source in order, the limits that hold, what the pool would do.

It asks the same functions that requests go through, and changes nothing: no upstream is called, nothing is counted,
no turn of a rotation is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from gateway.config import Settings
from gateway.errors import FeatureDisabled, GatewayError, InsufficientScope, InvalidKey, StoreUnavailable
from gateway.grants.base import Catalogue, GrantStore
from gateway.grants.resolve import Named, resolve
from gateway.limits import Demand, Limiter, Standing, demands
from gateway.limits.scopes import whose
from gateway.pool import Pool
from gateway.registry.watch import EndpointWatched, watched
from gateway.types import Access, ApiKey, Caller, Grant, Id, Limits, Model, Organisation, Plan, Source, User, id_text

LimitName = Literal["rpm", "tpm", "concurrency", "requests", "tokens", "cost"]

_MINUTE = "sliding minute"


class KeyExplained(msgspec.Struct):
    """`refusal`: why it does not open the AI routes, and the `code` of that; None where it opens them."""

    id: Id
    scopes: list[str]
    expires: str | None
    refusal: str | None
    code: str | None


class UserExplained(msgspec.Struct):
    id: Id
    tier: str
    name: str | None


class SourceExplained(msgspec.Struct):
    """One source: `granted` says whether it grants the model that was asked about (any, where none was)."""

    source: Source
    id: Id | None
    name: str | None
    granted: bool
    wins: bool
    why: str
    linkId: Id | None = None
    model: Id | None = None


class LimitExplained(msgspec.Struct):
    """One limit and how it stands. `counts`: whom. `window`: in which time. `resetsAt` (of totals) is ISO 8601.

    `used` is None where it cannot be told just now.
    """

    counts: str
    limit: LimitName
    most: float
    used: float | None
    window: str
    resetsAt: str | None


class PoolExplained(msgspec.Struct):
    """`order`: the endpoints that one request would try now, in turn, if each of them failed."""

    modelId: Id
    model: str
    rotation: str
    fallback: bool
    order: list[Id]
    endpoints: list[EndpointWatched]


class Verdict(msgspec.Struct):
    """What a request would get before any upstream is asked. `code` is that of its refusal."""

    served: bool
    why: str
    code: str | None = None
    modelId: Id | None = None
    model: str | None = None
    source: Source | None = None


class Explanation(msgspec.Struct):
    """`asked`: the model as it was named, None for the assigned one."""

    asked: str | None
    user: UserExplained
    key: KeyExplained | None
    verdict: Verdict
    sources: list[SourceExplained]
    limits: list[LimitExplained]
    pools: list[PoolExplained]


@dataclass(frozen=True, slots=True)
class Explainer:
    """`pool_now`: the clock of the pools; `clock`: the time of day."""

    settings: Settings
    store: GrantStore
    limiter: Limiter
    pool_of: Callable[[Model], Pool]
    pool_now: Callable[[], float]
    clock: Callable[[], datetime]

    async def explain(self, *, user_id: Id, key: ApiKey | None, asked: str | None) -> Explanation:
        """For a user, and a key of theirs where it is about one. Raises StoreUnavailable."""
        catalogue = await self.store.catalogue()
        user = await self.store.user(user_id)
        caller = await self._caller(user, key)
        outcome = self._resolved(caller, catalogue, asked)
        access = outcome if isinstance(outcome, Access) else None
        wanted = None if asked is None else catalogue.find(asked)
        served = access.model if access is not None else wanted
        key_told = None if key is None else self._key(key)
        return Explanation(
            asked=asked,
            user=UserExplained(user.id, user.tier, user.name),
            key=key_told,
            verdict=await self._verdict(outcome, key_told, asked),
            sources=_sources(caller, catalogue, wanted, is_served=access is not None),
            limits=[] if access is None else await self._limits(access, caller),
            pools=[] if served is None else list(self._pools(served, catalogue)),
        )

    async def _caller(self, user: User, key: ApiKey | None) -> Caller:
        organisations = [await self.store.organisation(each) for each in user.organisations]
        plans = [await self.store.plan(each) for each in user.plans]
        return Caller(
            user,
            key or ApiKey(id="", user=user.id, sha256=""),
            tuple(each for each in organisations if each is not None),
            tuple(each for each in plans if each is not None),
        )

    def _resolved(self, caller: Caller, catalogue: Catalogue, asked: str | None) -> Access | GatewayError:
        """As a request for text would be, by a body that names the model as it was `asked`."""
        by_assignment = self.settings.routing.unknown_model == "assigned"
        named = Named(None, asked, asked is not None)
        try:
            return resolve(caller, catalogue, named, unknown_is_assigned=by_assignment)
        except GatewayError as refusal:
            return refusal

    def _key(self, key: ApiKey) -> KeyExplained:
        refusal, code = None, None
        if key.expires is not None and key.expires <= self.clock():
            refusal, code = "it has expired", InvalidKey.code
        elif "ai:use" not in key.scopes:
            refusal, code = "it does not have the scope `ai:use`", InsufficientScope.code
        return KeyExplained(key.id, sorted(key.scopes), _utc(key.expires), refusal, code)

    async def _verdict(self, outcome: Access | GatewayError, key: KeyExplained | None, asked: str | None) -> Verdict:
        if not await self.store.feature("ai"):
            return Verdict(False, "the feature `ai` is switched off", FeatureDisabled.code)
        if key is not None and key.refusal is not None:
            return Verdict(False, f"the key does not open it: {key.refusal}", key.code)
        if isinstance(outcome, GatewayError):
            return Verdict(False, outcome.message, outcome.code)
        model = outcome.model
        why = f"granted by {_source_text(outcome.source, outcome.owner)}"
        if asked not in (id_text(model.id), model.name, *model.aliases):
            unknown = "" if asked is None else f"no model is called `{asked}`, so "
            why = f"{unknown}the assigned model serves, {why}"
        return Verdict(True, why, None, model.id, model.name, outcome.source)

    # -- limits

    async def _limits(self, access: Access, caller: Caller) -> list[LimitExplained]:
        wanted = demands(access, caller)
        if not wanted:
            return []
        standings: Sequence[Standing | None]
        try:
            standings = await self.limiter.standing(wanted, self.clock().timestamp())
        except StoreUnavailable:
            standings = [None] * len(wanted)
        return [
            each for demand, standing in zip(wanted, standings, strict=True) for each in _limits_told(demand, standing)
        ]

    # -- pools

    def _pools(self, model: Model, catalogue: Catalogue) -> Iterator[PoolExplained]:
        yield self._pool(model, is_fallback=False)
        for reference in model.fallbacks:
            fallback = catalogue.by_id(reference)
            if fallback is not None:
                yield self._pool(fallback, is_fallback=True)

    def _pool(self, model: Model, *, is_fallback: bool) -> PoolExplained:
        pool, now = self.pool_of(model), self.pool_now()
        ids = {id_text(endpoint.id): endpoint.id for endpoint in model.endpoints}
        endpoints = [watched(model, state) for state in pool.snapshot(now)]
        order = [ids[each] for each in pool.order(now)]
        return PoolExplained(model.id, model.name, model.rotation, is_fallback, order, endpoints)


def _sources(caller: Caller, catalogue: Catalogue, wanted: Model | None, *, is_served: bool) -> list[SourceExplained]:
    """In the order in which a request looks at them; the first that grants wins, where the request is served at all."""
    user = caller.user
    told = [_owner("user", user.id, user.name, user.grants, wanted, catalogue)]
    for organisation_id in user.organisations:
        told.append(_member("organisation", organisation_id, caller.organisations, wanted, catalogue))
    for plan_id in user.plans:
        told.append(_member("plan", plan_id, caller.plans, wanted, catalogue))
    told.append(_global(catalogue, wanted))
    winner = next((each for each in told if each.granted), None)
    if winner is not None:
        winner.wins = is_served
    return told


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
    why = f"its link `{id_text(grant.id)}` grants the model `{model.name}`"
    return SourceExplained(source, owner, name, True, False, why, grant.id, model.id)


def _global(catalogue: Catalogue, wanted: Model | None) -> SourceExplained:
    model = wanted if wanted is not None else next(iter(catalogue.open_to_all), None)
    if model is None or not model.is_global:
        why = "no model is open to everyone" if model is None else f"the model `{model.name}` is not open to everyone"
        return SourceExplained("global", None, None, False, False, why)
    return SourceExplained(
        "global", None, None, True, False, f"the model `{model.name}` is open to everyone", None, model.id
    )


def _source_text(source: Source, owner: Id | None) -> str:
    return "being open to everyone" if source == "global" else f"the {source} `{id_text(owner or '')}`"


def _limits_told(demand: Demand, at: Standing | None) -> Iterator[LimitExplained]:
    who = whose(demand.scope).removesuffix(" has").removesuffix(" have").lower()
    resets = _utc(datetime.fromtimestamp(at.period_end, UTC)) if at is not None and at.period_end else None
    for name, most, used, window in _standing(demand.limits, at or Standing()):
        if most is not None:
            is_total = window == demand.limits.period
            told = None if at is None else used
            yield LimitExplained(who, name, most, told, window, resets if is_total else None)


def _standing(limits: Limits, at: Standing) -> list[tuple[LimitName, float | None, float, str]]:
    """Each limit, how much it lets through, how much of that is taken, and in which time."""
    return [
        ("rpm", limits.rpm, at.minute_requests, _MINUTE),
        ("tpm", limits.tpm, at.minute_tokens, _MINUTE),
        ("concurrency", limits.concurrency, at.running, "at a time"),
        ("requests", limits.requests, at.requests, limits.period),
        ("tokens", limits.tokens, at.tokens + at.tokens_reserved, limits.period),
        ("cost", limits.cost, at.used.cost, limits.period),
    ]


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def explanation_text(told: Explanation) -> str:
    """The same for people, in lines."""
    user, verdict = told.user, told.verdict
    who = f"user {id_text(user.id)} (tier {user.tier})" + (f", key {id_text(told.key.id)}" if told.key else "")
    what = f"model {told.asked}" if told.asked is not None else "the assigned model"
    end = f"served by {verdict.model}" if verdict.served else f"refused: {verdict.code}"
    lines = [f"{who}, {what}", f"  {end}: {verdict.why}", "sources, in order"]
    for source in told.sources:
        mark = ">" if source.wins else "+" if source.granted else "-"
        name = source.source if source.id is None else f"{source.source} {id_text(source.id)}"
        lines.append(f"  {mark} {name}: {source.why}")
    lines += ["limits", *map(_limit_line, told.limits)] if told.limits else ["limits: none"]
    for pool in told.pools:
        lines.append(f"pool of {'the fallback ' * pool.fallback}{pool.model}, by {pool.rotation}")
        lines += [_endpoint_line(pool, endpoint) for endpoint in pool.endpoints]
    return "\n".join(lines)


def _limit_line(limit: LimitExplained) -> str:
    most = _amount(limit.most)
    used = f"{most}, used: cannot be told now" if limit.used is None else f"{_amount(limit.used)} of {most}"
    resets = f", resets at {limit.resetsAt}" if limit.resetsAt is not None else ""
    return f"  {limit.counts}: {limit.limit} {used} ({limit.window}{resets})"


def _amount(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"


def _endpoint_line(pool: PoolExplained, endpoint: EndpointWatched) -> str:
    turn = f"{pool.order.index(endpoint.endpointId) + 1}." if endpoint.endpointId in pool.order else "-"
    rest = f", {endpoint.cause} for {endpoint.secondsLeft:.0f} s more" if endpoint.cause is not None else ""
    counts = f"{endpoint.failures} failures in a row, {endpoint.inFlight} in flight"
    return f"  {turn} {id_text(endpoint.endpointId)} {endpoint.url}: {endpoint.state}{rest}, {counts}"
