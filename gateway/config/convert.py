"""Convert the file's shapes to the values of `gateway.types`.

Ids for names, hashes for keys, absolute paths.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.config.crossrefs import key_digest
from gateway.config.problems import Place, Problems
from gateway.config.record_shapes import (
    EndpointShape,
    GivenPrice,
    GrantShape,
    KeyShape,
    LimitsShape,
    ModelShape,
    OrganisationShape,
    PlanShape,
    StoredKeyShape,
    UserShape,
)
from gateway.config.schema import AlertShape, GatewayFile, lists_of_records
from gateway.config.sections.telemetry import TelemetrySettings
from gateway.config.settings import (
    AlertSettings,
    Lines,
    ProxySettings,
    Settings,
    StoreSettings,
    StudioSettings,
    UsageSettings,
)
from gateway.config.yaml.fingerprints import Fingerprint
from gateway.pricing import Price, RateCard, rate_card
from gateway.pricing.lookup import Found, look_up
from gateway.types import (
    ApiKey,
    Endpoint,
    Grant,
    Limits,
    Model,
    Organisation,
    Plan,
    Secret,
    Timeouts,
    User,
    id_text,
    usual_auth_header,
)


class Records:
    """Makes the settings of one file, all of whose checks have passed."""

    def __init__(self, file: GatewayFile, models: Mapping[str, ModelShape], base_dir: Path) -> None:
        self._file = file
        self._model_ids = {name: id_text(model.id) for name, model in models.items()}
        self._base_dir = base_dir
        self._limits: dict[int, Limits | None] = {}  # by what they are made of, which many records share
        self._granted: dict[int, tuple[Grant, ...]] = {}  # likewise

    def settings(self, proxy: ProxySettings, source: str, files: Mapping[str, Fingerprint | None]) -> Settings:
        file = self._file
        return Settings(
            server=file.server,
            features={"ai": True, **file.features},
            store=self._store(),
            usage=self._usage(),
            routing=file.routing,
            surface=file.surface,
            tiers=file.tiers,
            chat=file.chat,
            studio=StudioSettings(tier=file.studio.tier or default_studio_tier(file.tiers)),
            models=tuple([self._model(model) for model in file.models]),
            organisations=tuple([self._organisation(organisation) for organisation in file.organisations]),
            plans=tuple([self._plan(plan) for plan in file.plans]),
            users=tuple([self._user(user) for user in file.users]),
            keys=tuple([make_key(key) for key in file.keys]),
            self_service=file.self_service,
            queue=file.queue,
            alerts=tuple([make_alert(alert) for alert in file.alerts]),
            telemetry=self._telemetry(),
            proxy=proxy,
            source=source,
            lines=_lines(file, source),
            files=dict(files),
        )

    def _store(self) -> StoreSettings:
        store = self._file.store
        ca_file = self._absolute(store.ca_file) if store.ca_file else None
        return msgspec.structs.replace(store, path=self._absolute(store.path), ca_file=ca_file)

    def _usage(self) -> UsageSettings:
        usage = self._file.usage
        url = Secret(_absolute_sqlite_url(usage.url.reveal(), self._absolute))
        return msgspec.structs.replace(usage, url=url, journal=self._absolute(usage.journal))

    def _telemetry(self) -> TelemetrySettings:
        telemetry = self._file.telemetry
        if telemetry.ca_file is None:
            return telemetry
        return msgspec.structs.replace(telemetry, ca_file=self._absolute(telemetry.ca_file))

    def _absolute(self, path: str) -> str:
        return os.path.abspath(self._base_dir / path)

    def _model(self, shape: ModelShape) -> Model:
        return make_model(shape, [self._model_ids[id_text(name)] for name in shape.fallbacks])

    def _organisation(self, shape: OrganisationShape) -> Organisation:
        return Organisation(id=shape.id, name=shape.name, grants=self._grants(shape.grants))

    def _plan(self, shape: PlanShape) -> Plan:
        return Plan(id=shape.id, name=shape.name, grants=self._grants(shape.grants))

    def _user(self, shape: UserShape) -> User:
        return User(
            shape.id,
            shape.tier or self._file.tiers[0],
            shape.name,
            tuple([id_text(member) for member in shape.organisations]) if shape.organisations else (),
            tuple([id_text(member) for member in shape.plans]) if shape.plans else (),
            self._grants(shape.grants) if shape.grants else (),
            shape.enabled,
        )

    def _grants(self, shapes: tuple[GrantShape, ...]) -> tuple[Grant, ...]:
        found = self._granted.get(id(shapes))
        if found is None:
            found = self._granted[id(shapes)] = tuple([self._grant(shape) for shape in shapes])
        return found

    def _grant(self, shape: GrantShape) -> Grant:
        model, limits = self._model_ids[id_text(shape.model)], shape.limits
        if limits is None:
            return Grant(shape.id, model)
        found = self._limits.get(id(limits))
        if found is None:
            found = self._limits[id(limits)] = make_limits(limits)
        return Grant(shape.id, model, found)


def default_studio_tier(tiers: tuple[str, ...]) -> str:
    """Return the second tier, or the only one."""
    return tiers[min(1, len(tiers) - 1)]


def make_model(shape: ModelShape, fallbacks: Iterable[str]) -> Model:
    """`fallbacks`: what `shape.fallbacks` stand for, in the same order."""
    price = _known(shape.price)
    card = None if price is None else rate_card(price)
    return Model(
        id=shape.id,
        name=shape.name,
        aliases=shape.aliases,
        provider_model=shape.provider_model or shape.name,
        tags=shape.tags,
        is_global=shape.is_global,
        limits=make_limits(shape.limits),
        fallbacks=tuple(fallbacks),
        operations=shape.operations,
        price=price,
        rotation=shape.rotation,
        max_tokens_field=shape.max_tokens_field,
        reasoning=shape.reasoning,
        endpoints=tuple(_endpoint(endpoint, card) for endpoint in shape.endpoints),
    )


def make_limits(shape: LimitsShape | None) -> Limits | None:
    if shape is None:
        return None
    return Limits(shape.rpm, shape.tpm, shape.concurrency, shape.requests, shape.tokens, shape.cost, shape.period)


def _endpoint(shape: EndpointShape, card: RateCard | None) -> Endpoint:
    """`card`: of the model's price, which holds where the endpoint has none."""
    timeouts, price = shape.timeouts, _known(shape.price)
    return Endpoint(
        id=shape.id,
        url=shape.url,
        api_key=shape.api_key,
        weight=shape.weight,
        priority=shape.priority,
        headers=shape.headers,
        query=shape.query,
        auth_header=shape.auth_header or usual_auth_header(shape.protocols),
        provider_model=shape.provider_model,
        max_in_flight=shape.max_in_flight,
        stream_usage=shape.stream_usage,
        protocols=tuple(dict.fromkeys(shape.protocols)),
        websocket=shape.websocket,
        account=shape.account,
        objects=shape.objects,
        pass_headers=shape.pass_headers,
        ca_file=shape.ca_file,
        timeouts=Timeouts(timeouts.connect, timeouts.first_byte, timeouts.idle, timeouts.total),
        price=price,
        card=card if price is None else rate_card(price),
    )


