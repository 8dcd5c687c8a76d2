"""References to other places, and the values that must never be seen: neither in a problem nor in a repr."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Settings, load_settings, parse_settings
from gateway.errors import ConfigError
from gateway.types import Secret

EXAMPLE = Path(__file__).parents[2] / "gateway.yaml.example"
SECRET = "s3cr3t-Zq9-never-shown-anywhere"


def header_value(written: str, base_dir: Path = Path("/srv"), **environ: str) -> str:
    text = f"models:\n  - {{id: 1, name: m, endpoints: [{{id: a, url: http://up, query: {{v: {written}}}}}]}}\n"
    return parse_settings(text, "gw.yaml", environ, base_dir).models[0].endpoints[0].query["v"].reveal()


@pytest.mark.parametrize(
    ("written", "expanded"),
    [
        ("'${A}'", "one"),
        ("'<${A}|${A}>'", "<one|one>"),
        ("'${MISSING:-other}'", "other"),
        ("'${MISSING:-}'", ""),
        ("'${EMPTY:-other}'", "other"),
        ("'${EMPTY}'", ""),
        ("'${A:-other}'", "one"),
        ("'$${A}'", "${A}"),
        ("'$$${A}'", "$${A}"),
        ("'$A $ {A} $'", "$A $ {A} $"),
        ("'${NESTED}'", "${A}"),
    ],
)
def test_references_take_their_value_from_the_environment_once(written: str, expanded: str) -> None:
    assert header_value(written, A="one", EMPTY="", NESTED="${A}") == expanded


def test_a_file_reference_is_read_without_its_last_line_end_and_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("first\n", encoding="utf-8")
    assert header_value("'${file:secret}'", tmp_path) == "first"

    (tmp_path / "secret").write_text("second\r\n", encoding="utf-8")
    assert header_value(f"'${{file:{tmp_path / 'secret'}}}'") == "second"


def test_a_file_that_is_too_large_or_no_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (1 << 20) + b"y")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, reason in [("large", "larger than 1,048,576 bytes"), ("binary", "cannot be read as UTF-8 text")]:
        with pytest.raises(ConfigError) as raised:
            header_value(f"'${{file:{name}}}'", tmp_path)
        assert reason in raised.value.problems[0]


def test_keys_of_mappings_are_never_expanded() -> None:
    loaded = parse_settings("features: {'${A}': true}", "gw.yaml", {"A": "x"}, Path("/srv"))
    assert loaded.features == {"ai": True, "${A}": True}


ENDPOINT = "models:\n  - {id: 1, name: m, endpoints: [{id: a, url: http://up, %s}]}"

CREDENTIALS = [
    "store: {url: '%s'}",
    "usage: {url: 'http://u:%s@h'}",
    "keys:\n  - {id: k, user: u, hash: '%s'}",
    "keys:\n  - {id: k, user: u, key: '%s \u00e9'}",
    "models:\n  - {id: 1, name: m, endpoints: [{id: a, url: 'http://user:%s@up'}]}",
    "models:\n  - {id: 1, name: m, endpoints: [{id: a, url: 'http://up?k=%s'}]}",
    "models:\n  - {id: 1, name: m, endpoints: [{id: a, url: '%s'}]}",
    ENDPOINT.replace("%s", "api_key: '%s \u00e9'"),
    ENDPOINT.replace("%s", "headers: {x-a: '%s\u00e9'}"),
]
OTHER_VALUES = [
    "server: {port: '%s'}",
    "server: {host: ['%s'], metrics_public: '%s'}",
    "server: {private_endpoints: ['%s'], cors_origins: ['%s']}",
    "store: {kind: '%s'}",
    "tiers: ['%s', '%s']\nstudio: {tier: '%sx'}",
    "tiers: ['%s']\nusers:\n  - {id: 1, tier: s3cr3t-Zq9-never-shown-anywher}",
    "users:\n  - {id: '%s', name: ' %s', tier: '%s'}\n  - {id: '%s', plans: ['%s'], organisations: ['%s']}",
    "users:\n  - {id: 1, grants: [{model: '%s'}]}",
    "keys:\n  - {id: k, user: u, expires: '%s', scopes: ['%s']}",
    "models:\n  - {id: '%s', name: '%s', aliases: ['%s'], fallbacks: ['%s', '%s-'], endpoints: []}",
    ENDPOINT.replace("%s", "weight: '%s', timeouts: {idle: '%s'}, auth_header: '%s'"),
]


@pytest.mark.parametrize("text", [*CREDENTIALS, *OTHER_VALUES])
def test_no_problem_shows_a_value_that_came_from_elsewhere(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_settings(text.replace("%s", "${SECRET}"), "gw.yaml", {"SECRET": SECRET}, Path("/srv"))
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("text", CREDENTIALS)
def test_no_problem_shows_a_credential_that_stands_in_the_file_itself(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_settings(text.replace("%s", SECRET), "gw.yaml", {}, Path("/srv"))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("text", [f"a: *{SECRET}", f"server: {{host: !{SECRET} x}}", f"server: !{SECRET}!a x"])
def test_a_secret_that_yaml_takes_for_an_alias_or_a_tag_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_settings(text, "gw.yaml", {}, Path("/srv"))
    assert SECRET not in str(raised.value)


@given(secret=st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=24, max_size=60))
@settings(max_examples=50, deadline=None)
def test_the_repr_of_settings_shows_no_secret(secret: str) -> None:
    environ = {"OPENAI_API_KEY": f"o{secret}", "PANEL_KEY": f"p{secret}", "HTTPS_PROXY": "http://user:pw-of-proxy@p:1"}
    loaded = parse_settings(EXAMPLE.read_text(encoding="utf-8"), "gw.yaml", environ, Path("/srv"))
    assert loaded.models[0].endpoints[0].api_key == Secret(f"o{secret}")
    assert f"o{secret}" not in repr(loaded)
    assert f"p{secret}" not in repr(loaded)
    assert "pw-of-proxy" not in repr(loaded)


def parsed_or_refused(text: str) -> Settings | None:
    with contextlib.suppress(ConfigError):
        return parse_settings(text, "gw.yaml", {"A": "1"}, Path("/nonexistent"))
    return None


WORDS = [
    "server",
    "models",
    "users",
    "keys",
    "id",
    "grants",
    "limits",
    "rpm",
    ":",
    "[",
    "]",
    "{",
    "}",
    ",",
    "*a",
    "<<",
    "!",
    "|",
    ">",
    "'",
    '"',
    "#",
    "${A}",
    "${",
    "1",
    "1.5",
    "yes",
    "~",
    "x",
    "---",
]
YAML_PIECES = st.sampled_from([*WORDS, ": ", "- ", "? ", "&a ", "\n", "\n  ", "\n    "])


@given(st.one_of(st.text(), st.lists(YAML_PIECES, max_size=40).map("".join)))
@settings(max_examples=600, deadline=None)
def test_any_text_is_either_settings_or_a_configuration_error(text: str) -> None:
    loaded = parsed_or_refused(text)
    assert loaded is None or loaded.source == "gw.yaml"
    assert gc.isenabled()


FILE_KEYS = st.sampled_from(
    [
        "server",
        "models",
        "users",
        "keys",
        "id",
        "name",
        "grants",
        "model",
        "limits",
        "endpoints",
        "url",
        "headers",
        "tiers",
        "plans",
        "organisations",
        "aliases",
        "fallbacks",
        "hash",
        "key",
        "scopes",
        "expires",
        "timeouts",
        "usage",
        "store",
    ]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FILE_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
@settings(max_examples=400, deadline=None)
def test_values_of_any_type_at_any_known_key_are_settings_or_a_configuration_error(value: object) -> None:
    loaded = parsed_or_refused(repr(value).replace("None", "null"))
    assert loaded is None or loaded.source == "gw.yaml"


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_in_the_file_are_settings_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        assert load_settings(path, {}).source == str(path)
