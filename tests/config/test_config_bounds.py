"""Whatever gateway.yaml holds, the answer comes within time proportional to its size."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import parse_settings
from gateway.config.yaml.expand import MOST_EXPANDED_CHARACTERS
from gateway.config.yaml.nodes import MAX_DEPTH
from gateway.errors import ConfigError

MODEL = "models: [{id: 1, name: m, global: true, endpoints: [{id: a, url: 'http://up/v1'}]}]\n"
HASH = "sha256:" + "0" * 64
# At these sizes what grows with the square takes minutes, and what does not takes a second or two.
MOST_CPU_SECONDS = 12.0


def numbered(form: str, count: int, start: int = 0) -> str:
    return "".join(form.replace("#", str(number)) for number in range(start, start + count))


def long_list(heading: str, record: str, count: int) -> str:
    return f"{heading}:\n" + numbered(record, count)


KEYS = long_list("keys", f"- {{id: k#, user: 1, hash: '{HASH[:-6]}#'}}\n", 900)  # long enough to be read in bulk

HOSTILE: dict[str, Callable[[], str]] = {
    "one long line with a slip": lambda: MODEL + "users: [" + numbered("{id: #, tier: free}, ", 10_000) + "{id: 1: 2}]",
    "one long line of references": lambda: MODEL + "chat: {" + "[:,${" * 40_000,
    "brackets": lambda: "models: " + "[" * 200_000,
    "braces": lambda: "models: " + "{" * 200_000,
    "brackets on lines": lambda: "models: " + "[\n" * 100_000,
    "nested lists": lambda: "models: " + "- " * 100_000,
    "nested questions": lambda: "? " * 100_000,
    "a key given twice, many times": lambda: (
        MODEL + "features:\n" + numbered("  f#: true\n", 10_000) + "  f9999: true\n" * 10_000
    ),
    "many names that are nearly right": lambda: (
        MODEL
        + "tiers: ["
        + numbered("tier#-of-a-name-that-is-as-long-as-it-may-be-for-a-hint, ", 1_900)
        + "]\n"
        + long_list("users", "- {id: #, tier: teir#-of-a-name-that-is-as-long-as-it-may-be-for-a-hint}\n", 1_900)
    ),
    "many headers": lambda: MODEL.replace("up/v1'", "up/v1', headers: {" + numbered("x#: a, ", 20_000) + "}"),
    "many headers that are the same": lambda: MODEL.replace(
        "up/v1'", "up/v1', headers: {" + numbered("x#: a, X#: a, ", 8_000) + "}"
    ),
    "many features": lambda: MODEL + "features: {" + numbered("f#: true, ", 20_000) + "}",
    "many tiers of many users": lambda: (
        MODEL + "tiers: [" + numbered("t#, ", 10_000) + "]\n" + long_list("users", "- {id: #, tier: t9999}\n", 10_000)
    ),
    "unknown keys beside repeated tiers": lambda: numbered("u#: 1\n", 10_000) + "tiers: [" + "a, " * 10_000 + "]",
    "a sentence in a long list": lambda: KEYS + "- note: " + "a " * 60_000 + "!\n",
    "colons in a long list": lambda: KEYS + "- note: " + "a:b" * 60_000 + "!\n",
    "many values in the records of a long list": lambda: long_list(
        "keys", f"- {{id: #, user: 1, hash: '{HASH}', scopes: [{'ai:use, ' * 2_000}]}}\n", 12
    ),
    "a layout of its own for each record": lambda: (
        "keys:\n"
        + "".join(f"- {{id: {n}, user: 1, hash: '{HASH}', scopes: [{'ai:use, ' * (300 + n)}]}}\n" for n in range(400))
    ),
    "laughs": lambda: (
        numbered("a#: &a# [x]\n", 1) + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]\n" for n in range(1, 40))
    ),
    "laughs that a large file could afford": lambda: (
        MODEL + "x: &x [" + "{id: 1, name: m}, " * 900 + "]\nusers: [" + "{id: 1, grants: *x}, " * 300 + "]"
    ),
    "merges of merges": lambda: "x: &x {" + numbered("k#: 1, ", 5_000) + "}\nserver: {<<: [" + "*x, " * 5_000 + "]}",
    "anchors": lambda: MODEL + "tiers: [" + numbered("&a# t#, ", 20_000) + "*a0]",
    "a huge number": lambda: MODEL + "chat: {max_tokens: 1.1" + "1" * 2_000_000 + "x}",
    "a huge text": lambda: MODEL + "chat: {max_tokens: '" + "a " * 1_000_000 + "'}",
    "a text without end": lambda: MODEL + 'chat: {max_tokens: "' + "a\n" * 300_000,
    "blank lines": lambda: MODEL + "keys:\n" + (" " * 50 + "\n") * 20_000 + "x",
    "headings": lambda: MODEL + "keys:\n- a\n" * 10_000,
    "documents": lambda: MODEL + "---\n" * 100_000,
    "a huge URL": lambda: MODEL.replace("up/v1", "[" * 500_000),
    "a huge address range": lambda: MODEL + "server: {private_endpoints: ['" + "1:" * 200_000 + "']}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_file_takes_time_that_grows_with_the_square_of_its_size(name: str) -> None:
    text = HOSTILE[name]()
    began = time.process_time()
    problems = problems_in(text)
    assert max(map(len, problems), default=0) < 1_000
    assert time.process_time() - began < MOST_CPU_SECONDS


def problems_in(text: str) -> tuple[str, ...]:
    """None of them where there is none."""
    try:
        parse_settings(text, "gw.yaml", {}, Path("/srv"))
    except ConfigError as error:
        return error.problems
    return ()


def problems_of(text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        parse_settings(text, "gw.yaml", environ, Path("/srv"))
    return raised.value.problems


@pytest.mark.parametrize("opening", ["[", "{", "[a, ", "- ", "[\n", "{a: ", "? "])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 1_000, 20_000])
def test_nesting_is_told_in_the_same_words_whatever_bounds_the_parser_has_itself(opening: str, depth: int) -> None:
    (problem,) = problems_of("x: " * (opening != "? ") + opening * depth)
    if opening != "- ":  # which may not follow a key on its line
        assert problem.endswith(f": YAML: nested more than {MAX_DEPTH} levels deep")


def test_aliases_may_stand_for_as_much_as_a_text_of_their_length_can_pay_for() -> None:
    few = MODEL + "x: &x [" + "1, " * 900 + "]\nserver: [" + "*x, " * 20 + "]"
    many = few.replace("*x, " * 20, "*x, " * 200)
    assert not any("aliases" in problem for problem in problems_of(few))
    most = 20_000 + 20 * len(many)
    assert problems_of(many) == (
        f"gw.yaml:1: YAML: aliases stand for more than {most:,} values, too many for a text this short",
    )


def test_references_cannot_make_a_small_file_a_large_one(tmp_path: Path) -> None:
    """A line may name a large file many times; it is read once, and there is an end to what it stands for."""
    (tmp_path / "large").write_text("a" * (1 << 20))
    text = MODEL + "tiers: ['" + "${file:large}" * (MOST_EXPANDED_CHARACTERS >> 20) + "MORE']"
    (parsed,) = parse_settings(text.replace("MORE", ""), "gw.yaml", {}, tmp_path).tiers
    assert len(parsed) == MOST_EXPANDED_CHARACTERS
    with pytest.raises(ConfigError) as raised:
        parse_settings(text.replace("MORE", "${A}"), "gw.yaml", {"A": "b"}, tmp_path)
    assert raised.value.problems == (
        f"gw.yaml:2: tiers[0]: all `${{…}}` together stand for more than {MOST_EXPANDED_CHARACTERS:,} characters",
    )


def test_a_hint_is_given_where_a_reference_near_the_fault_is_bare() -> None:
    hint = "; inside {…} and […] a ${…} needs quotes around it"
    (near,) = problems_of("keys: [{id: " + "a" * 3_000 + ", key: ${KEY}}]")
    (quoted,) = problems_of('keys: [{id: a, key: "${KEY}", x: {]}]')
    (block,) = problems_of("a: ${KEY}\n  b: 1\n")
    assert near.endswith(hint)
    assert hint not in quoted
    assert hint not in block
