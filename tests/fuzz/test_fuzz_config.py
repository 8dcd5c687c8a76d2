"""Any bytes as a gateway.yaml: settings, or problems with their lines; never any other exception."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.config import Settings, checks, load_settings, parse_settings
from gateway.config.problems import Problems, Refused
from gateway.config.sources.environment import read_proxy
from gateway.config.sources.redis_urls import redis_url
from gateway.errors import ConfigError
from gateway.http.client.proxy import Proxy

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "gateway.yaml.example").read_text()
ENVIRONMENT = {"OPENAI_API_KEY": "sk-fuzz", "PANEL_KEY": "panel-key-of-24-characters", "EMPTY": ""}
KEYS = sorted(set(re.findall(r"\b([a-z_]+):", EXAMPLE)))
PROBLEM = re.compile(r"gw\.yaml:\d+: .+", re.DOTALL)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["${OPENAI_API_KEY}", "${", "${X:-", "${file:/nowhere}", "$${", "http://[", "sha256:", "1.2.3.4/99"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
SNIPPETS = [
    "&a",
    "*a",
    "<<: *a",
    "!!python/object:os.system",
    "!!binary x",
    "? ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "|",
    ">",
]
snippets = st.sampled_from(
    [*SNIPPETS, "\t", "\n", "\r", "\0", "\ufeff", "\u2028", "---\n", "...\n", "%YAML 9.9\n", "'", '"']
)


def loaded(text: str) -> Settings | None:
    """None where it is refused, and then with lines."""
    try:
        return parse_settings(text, "gw.yaml", ENVIRONMENT, ROOT)
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(PROBLEM.fullmatch(problem) for problem in problems), problems
    return None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=5))
@example({"models": [{"id": 1, "name": "m", "endpoints": [{"id": 1, "url": "http://[::1"}]}]})
def test_the_right_keys_with_any_values(document: dict[str, Any]) -> None:
    """Wrong types at every place, and numbers past all bounds."""
    loaded(json.dumps(document))


@settings(max_examples=100, deadline=None)
@given(
    start=st.integers(0, len(EXAMPLE)),
    length=st.integers(0, 80),
    junk=st.lists(snippets | st.text(max_size=6), max_size=4),
)
@example(start=0, length=0, junk=["a: &a [*a]\n"])
@example(start=0, length=0, junk=["a: &a {b: *a}\n"])
@example(start=0, length=0, junk=["{" * 5_000])
@example(start=0, length=0, junk=["- " * 5_000])
@example(start=0, length=0, junk=["? " * 5_000])
def test_an_example_with_a_hole_and_junk_in_it(start: int, length: int, junk: list[str]) -> None:
    """What editors and merges leave behind."""
    loaded(EXAMPLE[:start] + "".join(junk) + EXAMPLE[start + length :])


def test_anchors_that_unfold_without_end_do_not() -> None:
    """A billion laughs: nine lines that would be a billion values."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert loaded("\n".join(lines)) is None
    assert loaded("server: {cors_origins: [" + ", ".join(["*l"] * 3) + "]}") is None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example("server:\n  port: 1".encode("utf-16"))
@example(b"\xef\xbb\xbfserver: {}\n")
@example(b"\x00" * 100)
def test_any_bytes_in_a_file(tmp_path: Path, data: bytes) -> None:
    """Also those that are no text at all."""
    file = tmp_path / "gw.yaml"
    file.write_bytes(data)
    problems: tuple[str, ...] = ("none",)
    try:
        load_settings(file, ENVIRONMENT)
    except ConfigError as error:
        problems = error.problems
    assert problems


URLS = st.one_of(
    st.text(max_size=40), st.from_regex(r"(redis|rediss|unix|http|postgresql)://[-a-z0-9:@/,?#\[\]%.]{0,20}")
)


@given(URLS)
def test_any_url_is_taken_or_refused_in_words_that_do_not_quote_it(url: str) -> None:
    for check in (redis_url, checks.database_url, checks.endpoint_url):
        with contextlib.suppress(Refused):
            assert check(url)


@given(URLS)
def test_any_proxy_is_taken_or_refused_and_what_is_taken_can_be_used(url: str) -> None:
    problems = Problems("gw.yaml")
    settings = read_proxy({"HTTPS_PROXY": url, "ALL_PROXY": url}, problems, is_needed=True)
    if settings.https_proxy is not None:
        assert Proxy.from_url(settings.https_proxy.reveal()).host
    elif url.strip():
        with pytest.raises(ConfigError):
            problems.raise_if_any()
