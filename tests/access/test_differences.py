"""What a change of gateway.yaml means, in people's words: one row of the table a change, and never a credential."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from gateway.access.diff import MOST_LINES, differences
from gateway.config import Settings, parse_settings

Record = dict[str, Any]
SECRETS = ("sk-first-credential-of-an-upstream", "sk-second-credential-of-an-upstream")
KEY = "sk-key-of-a-client-0123456789abc"
OTHER_KEY = "sk-other-key-of-a-client-0123456"


def endpoint(name: str, **fields: Any) -> Record:
    return {"id": name, "url": f"https://{name}.example/v1", "api_key": SECRETS[0]} | fields


BASE: Record = {
    "models": [
        {"id": 1, "name": "open", "global": True, "endpoints": [endpoint("a"), endpoint("b")]},
        {"id": 2, "name": "closed", "endpoints": [endpoint("c")]},
        {"id": 3, "name": "other", "endpoints": [endpoint("d")]},
    ],
    "organisations": [{"id": 10, "name": "Example Org"}],
    "plans": [{"id": "pro"}],
    "users": [
        {"id": 42, "tier": "paid", "organisations": [10], "plans": ["pro"]},
        {"id": 7, "grants": [{"model": "closed", "limits": {"rpm": 5}}]},
    ],
    "keys": [{"id": "laptop", "user": 42, "key": KEY}],
}


def read(file: Record) -> Settings:
    return parse_settings(orjson.dumps(file, option=orjson.OPT_INDENT_2).decode(), "gateway.yaml", {}, Path("/"))


def told(*changes: tuple[str, Any], base: Record = BASE) -> list[str]:
    """The differences after `changes` of the base: paths like `models.1.name`, and what is there then."""
    return differences(read(base), read(changed(base, *changes)))


def changed(base: Record, *changes: tuple[str, Any]) -> Record:
    file = copy.deepcopy(base)
    for path, value in changes:
        *way, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
        place: Any = file
        for step in way:
            place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
        place[last] = value
    return file


class Case(NamedTuple):
    change: tuple[str, Any]
    lines: list[str]


GRANT = [{"model": "other"}]
CASES = {
    "a grant of a user's own": Case(
        ("users.0.grants", GRANT), ["user 42 gains other", "user 42: assigned model open → other"]
    ),
    "a grant of what everybody has, which now comes first": Case(
        ("users.1.grants", [{"model": "open"}, *BASE["users"][1]["grants"]]),
        ["user 7: assigned model closed → open"],
    ),
    "the open models in another order": Case(
        ("models", [model | {"global": True} for model in reversed(BASE["models"])]),
        [
            "model other: is_global no → yes",
            "model closed: is_global no → yes",
            "everybody with a key gains other",
            "everybody with a key gains closed",
            "everybody without a grant: assigned model open → other",
        ],
    ),
    "a grant taken away": Case(("users.1.grants", []), ["user 7 loses closed", "user 7: assigned model closed → open"]),
    "a grant of a plan": Case(
        ("plans.0.grants", GRANT),
        ["plan pro gains other", "user 42 gains other (by plan pro)", "user 42: assigned model open → other"],
    ),
    "a grant of an organisation": Case(
        ("organisations.0.grants", GRANT),
        [
            "organisation 10 gains other",
            "user 42 gains other (by organisation 10)",
            "user 42: assigned model open → other",
        ],
    ),
    "an organisation with a grant, of which no user is told here": Case(
        ("organisations", [*BASE["organisations"], {"id": 11, "grants": GRANT}]),
        ["organisation 11 added", "organisation 11 gains other"],
    ),
    "a plan that is new": Case(("plans", [*BASE["plans"], {"id": "max"}]), ["plan max added"]),
    "a new name of an organisation": Case(
        ("organisations.0.name", "Better Org"), ["organisation 10: name Example Org → Better Org"]
    ),
    "a model opened to all": Case(
        ("models.2.global", True), ["model other: is_global no → yes", "everybody with a key gains other"]
    ),
    "a model closed": Case(
        ("models.0.global", False), ["model open: is_global yes → no", "everybody with a key loses open"]
    ),
    "limits of a grant": Case(
        ("users.1.grants.0.limits", {"rpm": 9, "tokens": 100, "period": "day"}),
        ["user 7: limits on closed: rpm 5 → rpm 9, tokens 100, period day"],
    ),
    "limits taken away": Case(("users.1.grants.0.limits", None), ["user 7: limits on closed: rpm 5 → none"]),
    "limits of a model": Case(("models.0.limits", {"rpm": 60}), ["model open: limits none → rpm 60"]),
    "limits of a key": Case(("keys.0.limits", {"requests": 3}), ["key laptop: limits none → requests 3"]),
    "an endpoint added": Case(
        ("models.1.endpoints", [endpoint("c"), endpoint("e")]),
        ["model closed: endpoint e added (https://e.example/v1)"],
    ),
    "an endpoint removed": Case(("models.0.endpoints", [endpoint("a")]), ["model open: endpoint b removed"]),
    "an endpoint that moves": Case(
        ("models.1.endpoints.0.url", "https://new.example/v1"),
        ["model closed: endpoint c: url https://c.example/v1 → https://new.example/v1"],
    ),
    "a price": Case(
        ("models.0.price", {"input": 2, "output": 3}),
        ["model open: price none → input 2, output 3, above none, service_tiers none"],
    ),
    "a weight": Case(("models.0.endpoints.1.weight", 3), ["model open: endpoint b: weight 1 → 3"]),
    "a credential of an upstream": Case(
        ("models.0.endpoints.0.api_key", SECRETS[1]), ["model open: endpoint a: api_key changed"]
    ),
    "a credential in a header": Case(
        ("models.0.endpoints.0.headers", {"x-secret": SECRETS[1]}), ["model open: endpoint a: headers changed"]
    ),
    "a credential in a query": Case(
        ("models.0.endpoints.0.query", {"code": SECRETS[1]}), ["model open: endpoint a: query changed"]
    ),
    "the key of a client": Case(("keys.0.key", OTHER_KEY), ["key laptop: sha256 changed"]),
    "a key revoked": Case(("keys", []), ["key laptop of user 42 removed"]),
    "scopes of a key": Case(
        ("keys.0.scopes", ["usage:read", "ai:use"]), ["key laptop: scopes ai:use → ai:use, usage:read"]
    ),
    "a tier": Case(("users.0.tier", "enterprise"), ["user 42: tier paid → enterprise"]),
    "a feature": Case(("features", {"ai": False}), ["feature ai: on → off"]),
    "a port": Case(("server.port", 9), ["server.port 8080 → 9 (takes effect at the next start)"]),
    "a time-out": Case(
        ("server.timeouts", {"head": 3}),
        ["server.timeouts head 10, body 60, write 60, keepalive 75 → head 3, body 60, write 60, keepalive 75"],
    ),
    "a store with a password": Case(
        ("store", {"url": f"redis://:{SECRETS[1]}@127.0.0.1/0"}), ["store.url changed (takes effect at the next start)"]
    ),
    "a ledger with a password": Case(
        ("usage", {"url": f"postgresql://u:{SECRETS[1]}@db/usage"}),
        ["usage.url changed (takes effect at the next start)"],
    ),
    "a list of tiers": Case(
        ("tiers", ["free", "paid", "enterprise", "royal"]),
        ["tiers: free, paid, enterprise → free, paid, enterprise, royal"],
    ),
}


@pytest.mark.parametrize(("change", "lines"), CASES.values(), ids=CASES.keys())
def test_a_change_is_told_in_these_words(change: tuple[str, Any], lines: list[str]) -> None:
    """Exactly these: what did not change is not spoken of."""
    assert told(change) == lines


def test_nothing_is_told_where_nothing_of_substance_changed() -> None:
    """Other lines, comments or an order of fields are none, nor is a default that is spelt out."""
    assert differences(read(BASE), read(dict(reversed(BASE.items())))) == []
    assert told(("server.port", 8080), ("features", {"ai": True})) == []


def test_users_are_told_in_the_same_order_each_time() -> None:
    users = [{"id": f"user-{number}", "grants": GRANT} for number in range(9)]
    lines = told(("users", [*BASE["users"], *users]))
    assert [line for line in lines if "gains" in line] == [f"user user-{number} gains other" for number in range(9)]


def test_a_user_who_has_a_grant_besides_gains_nothing_when_all_do() -> None:
    """What everybody gains is told once, not again for each."""
    lines = told(("models.1.global", True))
    assert lines == ["model closed: is_global no → yes", "everybody with a key gains closed"]


@pytest.mark.parametrize("change", [case.change for case in CASES.values()], ids=CASES.keys())
def test_no_credential_is_ever_shown(change: tuple[str, Any]) -> None:
    """There and back: no key, no hash, no credential of an upstream or a database."""
    before, after = read(BASE), read(changed(BASE, change))
    lines = differences(before, after) + differences(after, before)
    assert lines
    hashes = [key.sha256 for settings in (before, after) for key in settings.keys]
    assert [secret for secret in (*SECRETS, KEY, OTHER_KEY, *hashes) if secret in "\n".join(lines)] == []


def test_no_more_lines_than_anybody_reads() -> None:
    """The rest is counted."""
    many = [{"id": f"plan-{number:03}"} for number in range(MOST_LINES + 5)]
    lines = told(("plans", [*BASE["plans"], *many]))
    assert (len(lines), lines[-1]) == (MOST_LINES + 1, "… and 5 more changes")
