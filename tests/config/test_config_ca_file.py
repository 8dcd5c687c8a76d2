"""The authorities that an endpoint's `ca_file` names: relative to the file, judged with its line, watched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme

from gateway.config import Settings, parse_settings
from gateway.errors import ConfigError


def parsed(base: Path, ca_file: str) -> Settings:
    text = f"models:\n- id: 1\n  name: m\n  endpoints:\n  - id: a\n    url: https://up.test\n    ca_file: {ca_file}\n"
    return parse_settings(text, "gw.yaml", {"WHERE": "ca"}, base)


def test_a_path_is_relative_to_the_file_and_watched(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca" / "all.pem"))
    settings = parsed(tmp_path, "${WHERE}/all.pem")
    assert settings.models[0].endpoints[0].ca_file == str(tmp_path / "ca" / "all.pem")
    assert list(settings.files) == [str(tmp_path / "ca" / "all.pem")]
    assert parsed(tmp_path, "null").models[0].endpoints[0].ca_file is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.pem", "cannot be read: No such file or directory"),
        ("text.pem", "holds no certificate in PEM form, or a broken one"),
        ("pipe", "is no regular file of at most 4,194,304 bytes"),
        ("'a\\0b'", "cannot be read"),
    ],
)
def test_what_holds_no_authorities_is_a_problem_with_its_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "text.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError) as raised:
        parsed(tmp_path, name)
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].startswith("gw.yaml:7: models[0].endpoints[0].ca_file: the file ")
    assert reason in raised.value.problems[0]
    if name == "missing.pem":
        assert str(tmp_path / name) in raised.value.files, "one that is missing may come"
