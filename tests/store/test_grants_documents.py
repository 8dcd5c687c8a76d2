"""Run-time documents are read by the rules of gateway.yaml, and nothing in them can do harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from grants_kit import KEY_SHA256, SECRET, document
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import parse_settings
from gateway.config.documents import (
    LONGEST_DOCUMENT_BYTES,
    InvalidDocument,
    Link,
    Linked,
    RecordKind,
    parse_document,
    parse_feature,
)
from gateway.types import ApiKey, Limits, Model, User

MODEL: dict[str, Any] = {
    "id": 5,
    "name": "meta/llama",
    "aliases": ["llama"],
    "provider_model": "llama-3",
    "tags": ["chat"],
    "global": True,
    "limits": {"rpm": 60, "tokens": 2000000, "cost": 1.5, "period": "day"},
    "fallbacks": [],
    "price": {"input": 2.5, "output": 10},
    "rotation": "weighted",
    "endpoints": [
        {
            "id": "a",
            "url": "https://upstream.example/base/",
            "api_key": SECRET,
            "weight": 3,
            "priority": -1,
            "headers": {"X-Org": "org"},
            "query": {"api-version": "1"},
            "auth_header": "api-key",
            "provider_model": None,
            "max_in_flight": 10,
            "stream_usage": False,
            "timeouts": {"connect": 1, "first_byte": 2.5},
        }
    ],
}
KEY: dict[str, Any] = {
    "id": "laptop",
    "user": 42,
    "scopes": ["ai:use", "usage:read"],
    "expires": "2027-01-01",
    "limits": {"rpm": 3},
}


def record(kind: RecordKind, record_id: str, written: bytes) -> Any:
    return parse_document(kind, record_id, written).record


def reasons(kind: RecordKind, record_id: str, written: bytes) -> tuple[str, ...]:
    with pytest.raises(InvalidDocument) as refused:
        parse_document(kind, record_id, written)
    return refused.value.reasons


def outcome(kind: RecordKind, record_id: str, written: bytes) -> str:
    """What is made of a document, or said of it."""
    try:
        return repr(parse_document(kind, record_id, written))
    except InvalidDocument as refused:
        return str(refused)


def test_every_field_of_a_model_and_a_key_means_the_same_as_in_the_file() -> None:
    file = {"models": [MODEL], "keys": [{**KEY, "hash": f"sha256:{KEY_SHA256}"}]}
    listed = parse_settings(yaml.safe_dump(file), "gateway.yaml", {}, Path("/"))
    assert parse_document("model", "5", document(**MODEL)) == (listed.models[0], ())
    assert parse_document("key", KEY_SHA256, document(**KEY)) == (listed.keys[0], ())


def test_an_owner_comes_with_links_whose_models_are_yet_to_be_looked_up() -> None:
    written = document(
        id=42,
        tier="paid",
        organisations=[10, "b"],
        plans=["pro"],
        grants=[{"model": 1, "limits": {"rpm": 3}}, {"id": 7, "model": "x"}],
    )
    owner = User(id=42, tier="paid", organisations=("10", "b"), plans=("pro",))
    links = (Link(None, "1", Limits(rpm=3)), Link(7, "x", None))
    assert record("user", "42", written) == Linked(owner, links)
    assert record("org", "10", b'{"name":"Example"}').owner.name == "Example"


def test_references_to_the_environment_stay_text() -> None:
    written = {**MODEL, "name": "${HOME}", "endpoints": [{"id": "${X}", "url": "http://a", "api_key": "${PATH:-x}"}]}
    model = record("model", "5", document(**written))
    assert isinstance(model, Model)
    assert (model.name, model.endpoints[0].id) == ("${HOME}", "${X}")
    assert model.endpoints[0].api_key is not None
    assert model.endpoints[0].api_key.reveal() == "${PATH:-x}"


@pytest.mark.parametrize(
    ("record_id", "fields", "expected"),
    [
        ("42", {}, 42),
        ("42", {"id": "42"}, "42"),
        ("42", {"id": 42}, 42),
        ("42", {"id": None}, 42),
        ("42", {"id": 7}, 42),
        ("042", {}, "042"),
        ("anna", {}, "anna"),
        ("99999999999999999999", {}, "99999999999999999999"),
    ],
)
def test_the_document_s_key_decides_the_id_and_the_document_its_type(
    record_id: str, fields: dict[str, Any], expected: int | str
) -> None:
    owner = record("user", record_id, document(**fields)).owner
    assert owner.id == expected
    assert type(owner.id) is type(expected)


def test_a_key_without_id_is_named_by_its_hash_and_what_it_says_of_itself_is_no_credential() -> None:
    reading = parse_document("key", KEY_SHA256, document(user=42, key="gw-plain", hash="sha256:00"))
    assert isinstance(reading.record, ApiKey)
    assert (reading.record.id, reading.record.sha256, reading.record.scopes) == (KEY_SHA256, KEY_SHA256, {"ai:use"})
    assert sorted(reading.ignored) == ["hash", "key"]


def test_unknown_fields_are_passed_over_and_named() -> None:
    written = document(name="x", created_at="now", endpoints=[{"id": 1, "url": "http://a", "region": {"eu": [1]}}])
    reading = parse_document("model", "5", written)
    assert sorted(reading.ignored) == ["created_at", "endpoints[0].region"]


def test_every_problem_is_told_at_once_in_the_words_of_the_file() -> None:
    told = reasons("user", "42", document(tier=5, plans={"a": 1}, grants=[{"limits": {"rpm": "60"}}]))
    assert set(told) == {
        "tier: expected text, found the whole number 5 (put it in quotes if text is meant)",
        "plans: expected a list, found a mapping",
        "grants[0].model: is missing",
        "grants[0].limits.rpm: expected a whole number, found the text '60' (take the quotes away)",
    }


@pytest.mark.parametrize(
    ("kind", "written", "reason"),
    [
        ("user", b"", "not valid JSON"),
        ("user", b"[1]", "not a JSON object"),
        ("user", b"[" * 100_000, "not valid JSON"),
        ("user", b'{"tier":"' + b"x" * LONGEST_DOCUMENT_BYTES + b'"}', "larger than"),
        ("user", b'{"grants":[{"id":1,"model":"a"},{"id":1,"model":"b"}]}', "already the id of"),
        ("key", b"{}", "user: is missing"),
        ("key", b'{"user":1,"scopes":["ai:use","root"]}', "scopes[1]: expected one of"),
        ("key", b'{"user":1,"expires":1798761600}', "expires: expected a date or time"),
        ("key", b'{"user":1,"expires":"soon"}', "expires: expected a date or time"),
        ("model", b'{"name":"x"}', "endpoints: is missing"),
        ("model", b'{"name":"x","endpoints":[]}', "endpoints: must have at least 1 entry"),
        ("model", b'{"name":"x","endpoints":[{"id":1,"url":"ftp://a"}]}', "must begin with http:// or https://"),
        ("model", b'{"name":"x","endpoints":[{"id":1,"url":"http://a"},{"id":1,"url":"http://b"}]}', "already the id"),
    ],
)
def test_what_cannot_be_used_is_refused_whole(kind: RecordKind, written: bytes, reason: str) -> None:
    record_id = KEY_SHA256 if kind == "key" else "42"
    assert any(reason in each for each in reasons(kind, record_id, written))


def test_a_key_must_be_filed_under_a_hash() -> None:
    assert reasons("key", "laptop", document(**KEY)) == ("hash: must be `sha256:` and 64 hexadecimal digits",)


@pytest.mark.parametrize(("written", "enabled"), [(b"1", True), (b"0", False), (b" 1\n", True)])
def test_a_feature_is_one_or_zero(written: bytes, enabled: bool) -> None:
    assert parse_feature(written) == (enabled, True)


@pytest.mark.parametrize("written", [b"", b"2", b"on", b"off", b"true", b"false", b'"1"', b"[]", b'{"enabled":true}'])
def test_a_feature_that_is_neither_counts_as_off(written: bytes) -> None:
    """Somebody meant to change it; what must not happen is that an attempt to close leaves it open."""
    assert parse_feature(written) == (False, False)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("user", {"tier": "paid", "organisations": [], "plans": [], "grants": []}),
        ("user", {"grants": [{"model": "m", "limits": {}}]}),
        ("org", {"grants": []}),
        ("plan", {"grants": [{"model": "m", "limits": {}}]}),
        ("key", {"user": 42, "scopes": [], "limits": {}}),
        (
            "model",
            {
                "name": "m",
                "aliases": [],
                "tags": [],
                "fallbacks": [],
                "limits": {},
                "price": {},
                "endpoints": [{"id": "a", "url": "http://a.example", "headers": {}, "query": {}, "timeouts": {}}],
            },
        ),
    ],
)
def test_an_empty_list_or_object_may_be_written_as_either(kind: RecordKind, fields: dict[str, Any]) -> None:
    """Lua's cjson writes `{}` for an empty table, PHP `[]` for an empty array, whatever was meant."""
    written = document(**fields)
    for swapped in (written.replace(b"[]", b"{}"), written.replace(b"{}", b"[]")):
        assert outcome(kind, KEY_SHA256, swapped) == outcome(kind, KEY_SHA256, written)
        assert "Reading" in outcome(kind, KEY_SHA256, swapped)


