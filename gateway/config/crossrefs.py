"""Check across records: duplicate ids, dangling references, contradictory settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from gateway.config.problems import Place, Problems
from gateway.config.record_shapes import (
    EndpointShape,
    GrantShape,
    KeyShape,
    ModelShape,
    OrganisationShape,
    Owner,
    PlanShape,
    Record,
)
from gateway.config.schema import AlertShape, GatewayFile, lists_of_records, owners
from gateway.config.sections.telemetry import check_telemetry
from gateway.pricing import Price, PriceStep, TierPrice
from gateway.types import Grant, Id, id_text, usual_auth_header

MOST_WEBHOOK_SECRETS = 2
_GRANT_ID_CHARACTERS = 16

# A record or value whose own reading failed carries an empty text here; it has been told, and is passed over.


def check(file: GatewayFile, problems: Problems) -> dict[str, ModelShape]:
    """Note problems between records; return models by id, name and alias."""
    models = _models_by_name(file.models, problems)
    _check_unique_ids(file, problems)
    _check_models(file.models, models, problems)
    _check_models_of_keys(file.keys, models, problems)
    _check_grants(file, models, problems)
    _check_users(file, problems)
    _check_keys(file.keys, problems)
    _check_tiers(file, problems)
    _check_store(file, problems)
    _check_alerts(file.alerts, problems)
    check_telemetry(file.telemetry, file.place.inside("telemetry"), problems)
    return models


def check_alone(record: Record, problems: Problems) -> None:
    """Check one record by itself, whose references lead elsewhere."""
    if isinstance(record, ModelShape):
        _check_unique(record.endpoints, problems)
        for endpoint in record.endpoints:
            _check_headers(endpoint, problems)
        for holder in _holders(record):
            if holder.price == "auto":
                problems.add_at(holder.place.inside("price"), "`auto` is looked up for models of gateway.yaml alone")
        _check_prices(record, problems)
    elif not isinstance(record, KeyShape):
        _check_unique(record.grants, problems)


def key_digest(key: KeyShape) -> str:
    """Return the key's SHA-256 in lower-case hex.

    Whichever way it was given; empty where it was not.
    """
    if key.hash:
        return key.hash
    plain = key.key.reveal() if key.key else ""
    return hashlib.sha256(plain.encode()).hexdigest() if plain else ""


def id_of_grant(grant: Grant, kind: str, owner: Id) -> Id:
    """Return a grant's own id, or the derived one.

    `kind` and `owner`: whose grant it is.
    """
    return grant.id if grant.id is not None else grant_id(kind, owner, grant.model)


def grant_id(kind: str, owner: Id, model: str) -> str:
    """Derive a grant's id from its owner and model.

    For one that was given none: the same in every file and process.
    """
    digest = hashlib.sha256(f"{kind}:{owner}:{model}".encode()).hexdigest()
    return digest[:_GRANT_ID_CHARACTERS]


def _models_by_name(models: Iterable[ModelShape], problems: Problems) -> dict[str, ModelShape]:
    found: dict[str, ModelShape] = {}
    first: dict[str, Place] = {}
    for model in models:
        for place, name in _claims(model):
            if name in first:
                reason = (
                    f"{problems.quoted(name)} is taken by {first[name]} ({problems.where(first[name], place)}) already"
                )
                problems.add_at(place, reason)
            else:
                found[name], first[name] = model, place
    return found


def _claims(model: ModelShape) -> Iterator[tuple[Place, str]]:
    """Yield every text that names `model`, with its place.

    A name that equals its own id counts once.
    """
    identity = id_text(model.id)
    named = [(("id",), identity)] + ([(("name",), model.name)] if model.name != identity else [])
    for where, name in [*named, *((("aliases", index), alias) for index, alias in enumerate(model.aliases))]:
        if name:
            yield model.place.inside(*where), name


def _check_unique_ids(file: GatewayFile, problems: Problems) -> None:
    for kind, records in lists_of_records(file):
        if kind != "model":  # their ids share one space with names and aliases
            _check_unique(records, problems)
    for model in file.models:
        _check_unique(model.endpoints, problems)


def _check_unique(records: Sequence[Record | EndpointShape | GrantShape], problems: Problems) -> None:
    if len(records) == len(set(map(str, map(attrgetter("id"), records)))):
        return  # as mostly, and quickly found
    first: dict[str, Record | EndpointShape | GrantShape] = {}
    for record in records:
        if record.id is None or record.id == "":
            continue
        holder = first.setdefault(id_text(record.id), record)
        if holder is not record:
            where = problems.where(holder.place, record.place)
            reason = f"{problems.quoted(id_text(record.id))} is already the id of {holder.place} ({where})"
            problems.add_at(record.place.inside("id"), reason)


def _check_models(models: Iterable[ModelShape], by_name: Mapping[str, ModelShape], problems: Problems) -> None:
    for model in models:
        _check_fallbacks(model, by_name, problems)
        _check_prices(model, problems)
        for endpoint in model.endpoints:
            _check_headers(endpoint, problems)


def _check_fallbacks(model: ModelShape, by_name: Mapping[str, ModelShape], problems: Problems) -> None:
    seen: set[int] = set()
    for index, name in enumerate(model.fallbacks):
        place = model.place.inside("fallbacks", index)
        fallback = _known_model(name, by_name, place, problems)
        if fallback is None:
            continue
        if fallback is model:
            problems.add_at(place, "a model cannot be its own fallback")
        elif id(fallback) in seen:
            _note_repeated(id_text(name), place, problems)
        seen.add(id(fallback))


def _check_models_of_keys(keys: Iterable[KeyShape], by_name: Mapping[str, ModelShape], problems: Problems) -> None:
    for key in keys:
        for index, name in enumerate(key.models or ()):
            _known_model(name, by_name, key.place.inside("models", index), problems)


def _note_repeated(text: str, place: Place, problems: Problems) -> None:
    problems.add_at(place, f"{problems.quoted(text)} is in this list already")


def _known_model(name: Id, by_name: Mapping[str, ModelShape], place: Place, problems: Problems) -> ModelShape | None:
    text = id_text(name)
    model = by_name.get(text)
    if model is None and text:
        problems.add_at(
            place, f"no model has the id, name or alias {problems.quoted(text)}{problems.suggestion(text, by_name)}"
        )
    return model


def _check_headers(endpoint: EndpointShape, problems: Problems) -> None:
    first: dict[str, str] = {}
    for name in endpoint.headers:
        place = endpoint.place.inside("headers", name)
        if first.setdefault(name.lower(), name) != name:
            problems.add_at(place, f"the same header as {problems.quoted(first[name.lower()])}")
        if endpoint.api_key is not None and name.lower() in _credential_headers(endpoint):
            problems.add_at(place, "`api_key` is sent in this header already; give one of the two")


def _credential_headers(endpoint: EndpointShape) -> tuple[str | None, ...]:
    header = endpoint.auth_header or usual_auth_header(endpoint.protocols)
    return (header,) if header is not None else ("authorization", "x-api-key")


def _holders(model: ModelShape) -> Iterator[ModelShape | EndpointShape]:
    """Yield who may have a price."""
    yield model
    yield from model.endpoints


def _check_prices(model: ModelShape, problems: Problems) -> None:
    for holder in _holders(model):
        if not isinstance(holder.price, Price):
            continue
        place = holder.place.inside("price")
        _check_steps(holder.price.above, place.inside("above"), problems)
        for name, tier in holder.price.service_tiers.items():
            if isinstance(tier, TierPrice):
                _check_steps(tier.above, place.inside("service_tiers", name, "above"), problems)


def _check_steps(steps: Iterable[PriceStep], place: Place, problems: Problems) -> None:
    seen: set[int] = set()
    for index, step in enumerate(steps):
        if step.input_tokens in seen:
            problems.add_at(place.inside(index, "input_tokens"), f"{step.input_tokens} is in this list already")
        seen.add(step.input_tokens)


def _check_grants(file: GatewayFile, models: Mapping[str, ModelShape], problems: Problems) -> None:
    checked: set[int] = set()  # lists that records share, where they are read in bulk
    for _, owner in owners(file):
        if owner.grants and id(owner.grants) not in checked:
            checked.add(id(owner.grants))
            if len(owner.grants) > 1:
                _check_unique(owner.grants, problems)
            _check_granted_models(owner, models, problems)


def _check_granted_models(owner: Owner, models: Mapping[str, ModelShape], problems: Problems) -> None:
    first: dict[int, GrantShape] = {}
    for grant in owner.grants:
        model = models.get(id_text(grant.model))
        if model is None:
            _known_model(grant.model, models, grant.place.inside("model"), problems)
            continue
        holder = first.setdefault(id(model), grant)
        if holder is not grant:
            name = problems.quoted(id_text(grant.model))
            reason = f"{name} is already granted by {holder.place} ({problems.where(holder.place, grant.place)})"
            problems.add_at(grant.place.inside("model"), reason)


def _check_users(file: GatewayFile, problems: Problems) -> None:
    organisations, plans = _Known("organisation", file.organisations), _Known("plan", file.plans)
    tiers = frozenset(file.tiers)
    for user in file.users:
        if user.tier and user.tier not in tiers:
            _note_unknown_tier(user.tier, user.place.inside("tier"), file, problems)
        if user.organisations:
            _check_memberships(user.organisations, organisations, user.place.inside("organisations"), problems)
        if user.plans:
            _check_memberships(user.plans, plans, user.place.inside("plans"), problems)


def _note_unknown_tier(tier: str, place: Place, file: GatewayFile, problems: Problems) -> None:
    problems.add_at(place, f"no such tier: {problems.quoted(tier)}{problems.suggestion(tier, file.tiers)}")


class _Known:
    """The organisations or plans that users may name."""

    def __init__(self, kind: str, records: Iterable[OrganisationShape | PlanShape]) -> None:
        self.kind = kind
        self.ids = {id_text(record.id): record.name for record in records}
        self._by_name = {name: identity for identity, name in self.ids.items()}

    def hint(self, text: str, problems: Problems) -> str:
        """People write the name where the id is wanted."""
        named = self._by_name.get(text)
        return f" (did you mean its id, {problems.quoted(named)}?)" if named else problems.suggestion(text, self.ids)


def _check_memberships(members: Iterable[Id], known: _Known, place: Place, problems: Problems) -> None:
    seen: set[str] = set()
    for index, member in enumerate(members):
        text = id_text(member)
        if text and text not in known.ids:
            reason = f"no {known.kind} has the id {problems.quoted(text)}{known.hint(text, problems)}"
            problems.add_at(place.inside(index), reason)
        elif text in seen:
            _note_repeated(text, place.inside(index), problems)
        seen.add(text)


def _check_keys(keys: Iterable[KeyShape], problems: Problems) -> None:
    first: dict[str, KeyShape] = {}
    for key in keys:
        if (key.hash is None) == (key.key is None):
            problems.add_at(key.place, "needs either `hash` or `key`" + (", not both" if key.hash is not None else ""))
        digest = key_digest(key)
        holder = first.setdefault(digest, key) if digest else key
        if holder is not key:
            problems.add_at(key.place, f"the same key as {holder.place} ({problems.where(holder.place, key.place)})")


def _check_tiers(file: GatewayFile, problems: Problems) -> None:
    seen: set[str] = set()
    for index, tier in enumerate(file.tiers):
        if tier and tier in seen:
            _note_repeated(tier, file.place.inside("tiers", index), problems)
        seen.add(tier)
    if file.studio.tier and file.studio.tier not in seen:
        _note_unknown_tier(file.studio.tier, file.place.inside("studio", "tier"), file, problems)


def _check_store(file: GatewayFile, problems: Problems) -> None:
    if file.server.workers > 1 and file.store.kind == "embedded":
        problems.add_at(file.place.inside("server", "workers"), "more than one worker needs `store.kind: redis`")


def _check_alerts(alerts: Iterable[AlertShape], problems: Problems) -> None:
    first: dict[str, AlertShape] = {}
    for alert in alerts:
        if len(alert.secret) > MOST_WEBHOOK_SECRETS:
            problems.add_at(alert.place.inside("secret"), "more than two secrets; the oldest can go")
        holder = first.setdefault(alert.url, alert) if alert.url else alert
        if holder is not alert:  # the url itself may hold a token
            where = holder.place
            problems.add_at(alert.place.inside("url"), f"the same as that of {where} (line {where.line})")
