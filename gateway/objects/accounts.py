"""Accounts: which endpoints see the same objects at their provider.

Endpoints of the same `account`, or of equal URL origin, credential and headers, whatever their models. (Endpoints that
name different accounts are apart, whatever else is equal.)

An object bears a label: the name, origin, fingerprint and endpoint that it was made through. A credential may be
rotated, a model renamed or an endpoint removed, so a label is found again by the first of these that leads anywhere:

1. its `account` name, where one is configured;
2. its fingerprint (origin, credential and headers, hashed): the account as it was;
3. its endpoint (model and endpoint id) at the same origin, whose credential has been rotated meanwhile.

So equal credentials rotated together stay one account, and one whose credential now belongs to other endpoints follows
its credential. Labels of one account differ: compare what `find` returns, never the labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from gateway.types import Endpoint, Model, Secret, id_text

_FINGERPRINT_CHARACTERS = 24
_PORTS = {"http": 80, "https": 443}

_Member = tuple[str, str]  # ids of a model and of its endpoint, as text
_Fingerprints = dict[tuple[str, Secret | None, tuple[tuple[str, Secret], ...]], tuple[str, str]]


class _Label(msgspec.Struct, frozen=True, array_like=True):
    """The parts of a label, a JSON array without any credential."""

    name: str | None
    origin: str
    fingerprint: str
    model: str
    endpoint: str


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Label)


class Account(msgspec.Struct, frozen=True, eq=False):
    """An account of the present configuration.

    One object for each, so that `is` compares them.
    """

    name: str | None
    origin: str
    members: frozenset[_Member]

    def holds(self, model: Model, endpoint: Endpoint) -> bool:
        return _member(model, endpoint) in self.members

    def endpoints_of(self, model: Model) -> tuple[Endpoint, ...]:
        """Return those of a model's endpoints that are this account's."""
        return tuple(endpoint for endpoint in model.endpoints if self.holds(model, endpoint))

    def __repr__(self) -> str:
        return f"<Account {self.name or self.origin}, {len(self.members)} endpoints>"


class Accounts:
    """The accounts of all models' endpoints, as configured now."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._labels: dict[_Member, _Label] = {}
        self._by_key: dict[str, Account] = {}  # by name, and by fingerprint
        self._by_member: dict[_Member, Account] = {}
        names: dict[str, str] = {}  # of fingerprints
        known: _Fingerprints = {}
        for model in models:
            for endpoint in model.endpoints:
                label = _label(model, endpoint, known)
                self._labels[label.model, label.endpoint] = label
                if label.name is not None:
                    names.setdefault(label.fingerprint, label.name)
        groups: dict[str, list[_Label]] = {}
        for label in self._labels.values():
            name = label.name or names.get(label.fingerprint)
            groups.setdefault(_by_fingerprint(label) if name is None else _by_name(name), []).append(label)
        for key, labels in groups.items():
            self._add(key, labels)

    def _add(self, key: str, labels: list[_Label]) -> None:
        name = next((label.name for label in labels if label.name is not None), None)
        account = Account(name, labels[0].origin, frozenset((each.model, each.endpoint) for each in labels))
        self._by_key[key] = account
        for label in labels:
            self._by_member[label.model, label.endpoint] = account
            # Also of one with a name: for objects made before it had one. Of two, the first keeps it.
            self._by_key.setdefault(_by_fingerprint(label), account)

    def label(self, model: Model, endpoint: Endpoint) -> str:
        """Return what to remember as the account of an object made here."""
        found = self._labels.get(_member(model, endpoint))
        return _encode(found if found is not None else _label(model, endpoint, {})).decode()

    def find(self, label: str) -> Account | None:
        """Return the account that a label means; None where it has left."""
        try:
            told = _decoder.decode(label)
        except msgspec.DecodeError:
            return None
        named = self._by_key.get(_by_name(told.name)) if told.name is not None else None
        return named or self._by_key.get(_by_fingerprint(told)) or self._rotated(told)

    def of(self, model: Model, endpoint: Endpoint) -> Account | None:
        """Return an endpoint's account; None where it is not configured any more."""
        return self._by_member.get(_member(model, endpoint))

    def _rotated(self, told: _Label) -> Account | None:
        member = told.model, told.endpoint
        now = self._labels.get(member)
        return self._by_member[member] if now is not None and now.origin == told.origin else None

    def __repr__(self) -> str:
        return f"<Accounts of {len(self._labels)} endpoints>"


class AccountsInUse:
    """The accounts of the models in use, computed when first asked for."""

    def __init__(self) -> None:
        self._models: tuple[Model, ...] = ()
        self._accounts = Accounts(())

    def of(self, models: tuple[Model, ...]) -> Accounts:
        """`models`: of the catalogue; the same tuple while nothing has changed."""
        if models is not self._models:
            self._accounts, self._models = Accounts(models), models
        return self._accounts

    def __repr__(self) -> str:
        return f"<AccountsInUse: {self._accounts!r}>"


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, the port always written."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _PORTS.get(scheme, 0)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _member(model: Model, endpoint: Endpoint) -> _Member:
    return id_text(model.id), id_text(endpoint.id)


def _label(model: Model, endpoint: Endpoint, known: _Fingerprints) -> _Label:
    """`known`: origins and fingerprints so far; many models have the same."""
    equal = endpoint.url, endpoint.api_key, tuple(endpoint.headers.items())
    found = known.get(equal)
    if found is None:
        origin = origin_of(endpoint.url)
        found = known[equal] = origin, _fingerprint(origin, endpoint)
    return _Label(endpoint.account, *found, *_member(model, endpoint))


def _fingerprint(origin: str, endpoint: Endpoint) -> str:
    credential = endpoint.api_key.reveal() if endpoint.api_key is not None else None
    headers = sorted((name.lower(), value.reveal()) for name, value in endpoint.headers.items())
    hashed = hashlib.sha256(b"gateway account" + _encode([origin, credential, headers]))
    return hashed.hexdigest()[:_FINGERPRINT_CHARACTERS]


def _by_name(name: str) -> str:
    return f"name {name}"


def _by_fingerprint(label: _Label) -> str:
    return f"hash {label.fingerprint}"
