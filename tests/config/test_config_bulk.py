"""Long lists are read in bulk: whatever is in them, it comes out as it does node by node, its problems as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.config import Settings, id_of_grant, parse_settings
from gateway.config.problems import Problems
from gateway.config.yaml.bulk import MOST_LAYOUTS, MOST_ODD_RECORDS, SHORTEST_CHARACTERS, NotInBulk, compose_in_bulk
from gateway.config.yaml.expand import Expander
from gateway.config.yaml.readers import read_file
from gateway.config.yaml.walk import Walk
from gateway.errors import ConfigError

ENVIRONMENT = {"NAME": "from the environment", "KEY": "sk-0123456789-0123456789"}
HEAD = """\
models: [{id: 1, name: one, aliases: [uno], endpoints: [{id: a, url: "https://a.example"}]}]
organisations: [{id: 10}, {id: 11}]
"""
LONG_NAME = "n" * 450
PADDING = "".join(f"  - {{id: padding-{number}, name: {LONG_NAME}}}\n" for number in range(SHORTEST_CHARACTERS // 450))


def node_by_node(text: str) -> str:
    """The same file; a carriage return at the end of its first line keeps it from being read in bulk."""
    return text.replace("\n", "\r\n", 1)


def outcome(text: str) -> Settings | tuple[str, ...]:
    try:
        return parse_settings(text, "gw.yaml", ENVIRONMENT, Path("/srv"))
    except ConfigError as error:
        return tuple(error.problems)


def settings_of(text: str) -> Settings:
    found = outcome(text)
    assert isinstance(found, Settings), found
    return found


def users_beside(records: str, padding: str = PADDING) -> str:
    return f"{HEAD}users:\n{padding}{records}{padding.replace('padding-', 'more-')}features: {{x: false}}\n"


def is_read_in_bulk(text: str) -> bool:
    """Whether it is, to the end and without a problem."""
    problems = Problems("gw.yaml")
    try:
        root = compose_in_bulk(text)
        read_file(root, Walk(problems, Expander(ENVIRONMENT, Path("/srv"))))
        problems.raise_if_any()
    except (NotInBulk, ConfigError):
        return False
    return root is not None


USUAL = """\
  - {id: 42, tier: paid, organisations: [10, 11], grants: [{id: 7, model: one, limits: {rpm: 30, cost: 1.5}}]}
  - id: "43"
    name: 'Ann, of Example'

    grants:
      - model: uno
        limits:
          requests: 1000
          period: day
  - {id: ann:laptop, name: "Müller & Söhne", tier: null, grants: []}
  - {id: 007x, name: null, organisations: ["10"]}
  - {id: 0, name: "null"}
  - {id: 12345678901234567890a, name: yes sir}
  - grants: [{model: 1}]
    id: last
