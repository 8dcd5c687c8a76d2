"""`GATEWAY__SERVER__PORT`: single values that the environment sets over the file, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Settings, parse_settings
from gateway.errors import ConfigError

TEXT = """\
server:
  port: 8080
studio:
models:
- {id: 1, name: m, endpoints: [{id: a, url: "http://up.test"}]}
"""


def parsed(text: str = TEXT, **environ: str) -> Settings:
    return parse_settings(text, "gw.yaml", environ, Path("/srv"))


def problems(text: str = TEXT, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        parsed(text, **environ)
    return raised.value.problems


def test_a_value_is_read_as_yaml_by_the_type_of_its_place() -> None:
    settings = parsed(
        GATEWAY__SERVER__PORT="9000",
        GATEWAY__SERVER__TIMEOUTS__HEAD="2.5",
        GATEWAY__SERVER__HOST="'0.0.0.0'",
        GATEWAY__FEATURES__AI="false",
        GATEWAY__STUDIO__TIER="free",
        GATEWAY__USAGE__RETENTION_DAYS="",
        GATEWAY__ROUTING__UNKNOWN_MODEL="reject",
        GATEWAY__STORE__PREFIX="${HOME}$${x}",
        GATEWAY_SERVER_PORT="1",
    )
    assert (settings.server.port, settings.server.timeouts.head, settings.server.host) == (9000, 2.5, "0.0.0.0")
    assert settings.server.timeouts.body == 60, "what is beside it stays as it was"
    assert (settings.features["ai"], settings.studio.tier, settings.usage.retention_days) == (False, "free", None)
    assert settings.routing.unknown_model == "reject"
    assert settings.store.prefix == "${HOME}$${x}", "it is not looked up in the environment once more"


def test_where_values_came_from_is_said_without_secrets() -> None:
    settings = parsed(GATEWAY__SERVER__PORT="9000", GATEWAY__STORE__URL="redis://:s3cr3t@redis.test")
    assert settings.overridden == (
        "server.port: 9000, from GATEWAY__SERVER__PORT in the environment (over gw.yaml:2)",
        "store.url: set, from GATEWAY__STORE__URL in the environment",
    )


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("GATEWAY__SERVER__PROT", "1", "server has no key 'prot' (did you mean 'port'?)"),
        ("GATEWAY__SERVR__PORT", "1", "the file has no key 'servr' (did you mean 'server'?)"),
        ("GATEWAY__SERVER__PORT__X", "1", "server.port is a single value; the environment sets single values alone"),
        ("GATEWAY__SERVER", "1", "server is a section; the environment sets single values alone"),
        ("GATEWAY__SERVER__CORS_ORIGINS", "[]", "server.cors_origins is a list; the environment sets single"),
        ("GATEWAY__MODELS__0__NAME", "m", "models is a list; the environment sets single values alone"),
        ("GATEWAY__SERVER__PORT", "{a: 1}", "server.port is a single value; a list or mapping is given"),
        ("GATEWAY__SERVER__PORT", "{", "YAML: "),
        ("GATEWAY__", "1", "the file has no key ''"),
        ("GATEWAY__SERVER__PORT", "many", "server.port: expected a whole number, found the text 'many'"),
        ("GATEWAY__SERVER__PORT", "70000", "server.port: must be at least 0 and at most 65535, found 70000"),
        ("GATEWAY__SERVER__WORKERS", "2", "server.workers: more than one worker needs `store.kind: redis`"),
        ("GATEWAY__STUDIO__TIER", "none", "studio.tier: no such tier: 'none'"),
    ],
)
def test_what_fits_nothing_is_a_problem_of_the_environment(variable: str, value: str, reason: str) -> None:
    found = problems(**{variable: value})
    assert len(found) == 1, found
    assert found[0].startswith(f"environment: {variable}: {reason}"), found


def test_a_secret_is_in_no_problem() -> None:
    found = problems(GATEWAY__STORE__URL="ftp://:s3cr3t@redis.test")
    assert found[0].startswith("environment: GATEWAY__STORE__URL: store.url: ")
    assert "s3cr3t" not in str(found)