def _known(price: GivenPrice | None) -> Price | None:
    """`auto` has been looked up by now, or refused."""
    return price if isinstance(price, Price) else None


def make_key(shape: KeyShape) -> ApiKey:
    made = ApiKey(
        shape.id,
        shape.user,
        key_digest(shape),
        _set_of(shape.scopes),
        shape.expires,
        make_limits(shape.limits),
        shape.enabled,
        shape.name,
        None if shape.key is None else shape.key.reveal()[-4:],
        None if shape.models is None else tuple([id_text(model) for model in shape.models]),
        shape.ips,
        shape.priority,
    )
    if not isinstance(shape, StoredKeyShape):
        return made
    return msgspec.structs.replace(
        made,
        last4=shape.last4,
        created=shape.created,
        made_by=shape.made_by,
        makers=tuple([id_text(maker) for maker in shape.makers]),
        replaced_by=shape.replaced_by,
    )


def make_alert(shape: AlertShape) -> AlertSettings:
    return AlertSettings(Secret(shape.url), shape.secret, tuple(sorted(set(shape.at))), frozenset(shape.events))


@lru_cache(maxsize=64)
def _set_of(scopes: tuple[str, ...]) -> frozenset[str]:
    """Return one shared set for equal scopes.

    A set takes more memory than the rest of a key.
    """
    return frozenset(scopes)


