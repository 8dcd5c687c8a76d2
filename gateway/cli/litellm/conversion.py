"""Convert the whole of their file, and name what is left."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gateway.cli.litellm.deployments import Deployment, Skipped, deployments_of
from gateway.cli.litellm.leftovers import notes_of
from gateway.cli.litellm.their_file import NOTHING, Note, Value
from gateway.config.checks import MIN_KEY_CHARACTERS

_ROTATIONS = {
    "simple-shuffle": "weighted",
    "least-busy": "least_busy",
    "usage-based-routing": "least_busy",
    "usage-based-routing-v2": "least_busy",
    "latency-based-routing": "least_busy",
    "cost-based-routing": "round_robin",
}
_ANY = "*"
_ALIKE = frozenset(("simple-shuffle", "least-busy"))
_TAKEN = {
    "router_settings": (
        "fallbacks",
        "default_fallbacks",
        "model_group_alias",
        "routing_strategy",
        "timeout",
        "stream_timeout",
    ),
    "litellm_settings": ("fallbacks", "default_fallbacks", "request_timeout", "model_alias_map", "set_verbose"),
    "general_settings": ("master_key", "global_max_parallel_requests"),
    "": ("model_list", "credential_list", "router_settings", "litellm_settings", "general_settings"),
}
_ORDER = (
    *("id", "name", "aliases", "provider_model", "tags", "global", "fallbacks", "operations", "price", "rotation"),
    "endpoints",
)
_MOST_WEIGHT = 1_000_000
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Converted(NamedTuple):
    """A gateway.yaml's sections, notes by line, variables that it names."""

    sections: dict[str, Any]
    notes: list[Note]
    variables: list[str]


def converted(whole: Value) -> Converted:
    """Convert what has a counterpart."""
    sections = whole.fields()
    notes: list[Note] = []
    pools = _pools(sections, notes)
    models = [_model(number, name, pool, sections, notes) for number, (name, pool) in enumerate(pools.items(), 1)]
    _alias(models, sections, notes)
    _fall_back(models, sections, notes)
    made: dict[str, Any] = {}
    general = sections.get("general_settings", NOTHING).fields()
    if (most := general.get("global_max_parallel_requests", NOTHING).number()) is not None and most >= 1:
        made["server"] = {"max_in_flight": min(int(most), 10_000_000)}
    made["models"] = [{name: model[name] for name in _ORDER if name in model} for model in models]
    made |= _keys(general.get("master_key"), sections, notes)
    for section, taken in _TAKEN.items():
        fields = sections.get(section, NOTHING).fields() if section else sections
        notes += notes_of(section, fields, taken)
    return Converted(made, sorted(notes, key=_place_of), sorted(set(_variables(made))))


def _place_of(note: Note) -> tuple[str, int]:
    file, _, line = note.where.rpartition(":")
    return file, int(line or 0)


# -- pools


def _pools(sections: Mapping[str, Value], notes: list[Note]) -> dict[str, list[Deployment]]:
    """Entries of one name are one model's endpoints."""
    credentials = {
        each.fields().get("credential_name", NOTHING).text() or "": each.fields().get("credential_values", NOTHING)
        for each in sections.get("credential_list", NOTHING).items()
    }
    defaults = _default_times(sections)
    pools: dict[str, list[Deployment]] = {}
    for entry in sections.get("model_list", NOTHING).items():
        try:
            for deployment in deployments_of(entry, credentials, defaults, notes.append):
                pools.setdefault(deployment.model, []).append(deployment)
        except Skipped as skipped:
            notes.append(skipped.note)
    return pools


def _default_times(sections: Mapping[str, Value]) -> dict[str, Value]:
    router = sections.get("router_settings", NOTHING).fields()
    module = sections.get("litellm_settings", NOTHING).fields()
    total = router.get("timeout") or module.get("request_timeout")
    first = router.get("stream_timeout")
    return ({"timeout": total} if total else {}) | ({"stream_timeout": first} if first else {})


def _model(
    number: int, name: str, pool: list[Deployment], sections: Mapping[str, Value], notes: list[Note]
) -> dict[str, Any]:
    weights = _weights(pool)
    rotation = _rotation(sections, weights, is_first=number == 1, notes=notes)
    is_weighted = len(pool) > 1 and rotation == "weighted"
    made: dict[str, Any] = {
        "id": number,
        "name": name,
        "provider_model": _shared_name(pool),
        "tags": sorted({tag for each in pool for tag in each.tags}),
        "global": True,
        "operations": _operations(pool),
        "price": pool[0].price if all(each.price == pool[0].price for each in pool) else None,
        "rotation": rotation if len(pool) > 1 else None,
        "endpoints": [
            _endpoint(each, place, pool, weights[place] if is_weighted else None) for place, each in enumerate(pool)
        ],
    }
    return {field: value for field, value in made.items() if value}


def _shared_name(pool: list[Deployment]) -> str | None:
    """Return the provider's name of it that all endpoints share."""
    names = {each.provider_model for each in pool}
    return pool[0].provider_model if len(names) == 1 and pool[0].provider_model != pool[0].model else None


def _operations(pool: list[Deployment]) -> list[str] | None:
    """What all of the pool serve; None: anything."""
    found: list[str] = []
    for each in pool:
        if each.operations is None:
            return None
        found += [operation for operation in each.operations if operation not in found]
    return found


