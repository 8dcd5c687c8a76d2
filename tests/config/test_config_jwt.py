"""`auth.jwt`: what is wrong with an issuer, with its line; what of it is watched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from kit.issuer import jwk, jwks

from gateway.config import Settings, parse_settings
from gateway.config.sources import token_issuers
from gateway.errors import ConfigError

BASE = {"issuer": "https://id.test", "audience": "gateway"}
BY_URL = BASE | {"jwks_url": "https://id.test/jwks"}


def parsed(base: Path, *issuers: dict[str, Any]) -> Settings:
    text = "tiers: [free]\n" + yaml.safe_dump({"auth": {"jwt": list(issuers)}}, sort_keys=False)
    return parse_settings(text, "gw.yaml", {}, base)


def problems(base: Path, *issuers: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        parsed(base, *issuers)
    return list(refused.value.problems)


def test_defaults(tmp_path: Path) -> None:
    (one,) = parsed(tmp_path, BY_URL).auth.jwt
    assert (one.user, one.user_prefix, one.scopes_max, one.max_age) == ("sub", "https://id.test:", {"ai:use"}, 3600)
    assert (one.organisations, one.scopes, one.audience) == (None, None, {"gateway"})
    assert parse_settings("tiers: [free]", "gw.yaml", {}, tmp_path).auth.jwt == ()


def test_a_file_of_keys_is_relative_and_watched(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(jwk("ES256")))
    settings = parsed(tmp_path, BASE | {"jwks_file": "keys.json"})
    assert list(settings.files) == [str(tmp_path / "keys.json")]
    assert settings.auth.jwt[0].jwks == jwks(jwk("ES256"))


def test_an_authority_is_relative_judged_and_watched(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = parsed(tmp_path, BY_URL | {"ca_file": "ca.pem"})
    assert settings.auth.jwt[0].ca_file == str(tmp_path / "ca.pem")
    assert list(settings.files) == [str(tmp_path / "ca.pem")]
    (problem,) = problems(tmp_path, BY_URL | {"ca_file": "none.pem"})
    assert problem.startswith("gw.yaml:7: auth.jwt[0].ca_file: the file cannot be read")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "gw.yaml:4: auth.jwt[0]: needs either `jwks_url` or `jwks_file`"),
        (
            {"jwks_url": "https://id.test/jwks", "jwks_file": "good.json"},
            "gw.yaml:4: auth.jwt[0]: needs either `jwks_url` or `jwks_file`, not both",
        ),
        ({"jwks_file": "none.json"}, "gw.yaml:6: auth.jwt[0].jwks_file: the file cannot be read: No such file"),
        ({"jwks_file": "text.json"}, "gw.yaml:6: auth.jwt[0].jwks_file: the file is not JSON"),
        ({"jwks_file": "list.json"}, "gw.yaml:6: auth.jwt[0].jwks_file: the file is no JWKS"),
        ({"jwks_file": "shared.json"}, "gw.yaml:6: auth.jwt[0].jwks_file: the file has no key that verifies"),
        ({"jwks_file": "pipe"}, "gw.yaml:6: auth.jwt[0].jwks_file: the file cannot be read: not a regular file"),
        ({"jwks_url": "ftp://id.test"}, "gw.yaml:6: auth.jwt[0].jwks_url: must begin with http:// or https://"),
        ({"jwks_url": "https://a:b@id.test"}, "gw.yaml:6: auth.jwt[0].jwks_url: must not hold a user or password"),
        (
            {"jwks_url": "https://id.test/", "organisations": "groups"},
            "gw.yaml:7: auth.jwt[0].organisations: needs `organisations_max`",
        ),
        (
            {"jwks_url": "https://id.test/", "organisations_max": [1]},
            "gw.yaml:8: auth.jwt[0].organisations_max: needs `organisations`",
        ),
        (
            {"jwks_url": "https://id.test/", "scopes_max": ["ai:all"]},
            "gw.yaml:8: auth.jwt[0].scopes_max[0]: expected one of act:as, ai:manage, ai:use, usage:read",
        ),
        ({"jwks_url": "https://id.test/", "max_age": 0}, "gw.yaml:7: auth.jwt[0].max_age: must be above 0"),
        ({"jwks_url": "https://id.test/", "jwks_uri": "x"}, "gw.yaml:7: auth.jwt[0].jwks_uri: unknown key"),
        ({"jwks_file": "good.json", "ca_file": "x"}, "gw.yaml:7: auth.jwt[0].ca_file: is for `jwks_url`"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    (tmp_path / "good.json").write_bytes(jwks(jwk("ES256")))
    (tmp_path / "text.json").write_text("keys")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "shared.json").write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    os.mkfifo(tmp_path / "pipe")
    found = problems(tmp_path, BASE | changes)
    assert len(found) == 1
    assert found[0].startswith(problem), found


@pytest.mark.parametrize("missing", ["issuer", "audience"])
def test_issuer_and_audience_must_be_there(tmp_path: Path, missing: str) -> None:
    found = problems(tmp_path, {name: value for name, value in BY_URL.items() if name != missing})
    assert found == [f"gw.yaml:4: auth.jwt[0].{missing}: is missing"]


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ({}, {}, "auth.jwt[1].audience: the same issuer and audience as auth.jwt[0] (line 4)"),
        ({"audience": ["a", "b"]}, {"audience": ["b", "c"]}, "auth.jwt[1].audience: the same issuer and audience"),
        ({"user_prefix": ""}, {"issuer": "https://b.test"}, "auth.jwt[1]"),
        ({"user_prefix": "a:"}, {"issuer": "https://b.test", "user_prefix": "a:b:"}, "auth.jwt[1].user_prefix"),
        ({}, {"issuer": "https://id.test:8443"}, "auth.jwt[1]"),
    ],
)
def test_no_issuer_may_speak_for_anothers_users(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], problem: str
) -> None:
    (found,) = problems(tmp_path, BY_URL | first, BY_URL | second)
    assert problem in found


def test_one_issuer_may_come_twice_with_two_audiences(tmp_path: Path) -> None:
    assert len(parsed(tmp_path, BY_URL, BY_URL | {"audience": "other"}).auth.jwt) == 2


def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_issuers, "is_installed", lambda: False)
    assert problems(tmp_path, BY_URL) == ["gw.yaml:4: auth.jwt: needs the extra `jwt`: pip install 'ecli-gateway[jwt]'"]