def _absolute_sqlite_url(url: str, absolute: Callable[[str], str]) -> str:
    scheme, _, rest = url.partition("://")
    if not scheme.startswith("sqlite"):
        return url
    path, mark, query = rest.removeprefix("/").partition("?")
    return f"{scheme}:///{absolute(path)}{mark}{query}"


class _Numbers(dict[str, int]):
    """Numbers for the names of files, from 1 on as they come."""

    def __missing__(self, name: str) -> int:
        self[name] = number = max(self.values()) + 1
        return number


def _lines(file: GatewayFile, main: str) -> Lines:
    numbers = _Numbers({main: 0, "": 0})
    lines = {
        kind: {str(record.id): Lines.packed(numbers[record.place.source], record.place.line) for record in records}
        for kind, records in lists_of_records(file)
    }
    lines["feature"] = {
        name: Lines.packed(numbers[place.source], place.line)
        for name, place in [(name, file.place.inside("features", name)) for name in _features_in(file)]
    }
    return Lines(lines, tuple([name for name in numbers if name]))


def _features_in(file: GatewayFile) -> Iterable[str]:
    return file.features if file.place.inside("features").node is not file.place.node else ()


# -- price: auto


class _Wish(NamedTuple):
    endpoint: EndpointShape
    place: Place  # of the word `auto`
    url: str
    model: str


def set_auto_prices(file: GatewayFile, problems: Problems) -> tuple[str, ...]:
    """Set looked-up prices; return in words what was found.

    Not found, or the extra missing: a problem, so that nothing is free in silence.
    """
    wishes = [wish for model in file.models for wish in _wishes(model)]
    if not wishes:
        return ()
    wanted = sorted({(wish.url, wish.model) for wish in wishes})
    found = dict(zip(wanted, look_up(wanted), strict=True))
    return tuple([text for wish in wishes if (text := _set(wish, found, problems))])


def _wishes(model: ModelShape) -> Iterator[_Wish]:
    for endpoint in model.endpoints:
        price = model.price if endpoint.price is None else endpoint.price
        if price == "auto" and endpoint.url:
            holder = model if endpoint.price is None else endpoint
            name = endpoint.provider_model or model.provider_model or model.name
            yield _Wish(endpoint, holder.place.inside("price"), endpoint.url, name)


def _set(wish: _Wish, found: Mapping[tuple[str, str], Found], problems: Problems) -> str:
    result = found[wish.url, wish.model]
    host, model = urlsplit(wish.url).hostname or "", problems.quoted(wish.model)
    if result.price is None:
        problems.add_at(wish.place, f"{model} at {host}: {result.error}")
        return ""
    wish.endpoint.price = result.price
    no_slot = f"; without a slot here: {', '.join(result.no_slot)}" if result.no_slot else ""
    return f"line {wish.place.line}: {model} at {host} is {result.name}: {_words(result.price)}{no_slot}"


def _words(price: Price) -> str:
    fields = msgspec.to_builtins(price)
    return ", ".join(f"{name} {_word(value)}" for name, value in fields.items())


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else msgspec.json.encode(value).decode()