def _endpoint(deployment: Deployment, place: int, pool: list[Deployment], weight: int | None) -> dict[str, Any]:
    made: dict[str, Any] = {"id": _id_of(deployment, place, pool)} | deployment.endpoint
    if len({each.provider_model for each in pool}) > 1 and deployment.provider_model != deployment.model:
        made["provider_model"] = deployment.provider_model
    if weight is not None and weight > 1:
        made["weight"] = weight
    if deployment.price and not all(each.price == deployment.price for each in pool):
        made["price"] = deployment.price
    return made


def _id_of(deployment: Deployment, place: int, pool: list[Deployment]) -> str:
    """Return their id of the deployment if unique, else its place."""
    ids = [each.where.fields().get("model_info", NOTHING).fields().get("id", NOTHING).text() for each in pool]
    mine = ids[place]
    return mine if mine and ids.count(mine) == 1 and mine == mine.strip() else f"d{place + 1}"


def _weights(pool: list[Deployment]) -> list[int]:
    """Shares of the load as small whole numbers."""
    for basis in ("weight", "rpm", "tpm"):
        shares = [each.shares.get(basis) for each in pool]
        if any(shares):
            least = min(share for share in shares if share)
            whole = [share or least for share in shares]
            common = math.gcd(*whole)
            return [max(1, min(share // common, _MOST_WEIGHT)) for share in whole]
    return [1] * len(pool)


def _rotation(sections: Mapping[str, Value], weights: list[int], *, is_first: bool, notes: list[Note]) -> str | None:
    strategy = sections.get("router_settings", NOTHING).fields().get("routing_strategy", NOTHING)
    text = strategy.text() or "simple-shuffle"
    if is_first and text not in _ALIKE:
        chosen = _ROTATIONS.get(text, "round_robin")
        notes.append(strategy.note(f"`rotation: {chosen}` is written instead, where a model has several endpoints"))
    rotation = _ROTATIONS.get(text, "round_robin")
    if rotation == "weighted" and len(set(weights)) == 1:
        return None
    return None if rotation == "round_robin" else rotation


# -- names


def _alias(models: list[dict[str, Any]], sections: Mapping[str, Value], notes: list[Note]) -> None:
    """Take over model_group_alias, and litellm_settings.model_alias_map."""
    by_name = {model["name"]: model for model in models}
    taken = set(by_name)
    for section, field in (("router_settings", "model_group_alias"), ("litellm_settings", "model_alias_map")):
        for alias, value in sections.get(section, NOTHING).fields().get(field, NOTHING).fields().items():
            target = value.fields().get("model", value).text()
            model = by_name.get(target or "")
            if model is None:
                notes.append(value.note("leads to no model of this file"))
            elif alias in taken or alias != alias.strip() or not alias:
                notes.append(value.note("another model has this name already"))
            else:
                model.setdefault("aliases", []).append(alias)
                taken.add(alias)


def _fall_back(models: list[dict[str, Any]], sections: Mapping[str, Value], notes: list[Note]) -> None:
    """Take over fallbacks; general ones where a model has none."""
    by_name = {name: model for model in models for name in (model["name"], *model.get("aliases", ()))}
    general: list[Value] = []
    for name, wanted in _rules(sections):
        if name == _ANY:
            general.append(wanted)
        elif name in by_name:
            _add_fallbacks(by_name[name], wanted, by_name, notes)
        else:
            notes.append(wanted.note("leads from no model of this file"))
    without = [model for model in models if "fallbacks" not in model]
    for wanted in general:
        for owner in without:
            _add_fallbacks(owner, wanted, by_name, notes)


def _rules(sections: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    """Yield models and their fallbacks; `*`: of every model."""
    for section in ("router_settings", "litellm_settings"):
        fields = sections.get(section, NOTHING).fields()
        for rule in fields.get("fallbacks", NOTHING).items():
            yield from rule.fields().items()
        if "default_fallbacks" in fields:
            yield _ANY, fields["default_fallbacks"]


def _add_fallbacks(
    owner: dict[str, Any], wanted: Value, by_name: Mapping[str, dict[str, Any]], notes: list[Note]
) -> None:
    for each in wanted.items():
        text = each.text()
        model = by_name.get(text or "")
        if model is None:
            missing = each.note("a fallback that is no model of this file")
            notes += [missing] if missing not in notes else []
        elif model is not owner and model["name"] not in owner.get("fallbacks", ()):
            owner.setdefault("fallbacks", []).append(model["name"])


# -- keys


def _keys(master: Value | None, sections: Mapping[str, Value], notes: list[Note]) -> dict[str, Any]:
    text = None if master is None else master.text()
    if master is None or text is None:
        place = sections.get("general_settings") or sections.get("model_list") or NOTHING
        notes.append(
            Note(
                place.where,
                "general_settings.master_key",
                "none: whoever asks needs a key here; `gateway keys new` makes one",
            )
        )
        return {}
    key: dict[str, Any] = {"id": "master", "user": "admin"}
    if master.is_reference():
        key["key"] = text
        notes.append(master.note(f"its variable must hold at least {MIN_KEY_CHARACTERS} characters"))
    else:
        plain = str(master.plain).strip()
        key["hash"] = f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"
        weak = "" if len(plain) >= MIN_KEY_CHARACTERS else " It is short enough to be guessed: make another one."
        notes.append(master.note(f"a secret in the file: its hash alone is taken over, so it goes on working.{weak}"))
    key["scopes"] = ["ai:use", "ai:manage", "usage:read"]
    return {"keys": [key]}


def _variables(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _variables(each)
    elif isinstance(value, list):
        for each in value:
            yield from _variables(each)
    elif isinstance(value, str):
        yield from _VARIABLE.findall(value.replace("$${", ""))