"""


def test_all_usual_layouts_are_read_in_bulk() -> None:
    text = users_beside(USUAL)
    assert is_read_in_bulk(text)
    settings = settings_of(text)
    assert settings == settings_of(node_by_node(text))
    assert {user.id: user.name for user in settings.users}["ann:laptop"] == "Müller & Söhne"
    assert settings.lines["user", "last"] == 4 + PADDING.count("\n") + USUAL.count("\n") - 2


@pytest.mark.parametrize("indent", ["", " ", "  ", "      "])
def test_every_indentation_is_as_good(indent: str) -> None:
    text = users_beside(USUAL.replace("\n  ", f"\n{indent}")[2:], PADDING.replace("  - ", f"{indent}- "))
    text = text.replace("- {id: 42", f"{indent}- {{id: 42")
    assert is_read_in_bulk(text)
    assert outcome(text) == outcome(node_by_node(text))


ODD = [
    '  - {id: 1, name: "${NAME}"}',
    "  - {id: 1, name: Ann} # a comment, [with] {brackets}",
    '  - {id: 1, name: "two\\u0020words"}',
    "  - {id: 1, name: 'it''s'}",
    "  - {id: 1, name: !!str 5}",
    "  - {id: 1, tier: ~}\n\n\n  # between\n",
    "  - id: 1\n    name: over\n      two lines",
    "  - id: 1\n    name: >-\n      folded, [text]\n      more: of it",
    '  - id: 1\n    name: "over\n      two lines"',
    "  - {id: 1,\n     name: broken up}",
    "  - {<<: {tier: paid}, id: 1}",
]


@pytest.mark.parametrize("record", ODD)
def test_single_records_of_another_kind_are_composed_alone(record: str) -> None:
    text = users_beside(f"{record}\n  - {{id: after it}}\n")
    assert is_read_in_bulk(text)
    assert settings_of(text) == settings_of(node_by_node(text))


FAULTS = [
    "  - {id: 1}\n  - {id: 1}",
    "  - {id: padding-3}",
    "  - {id: 1, nmae: Ann}",
    "  - {id: 1, id: 2}",
    "  - {name: Ann}",
    "  - {id: 1, tier: golden}",
    "  - {id: 1, name: 5}",
    "  - {id: [1]}",
    "  - {id: 1, grants: null}\n  - {id: 2, grants: one}",
    "  - {id: 1, grants: [{model: none}]}",
    "  - {id: 1, grants: [{model: one}, {model: uno}]}",
    "  - {id: 1, grants: [{model: one, limits: {rpm: 0}}]}",
    "  - {id: 1, grants: [{id: g, model: one}, {id: g, model: 1}]}",
    "  - {id: 1, organisations: [10, 10]}\n  - {id: 2, organisations: [12]}",
    "  - {id: 99999999999999999999}",
    '  - {id: 1, name: "${NOT_SET}"}',
    "  - {id: 1, name: *nowhere}",
    "  - {id: 1",
    '  - {id: "1}',
    "  - just text",
    "  - [1, 2]",
    "  -  {id: 1}\n   - {id: 2}",
    " - {id: 1}",
    "    - {id: 1}",
    "  - {id: 1}\n    name: Ann",
    "  - id: 1\n  name: Ann",
    "  - {id: 1, name: \x07}",
    "---",
    "...",
]


@pytest.mark.parametrize("record", FAULTS)
def test_problems_are_told_as_if_read_node_by_node(record: str) -> None:
    text = users_beside(f"{record}\n")
    problems = outcome(text)
    assert isinstance(problems, tuple)
    assert problems == outcome(node_by_node(text))


AROUND = [
    "anchors and aliases: '&a1 *a1'",  # an unknown key
    "studio: &s {tier: paid}\nchat: {max_tokens: 5}",
    "features:\n  text: |\n    users:\n{padding}",
    'features: {a: "\nusers:\n{padding}"}',
    "features: {a: '\nusers:\n{padding}', b: true}",
    "features: [\nusers:\n{padding}]",
    "users:\n{padding}",  # the second of its name
]


@pytest.mark.parametrize("more", AROUND)
def test_what_only_looks_like_a_list_at_the_top_is_none(more: str) -> None:
    text = users_beside("") + more.replace("{padding}", PADDING) + "\n"
    assert outcome(text) == outcome(node_by_node(text))


def test_an_anchor_may_stand_in_one_list_and_its_alias_in_another() -> None:
    keys = "keys:\n  - {id: k, user: *ann, hash: 'sha256:" + "0" * 64 + "'}\n"
    text = users_beside("  - {id: &ann Ann}\n") + keys
    assert settings_of(text).keys[0].user == "Ann"


def test_directives_hold_for_the_whole_file() -> None:
    text = "%TAG ! tag:yaml.org,2002:\n---\n" + users_beside("  - {id: !str 5}\n")
    assert settings_of(text).users[-1].id == f"more-{PADDING.count(chr(10)) - 1}"
    assert outcome(text) == outcome(node_by_node(text))


def test_keys_and_their_secrets() -> None:
    hashes = "".join(f'  - {{id: k{n}, user: {n}, hash: "sha256:{n:064X}"}}\n' for n in range(700))
    text = f'{HEAD}keys:\n{hashes}  - {{id: panel, user: 1, key: "${{KEY}}", scopes: [ai:use, act:as]}}\n'
    assert is_read_in_bulk(text)
    assert settings_of(text) == settings_of(node_by_node(text))
    twice = text + f"  - {{id: twice, user: 1, hash: 'sha256:{5:064x}', expires: 2027-01-01T00:00:00Z}}\n"
    assert outcome(twice) == ("gw.yaml:705: keys[701]: the same key as keys[5] (line 9)",)


def test_what_many_users_have_alike_is_held_once() -> None:
    worded = "grants: [{model: one, limits: {rpm: 30, tokens: 1000, period: day}}]"
    records = "".join(f"  - {{id: {number}, name: {LONG_NAME}, {worded}}}\n" for number in range(1, 301))
    settings = settings_of(f"{HEAD}users:\n{records}")
    ids = {id_of_grant(user.grants[0], "user", user.id) for user in settings.users}
    assert len(ids) == len(settings.users) == 300
    assert len({id(user.grants) for user in settings.users}) == 1
    assert settings.users == settings_of(node_by_node(f"{HEAD}users:\n{records}")).users


def test_a_file_of_odd_records_is_read_node_by_node() -> None:
    odd_records = MOST_LAYOUTS + MOST_ODD_RECORDS + 1
    odd = "".join(f'  - {{id: {number}, name: "${{NAME}} {number}"}}\n' for number in range(odd_records))
    text = users_beside(odd)
    assert not is_read_in_bulk(text)
    assert len(settings_of(text).users) == odd_records + 2 * PADDING.count("\n")


values = st.one_of(
    st.sampled_from(["1", "one", "paid", "~", "null", "''", '"a, b"', "[10]", "[]", "{}", "a b", "1_0", "-5", "a: b"]),
    st.sampled_from(["'#'", "a #b", "*a", "&a x", "!!int '5'", "<<", "|", '"${NAME}"', "$${x", "%", "- x", "\n     y"]),
    st.text(st.sampled_from("ab1 -:,#'\"[]{}&*!|>%@`\\\n\t$é~.?"), max_size=6),
)
keys = st.sampled_from(["id", "name", "tier", "organisations", "grants", "plans", "<<", "x", "'id'"])
pairs = st.tuples(keys, values)


def in_flow(fields: list[tuple[str, str]]) -> str:
    return "  - {" + ", ".join(f"{key}: {value}" for key, value in fields) + "}\n"


def in_block(fields: list[tuple[str, str]]) -> str:
    return "  - " + "\n    ".join(f"{key}: {value}" for key, value in fields) + "\n"


styles = st.sampled_from([in_flow, in_block])
records = st.lists(st.builds(lambda style, fields: style(fields), styles, st.lists(pairs, min_size=1, max_size=4)))


@st.composite
def records_of_one_layout(draw: st.DrawFn) -> str:
    """Those whose values may be told from those of the first, if they may be."""
    style, names = draw(styles), draw(st.lists(keys, min_size=1, max_size=3, unique=True))
    fields = [[(name, draw(values)) for name in names] for _ in range(draw(st.integers(2, 4)))]
    return "".join(style([("id", f"own-{number}"), *more]) for number, more in enumerate(fields))


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.one_of(records.map("".join), records_of_one_layout()))
@example("  - {id: a, name: b}\n  - {id: c, name: ~}\n")
def test_whatever_records_hold_it_comes_out_the_same(text: str) -> None:
    whole = users_beside(text)
    assert outcome(whole) == outcome(node_by_node(whole))