def test_a_record_without_any_field_may_be_an_empty_list() -> None:
    assert record("user", "42", b"[]") == record("user", "42", b"{}")
    assert reasons("model", "5", b"[]") == reasons("model", "5", b"{}")


def test_what_is_not_empty_is_taken_as_it_is_written() -> None:
    assert reasons("user", "42", b'{"grants":{"0":{"model":"m"}}}') == ("grants: expected a list, found a mapping",)
    assert reasons("plan", "1", b'{"grants":[{"model":"m","limits":[1]}]}') != ()
    assert reasons("model", "5", b'{"name":"m","endpoints":{}}') == ("endpoints: must have at least 1 entry",)


def test_whole_numbers_may_be_written_as_lua_writes_them() -> None:
    read = record("user", "42", b'{"grants":[{"id":7.0,"model":1.0,"limits":{"tokens":1e+15}}]}')
    assert read.links == (Link(7, "1", Limits(tokens=10**15)),)


@pytest.mark.parametrize(
    ("fields", "enabled"),
    [
        ({}, True),
        ({"enabled": True, "revoked": False}, True),
        ({"enabled": None, "revoked": None}, True),
        ({"enabled": 1, "revoked": 0}, True),
        ({"enabled": "1", "revoked": ""}, True),
        ({"enabled": False}, False),
        ({"enabled": "0"}, False),
        ({"enabled": "off"}, False),
        ({"enabled": []}, False),
        ({"revoked": True}, False),
        ({"revoked": 1}, False),
        ({"revoked": "2027-01-01T00:00:00Z"}, False),
        ({"revoked": {}}, False),
        ({"enabled": True, "revoked": True}, False),
    ],
)
def test_a_panel_switches_a_key_off_in_its_record(fields: dict[str, Any], enabled: bool) -> None:
    """Whatever its language writes for a truth; what is neither true nor false does not open anything."""
    assert record("key", KEY_SHA256, document(**KEY, **fields)).enabled is enabled
    if "revoked" not in fields:
        assert record("user", "42", document(tier="paid", **fields)).owner.enabled is enabled


