"""What operators and editors hold must agree with the loader: the example, the JSON Schema, the line of a new key."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import key_yaml_line, load_settings, parse_settings, settings_schema
from gateway.config.schema import FILE_TYPE
from gateway.errors import ConfigError
from gateway.types import SCOPES, ApiKey, Id

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "gateway.yaml.example"
SCHEMA_FILE = ROOT / "config" / "gateway.schema.json"
SCHEMA: dict[str, Any] = settings_schema()
ENVIRON = {"OPENAI_API_KEY": "sk-example", "PANEL_KEY": "panel-key-of-24-characters-or-more"}


def schema_keys(schema: Mapping[str, Any], path: str = "") -> set[str]:
    """Every key that the schema knows, as `.models[].endpoints[].url`."""
    if "items" in schema:
        return schema_keys(schema["items"], f"{path}[]")
    if "anyOf" in schema:
        return set().union(*(schema_keys(each, path) for each in schema["anyOf"]))
    record = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    properties = record.get("properties", {})
    below = (schema_keys(inner, f"{path}.{key}") for key, inner in properties.items())
    return {f"{path}.{key}" for key in properties}.union(*below)


def written_keys(value: object, path: str = "") -> set[str]:
    if isinstance(value, list):
        return set().union(*(written_keys(item, f"{path}[]") for item in value))
    if isinstance(value, dict):
        below = (written_keys(item, f"{path}.{key}") for key, item in value.items())
        return {f"{path}.{key}" for key in value}.union(*below)
    return set()


def test_the_example_loads_with_nothing_but_the_variables_it_names() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    loaded = load_settings(EXAMPLE, ENVIRON)

    references = {name for line in text.splitlines() for name in re.findall(r"\$\{([A-Z_]+)\}", line.partition("#")[0])}
    assert references == set(ENVIRON)
    assert text.startswith("# yaml-language-server: $schema=./config/gateway.schema.json\n")
    assert [model.name for model in loaded.models] == ["gpt-4o", "local-llama"]
    assert [user.id for user in loaded.users] == [42]
    assert [key.id for key in loaded.keys] == ["laptop", "panel"]


def test_the_example_shows_the_defaults_where_it_says_so() -> None:
    shown, default = load_settings(EXAMPLE, ENVIRON), parse_settings("models:", "gateway.yaml", {}, ROOT)
    for section in ("server", "features", "store", "usage", "routing", "tiers", "chat", "studio"):
        assert getattr(shown, section) == getattr(default, section)
    endpoint = shown.models[0].endpoints[0]
    plain = shown.models[1].endpoints[0]
    assert (endpoint.timeouts, endpoint.weight, endpoint.priority) == (plain.timeouts, plain.weight, plain.priority)


def test_the_example_explains_every_key_that_there_is() -> None:
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    repeated = (".limits.", ".endpoints[].price.", ".price.above[].", ".auth.jwt[].")  # shown once each, or below
    every_key = {key for key in schema_keys(SCHEMA) if not any(part in key for part in repeated)} - {".keys[].expires."}
    shown = {key for key in written_keys(example) if not key.startswith(".features.")}
    assert every_key - shown == {".organisations[].grants[].id", ".plans[].grants[].id", ".plans[].grants[].limits"}
    assert {key.rpartition(".")[2] for key in schema_keys(SCHEMA) if ".limits." in key} <= {
        key.rpartition(".")[2] for key in shown
    }


def test_the_examples_issuers_are_a_comment_with_every_key() -> None:
    """They need an extra and a file of keys, and the example is to be valid as it stands."""
    text = EXAMPLE.read_text(encoding="utf-8").partition("\nauth:\n")[2].partition("\n\n")[0]
    lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#")]
    shown = written_keys({"auth": {"jwt": yaml.safe_load("\n".join(lines))}})
    assert {key for key in schema_keys(SCHEMA) if key.startswith(".auth.jwt[].")} <= shown


def test_the_schema_file_is_what_the_code_makes() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == json.dumps(settings_schema(), indent=2) + "\n"


def test_every_key_of_the_schema_is_described_and_no_other_is_allowed() -> None:
    records = [SCHEMA, *(each for each in SCHEMA["$defs"].values() if "properties" in each)]
    assert len(records) == 1 + 27
    for record in records:
        assert record["additionalProperties"] is False
        for key, inner in record["properties"].items():
            assert inner["description"].endswith("."), key


def test_the_validator_suggests_exactly_the_keys_of_the_schema() -> None:
    for key in sorted(SCHEMA["properties"]):
        with pytest.raises(ConfigError) as raised:
            parse_settings(f"{key}z: 1", "gw.yaml", {}, ROOT)
        assert raised.value.problems == (f"gw.yaml:1: {key}z: unknown key (did you mean '{key}'?)",)
    assert {field.encode_name for field in FILE_TYPE.fields} - {"place"} == set(SCHEMA["properties"])


def test_a_reference_may_stand_where_the_schema_wants_a_number() -> None:
    port = SCHEMA["$defs"]["Server"]["properties"]["port"]
    assert port["anyOf"] == [{"type": "integer", "minimum": 0, "maximum": 65535}, {"$ref": "#/$defs/reference"}]
    assert port["default"] == 8080


def patterns_at(path: str) -> list[str]:
    """What a text may be at a place such as `server.trusted_proxies[]`: one of these."""
    schema: Any = SCHEMA
    for name in path.replace("[]", ".[]").split("."):
        while "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        schema = schema["items"] if name == "[]" else schema["properties"][name]
    assert not any(set(each) == {"type"} and each["type"] == "string" for each in schema["anyOf"])
    found = [SCHEMA["$defs"]["reference"] if "$ref" in each else each for each in schema["anyOf"]]
    return [each["pattern"] for each in found if "pattern" in each]


FORMS = [
    ("models[].endpoints[].url", ["https://a/v1", "HTTP://a", "${URL}", "http://${HOST}/v1"], ["ftp://a", "a/v1", ""]),
    ("server.public_url", ["https://ai.example.com"], ["ai.example.com", "wss://a"]),
    ("server.dashboard_frames[]", ["https://panel.example.com"], ["panel.example.com", "*"]),
    ("server.cors_origins[]", ["*", "https://app.example.com"], ["app.example.com", "**"]),
    ("telemetry.otlp", ["http://127.0.0.1:4318"], ["grpc://a:4317"]),
    ("auth.jwt[].jwks_url", ["https://idp.example/keys"], ["file:///keys", "idp.example/keys"]),
    ("alerts[].url", ["https://hooks.example.com/x"], ["mailto:a@example.com"]),
    (
        "store.url",
        ["redis://a", "rediss://a", "redis+sentinel://a/m", "rediss+cluster://a", "unix:///run/redis", "REDIS://a"],
        ["http://a", "redis:a", "valkey://a"],
    ),
    (
        "usage.url",
        ["sqlite:///usage.db", "postgresql+psycopg://a/b", "mysql://a/b", "mariadb+pymysql://a/b"],
        ["oracle://a/b", "usage.db", "postgres://a/b"],
    ),
    (
        "server.trusted_proxies[]",
        ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8", "::ffff:10.0.0.1", "10.0.0.0/255.0.0.0", "fe80::%eth0/64"],
        ["localhost", "10.0.0/8", "10.0.0.0-10.0.0.9", "*", "10.0.0.0/8 # ours", ""],
    ),
    ("server.private_endpoints[]", ["192.168.0.0/16"], ["intranet"]),
    ("keys[].ips[]", ["203.0.113.7"], ["203.0.113.*"]),
]


@pytest.mark.parametrize(("path", "good", "bad"), FORMS, ids=[form[0] for form in FORMS])
def test_an_editor_underlines_what_the_loader_refuses(path: str, good: list[str], bad: list[str]) -> None:
    """URLs by their schemes, address ranges by their form; what the loader takes is never underlined."""
    allowed = patterns_at(path)
    assert [text for text in good if not any(re.search(each, text) for each in allowed)] == []
    assert [text for text in bad if any(re.search(each, text) for each in allowed)] == []


@given(st.ip_addresses(), st.integers(0, 32))
def test_every_address_range_is_allowed(address: Any, bits: int) -> None:
    network = ipaddress.ip_network(f"{address}/{bits}", strict=False)
    (pattern, _) = patterns_at("server.trusted_proxies[]")
    assert re.search(pattern, str(network))
    assert re.search(pattern, str(address))


ODD_IDS = ["yes", "null", "1", "1.0", "${HOME}", "$${", "a: b", "#", "- x", "'", '"', "\\", "{", "*a", "2027-01-01"]
IDS = st.one_of(
    st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1),
    st.text(min_size=1).filter(lambda text: text.isprintable() and text == text.strip()),
    st.sampled_from(ODD_IDS),
)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(timezone(timedelta(hours=2))))


@given(
    key_id=IDS,
    user=IDS,
    digest=st.binary(min_size=32, max_size=32),
    scopes=st.sets(st.sampled_from(SCOPES)),
    expires=st.none() | MOMENTS,
)
@settings(max_examples=300, deadline=None)
def test_the_line_of_a_new_key_reads_back_as_the_same_record(
    key_id: Id, user: Id, digest: bytes, scopes: set[str], expires: datetime | None
) -> None:
    line = key_yaml_line(key_id, user, digest.hex(), scopes, expires)
    loaded = parse_settings(f"keys:\n{line}\n", "gw.yaml", {"HOME": "/root"}, ROOT)
    assert loaded.keys == (
        ApiKey(id=key_id, user=user, sha256=digest.hex(), scopes=frozenset(scopes), expires=expires),
    )


def test_the_line_of_a_new_key_looks_like_those_of_the_example() -> None:
    line = key_yaml_line("laptop", 42, "0" * 64, ["ai:use"], datetime(2027, 1, 1, tzinfo=UTC))
    assert line == (
        '  - {id: laptop, user: 42, hash: "sha256:' + "0" * 64 + '", scopes: [ai:use], expires: 2027-01-01T00:00:00Z}'
    )
