"""Describe the difference of two configurations in people's words.

Who gains or loses what, which endpoints change.

Read by operators in the log of a reload and by `gateway check --against`. Never a credential in it.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway.access.resolve import accessible
from gateway.config import Settings
from gateway.store.base import Catalogue
from gateway.types import Access, ApiKey, Caller, Endpoint, Limits, Model, Organisation, Plan, Secret, User, id_text

# Nobody reads more lines than this; the count of the rest is told.
MOST_LINES = 200
# Read once, when the process starts.
AT_START = ("host", "port", "workers")
_SECTIONS = tuple("server store usage routing chat studio self_service queue telemetry proxy".split())  # noqa: SIM905
_AT_A_TIME, _PAUSE_SECONDS = 64, 0.000_05

Record = TypeVar("Record", Model, Endpoint, User, ApiKey, Organisation, Plan)
Owner = TypeVar("Owner", Organisation, Plan)


def differences(old: Settings, new: Settings) -> list[str]:
    """One sentence a change; empty where nothing of substance changed."""
    parts = (_sections, _models, _owners, _access, _users, _keys)
    lines = [line for part in parts for line in part(old, new)]
    if len(lines) > MOST_LINES:
        return [*lines[:MOST_LINES], f"… and {len(lines) - MOST_LINES} more changes"]
    return lines


def _sections(old: Settings, new: Settings) -> Iterator[str]:
    for name in _SECTIONS:
        for change in _changed_fields(getattr(old, name), getattr(new, name)):
            field = change.split(" ")[0]
            restart = name in ("store", "usage", "proxy") or field in AT_START
            if name in ("store", "usage") and field == "url":
                restart = not _is_login_alone(getattr(old, name).url, getattr(new, name).url)
            yield f"{name}.{change}{' (takes effect at the next start)' if restart else ''}"
    yield from _issuers(old, new)
    if old.tiers != new.tiers:
        yield f"tiers: {_shown(old.tiers)} → {_shown(new.tiers)}"
    for name in sorted(old.features.keys() | new.features.keys()):
        before, after = old.features.get(name, True), new.features.get(name, True)
        if before != after:
            yield f"feature {name}: {'on → off' if before else 'off → on'}"


def _is_login_alone(old: Secret, new: Secret) -> bool:
    """Whether two URLs differ by user and password alone."""
    before, after = (urlsplit(each.reveal()) for each in (old, new))
    places = [each._replace(netloc=each.netloc.rpartition("@")[2]) for each in (before, after)]
    return places[0] == places[1]


def _issuers(old: Settings, new: Settings) -> Iterator[str]:
    """Yield changes of who signs tokens, by issuer and audience."""
    before, after = (
        {(each.issuer, audience): each for each in settings.auth.jwt for audience in sorted(each.audience)}
        for settings in (old, new)
    )
    for issuer, audience in sorted(before.keys() - after.keys()):
        yield f"tokens of {issuer} for {audience}: not taken any more"
    for issuer, audience in sorted(after.keys() - before.keys()):
        yield f"tokens of {issuer} for {audience}: taken from now on"
    for issuer, audience in sorted(before.keys() & after.keys()):
        then, now = before[issuer, audience], after[issuer, audience]
        for change in _changed_fields(then, now, leave_out=("issuer", "audience", "jwks")):
            yield f"tokens of {issuer} for {audience}: {change}"
        if then.jwks != now.jwks:
            yield f"tokens of {issuer} for {audience}: the keys have changed"


def _models(old: Settings, new: Settings) -> Iterator[str]:
    before, after = _by_id(old.models), _by_id(new.models)
    for model in _only_in(before, after):
        yield f"model {model.name} removed"
    for model in _only_in(after, before):
        yield f"model {model.name} added, with {len(model.endpoints)} endpoints"
    for then, now in _in_both(before, after):
        for change in _changed_fields(then, now, leave_out=("endpoints", "id")):
            yield f"model {now.name}: {change}"
        yield from _endpoints(then, now)


def _endpoints(old: Model, new: Model) -> Iterator[str]:
    before, after = _by_id(old.endpoints), _by_id(new.endpoints)
    for endpoint in _only_in(before, after):
        yield f"model {new.name}: endpoint {endpoint.id} removed"
    for endpoint in _only_in(after, before):
        yield f"model {new.name}: endpoint {endpoint.id} added ({endpoint.url})"
    for then, now in _in_both(before, after):
        for change in _changed_fields(then, now, leave_out=("id", "card")):  # the card follows from the prices
            yield f"model {new.name}: endpoint {now.id}: {change}"


def _owners(old: Settings, new: Settings) -> Iterator[str]:
    """Yield changes of organisations and plans.

    Their members may all be in the run-time store, which is not read here.
    """
    yield from _grants("organisation", old.organisations, new.organisations, old, new)
    yield from _grants("plan", old.plans, new.plans, old, new)


def _grants(
    kind: str, owners_before: Iterable[Owner], owners_after: Iterable[Owner], old: Settings, new: Settings
) -> Iterator[str]:
    before, after = _by_id(owners_before), _by_id(owners_after)
    for owner in _only_in(before, after):
        yield f"{kind} {owner.id} removed"
    for owner in _only_in(after, before):
        yield f"{kind} {owner.id} added"
    for then, now in _in_both(before, after):
        for change in _changed_fields(then, now, leave_out=("id", "grants")):
            yield f"{kind} {now.id}: {change}"
    for owner_id in sorted(before.keys() | after.keys()):
        was = _granted(before.get(owner_id), old)
        yield from _gains_and_losses(f"{kind} {owner_id}", was, _granted(after.get(owner_id), new))


def _granted(owner: Organisation | Plan | None, settings: Settings) -> dict[str, Access]:
    """Map granted models' names to grants.

    The source is not shown, so any but "global" does.
    """
    models = _by_id(settings.models)
    grants = owner.grants if owner is not None else ()
    return {
        models[grant.model].name: Access(models[grant.model], "user", grant=grant)
        for grant in grants
        if grant.model in models
    }


def _access(old: Settings, new: Settings) -> Iterator[str]:
    before, after = _Reach(old), _Reach(new)
    was, now = before.of_everybody(), after.of_everybody()
    yield from _gains_and_losses("everybody with a key", was, now)
    yield from _assignment("everybody without a grant", was, now)
    # What everybody gains or loses has been told by then, and is not told again for each user.
    for user_id in _in_turns(_possibly_changed(before, after)):
        was, now = before.of(user_id), after.of(user_id)
        own = {name for name in was.keys() | now.keys() if not _is_for_all(was.get(name) or now[name])}
        yield from _gains_and_losses(f"user {user_id}", _only(was, own), _only(now, own))
        if own:
            yield from _assignment(f"user {user_id}", was, now)


def _possibly_changed(before: _Reach, after: _Reach) -> Iterator[str]:
    """Return ids of users whose grants may have changed.

    Of all where models, organisations or plans changed, else of those whose records did.
    """
    if before.shared != after.shared:
        yield from after.users
    else:
        yield from (user_id for user_id, user in after.users.items() if before.users.get(user_id) != user)
    yield from (user_id for user_id in before.users if user_id not in after.users)


def _in_turns(items: Iterable[str]) -> Iterator[str]:
    """Iterate with pauses, for the event loop's sake.

    A thread that counts for long must let it in.
    """
    for number, item in enumerate(items, 1):
        if number % _AT_A_TIME == 0:
            time.sleep(_PAUSE_SECONDS)
        yield item


def _is_for_all(access: Access) -> bool:
    return access.source == "global"


def _only(accesses: Mapping[str, Access], names: Container[str]) -> dict[str, Access]:
    return {name: access for name, access in accesses.items() if name in names}


class _Reach:
    """Which models each user may use under one configuration, by name."""

    def __init__(self, settings: Settings) -> None:
        self.users = _by_id(settings.users)
        self._organisations = _by_id(settings.organisations)
        self._plans = _by_id(settings.plans)
        self._catalogue = Catalogue(settings.models)
        self._lowest_tier = settings.tiers[0]
        self.shared = (settings.models, settings.organisations, settings.plans, self._lowest_tier)

    def of_everybody(self) -> dict[str, Access]:
        return {model.name: Access(model, "global") for model in self._catalogue.open_to_all}

    def of(self, user_id: str) -> dict[str, Access]:
        user = self.users.get(user_id) or User(id=user_id, tier=self._lowest_tier)
        caller = Caller(
            user,
            ApiKey(id="", user=user.id, sha256=""),
            tuple(self._organisations[one] for one in user.organisations if one in self._organisations),
            tuple(self._plans[one] for one in user.plans if one in self._plans),
        )
        return {access.model.name: access for access in accessible(caller, self._catalogue)}


def _gains_and_losses(whom: str, before: Mapping[str, Access], after: Mapping[str, Access]) -> Iterator[str]:
    for name, access in after.items():
        if name not in before:
            yield f"{whom} gains {name}{_by(access)}"
        elif before[name].limits != access.limits and not _is_for_all(access):
            yield f"{whom}: limits on {name}: {_shown(before[name].limits)} → {_shown(access.limits)}"
    for name in before:
        if name not in after:
            yield f"{whom} loses {name}"


def _assignment(whom: str, before: Mapping[str, Access], after: Mapping[str, Access]) -> Iterator[str]:
    """Note another assigned model: the first, which serves what names none."""
    was, now = next(iter(before), None), next(iter(after), None)
    if was is not None and now is not None and was != now:
        yield f"{whom}: assigned model {was} → {now}"


def _by(access: Access) -> str:
    return "" if access.source in ("global", "user") else f" (by {access.source} {access.owner})"


def _users(old: Settings, new: Settings) -> Iterator[str]:
    before, after = _by_id(old.users), _by_id(new.users)
    for user in _only_in(before, after):
        yield f"user {user.id} removed"
    for user in _only_in(after, before):
        yield f"user {user.id} added (tier {user.tier})"
    for then, now in _in_both(before, after):
        for change in _changed_fields(then, now, leave_out=("id", "grants")):
            yield f"user {now.id}: {change}"


def _keys(old: Settings, new: Settings) -> Iterator[str]:
    before, after = _by_id(old.keys), _by_id(new.keys)
    for key in _only_in(before, after):
        yield f"key {key.id} of user {key.user} removed"
    for key in _only_in(after, before):
        yield f"key {key.id} of user {key.user} added ({_shown(key.scopes)})"
    for then, now in _in_both(before, after):
        for change in _changed_fields(then, now, leave_out=("id", "last4")):
            yield f"key {now.id}: {change}"


def _changed_fields(old: msgspec.Struct, new: msgspec.Struct, leave_out: Iterable[str] = ()) -> Iterator[str]:
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if name in leave_out or before == after:
            continue
        if _is_secret(name, before, after):
            yield f"{name} changed"
        else:
            yield f"{name} {_shown(before)} → {_shown(after)}"


def _is_secret(name: str, *values: object) -> bool:
    return name == "sha256" or any(
        isinstance(value, Secret) or (isinstance(value, dict) and any(isinstance(v, Secret) for v in value.values()))
        for value in values
    )


def _shown(value: Any) -> str:
    if value is None or value in ((), frozenset(), {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, frozenset):
        return ", ".join(map(str, sorted(value)))
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, msgspec.Struct):
        return _shown_fields(value)
    return str(value)


def _shown_fields(value: msgspec.Struct) -> str:
    """Show set fields; a limit's period only if unusual."""
    is_usual = isinstance(value, Limits) and value.period == "month"
    fields = {name: getattr(value, name) for name in value.__struct_fields__ if name != "period" or not is_usual}
    shown = [f"{name} {_shown(field)}" for name, field in fields.items() if field is not None]
    return ", ".join(shown) or "none"


def _by_id(records: Iterable[Record]) -> dict[str, Record]:
    return {id_text(record.id): record for record in records}


def _only_in(these: Mapping[str, Record], those: Mapping[str, Record]) -> Iterator[Record]:
    return (record for record_id, record in these.items() if record_id not in those)


def _in_both(before: Mapping[str, Record], after: Mapping[str, Record]) -> Iterator[tuple[Record, Record]]:
    return ((before[record_id], record) for record_id, record in after.items() if record_id in before)