def test_a_switch_that_is_not_understood_is_told_of() -> None:
    read = parse_document("key", KEY_SHA256, document(**KEY, revoked="yes"))
    assert read.ignored == ("revoked (neither true nor false; the key counts as switched off)",)
    assert parse_document("key", KEY_SHA256, document(**KEY, revoked=True)).ignored == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "url", "model", "rpm", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
TOP = st.dictionaries(
    st.sampled_from(
        ["id", "name", "user", "tier", "grants", "limits", "endpoints", "scopes", "plans", "expires", "global"]
    ),
    JSON,
)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["model", "user", "org", "plan", "key"]), fields=TOP)
def test_any_json_is_a_record_or_is_refused(kind: RecordKind, fields: dict[str, Any]) -> None:
    assert outcome(kind, KEY_SHA256, json.dumps(fields).encode())


@settings(max_examples=100, deadline=None)
@given(written=st.binary(max_size=60))
def test_any_bytes_are_a_record_or_are_refused(written: bytes) -> None:
    assert outcome("user", "42", written)


@settings(max_examples=150, deadline=None)
@given(
    wrong=JSON, field=st.sampled_from(["id", "url", "weight", "headers", "query", "auth_header", "timeouts", "api_key"])
)
def test_no_credential_shows_in_a_record_or_in_what_is_wrong_with_it(wrong: Any, field: str) -> None:
    secrets = {"api_key": SECRET, "headers": {"X-Key": SECRET}, "query": {"key": SECRET}}
    endpoint = {"id": "a", "url": f"http://user:{SECRET}@a", **secrets, field: wrong}
    assert SECRET not in outcome("model", "5", document(name="x", endpoints=[endpoint]))
