"""A request's body is refused for the right reasons only, and rewritten to the byte."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.dialects.openai import RequestBody, read_body
from gateway.errors import InvalidJson

NUMBERS = ["0", "-0", "1.10", "1E+2", "1e-7", "123456789012345678901234567890", "18446744073709551616", "0.1e1"]
LITERALS = ["true", "false", "null", *NUMBERS]
EDITED = ("model", "modelId", "stream_options")
PADS = ["x" * 70_000, ":" * 70_000, "\\:" * 40_000, 'say "model": ' * 6_000]

texts = st.text(st.sampled_from(':"\\/{}[],um \n\t<é漢🙂\x7f\x00'), max_size=6) | st.sampled_from(
    ["model", "modelId", "stream_options", "\\u003a", 'say "model', '"model":"x"', "\\"]
)
keys = st.sampled_from(["a", "b", "model", "modelId", "stream_options", ":", '"', "é", "a:b", "\\", ""])
randoms = st.integers(0, 1 << 32).map(random.Random)  # for spellings; st.randoms() would take ten times as long


class Literal(NamedTuple):
    """A number, true, false or null in the spelling that counts."""

    text: str


class Pairs(NamedTuple):
    """An object as its members stand there, keys given twice included."""

    members: list[tuple[str, Any]]


values = st.recursive(
    st.sampled_from(LITERALS).map(Literal) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(keys, inner), max_size=4).map(Pairs),
    max_leaves=8,
)
options = st.one_of(
    values,
    st.just(Literal("null")),
    st.lists(st.tuples(st.sampled_from(["include_usage", "include_obfuscation", "x"]), values), max_size=3).map(Pairs),
    st.sampled_from(["true", "false", "null", "1"]).map(
        lambda text: Pairs([("a", "b"), ("include_usage", Literal(text))])
    ),
)
members = st.one_of(
    st.tuples(keys, values),
    st.tuples(st.just("model"), texts),
    st.tuples(st.just("modelId"), values),
    st.tuples(st.just("stream_options"), options),
    st.tuples(st.just("pad"), st.sampled_from(PADS)),
)
bodies = st.lists(members, max_size=6).map(Pairs)


def space(chance: random.Random) -> str:
    return chance.choice(["", "", "", " ", "\n", "\t", "\r\n", "  "])


def spelled_character(character: str, chance: random.Random) -> str:
    choice = chance.randrange(6)
    if choice == 0 or character < " ":
        units = character.encode("utf-16-be").hex()
        escape = "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
        return escape if chance.randrange(2) else escape.replace("a", "A").replace("f", "F")
    if character in '"\\' or (character == "/" and choice == 1):
        return "\\" + character
    return character


def spelled_string(text: str, chance: random.Random) -> str:
    if len(text) > 1_000:  # one die a character would take its time
        return json.dumps(text)
    return '"' + "".join(spelled_character(character, chance) for character in text) + '"'


def spelled(value: Any, chance: random.Random) -> str:
    """`value` as JSON, in one of its many spellings."""
    if isinstance(value, Literal):
        inner = value.text
    elif isinstance(value, str):
        inner = spelled_string(value, chance)
    elif isinstance(value, Pairs):
        pairs = [
            space(chance) + spelled_string(key, chance) + space(chance) + ":" + spelled(each, chance)
            for key, each in value.members
        ]
        inner = "{" + (",".join(pairs) or space(chance)) + "}"
    else:
        inner = "[" + ",".join(spelled(each, chance) for each in value) + "]"
    return space(chance) + inner + space(chance)


class RepeatedKey(Exception):
    pass


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RepeatedKey
    return found


def loads_exactly(raw: bytes, number: Callable[[str], Any] = Literal) -> Any:
    """The value, with every number as its own text unless told otherwise; None where a key is given twice."""
    try:
        return json.loads(raw, object_pairs_hook=without_repetition, parse_int=number, parse_float=number)
    except RepeatedKey:
        return None


class Member(NamedTuple):
    key: str
    key_text: str
    value_text: str
    value_start: int


def members_of(raw: bytes) -> list[Member]:
    """The members of an object as they are spelled, by the standard library's scanner."""
    text, at, found = raw.decode(), 0, []
    scan = json.JSONDecoder().raw_decode

    def skip(characters: str) -> None:
        nonlocal at
        while text[at] in characters:
            at += 1

    skip(" \t\r\n{")
    while text[at] != "}":
        key_start = at
        key, at = scan(text, at)
        key_text = text[key_start:at]
        skip(" \t\r\n:")
        value_start = at
        _, at = scan(text, at)
        found.append(Member(key, key_text, text[value_start:at], value_start))
        skip(" \t\r\n,")
    return found


def refusal(raw: bytes) -> str:
    with pytest.raises(InvalidJson) as caught:
        read_body(raw)
    assert caught.value.status == 400
    assert caught.value.code == "invalid_json"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value.message


def usage_wanted(before: dict[str, Any]) -> bool:
    """Whether `include_usage` can be set: not where `stream_options` is something else than an object or null."""
    current = before.get("stream_options", Literal("null"))
    return current is None or current == Literal("null") or isinstance(current, dict)


@settings(deadline=None, max_examples=300)
@given(bodies, randoms)
def test_a_key_given_twice_is_refused_and_nothing_else_is(body: Pairs, chance: random.Random) -> None:
    """At any depth, however its letters are spelled and whatever colons stand in strings."""
    raw = spelled(body, chance).encode()
    expected = loads_exactly(raw, number=float)
    if expected is None:
        assert "given twice" in refusal(raw)
    else:
        assert read_body(raw).fields == expected


@settings(deadline=None, max_examples=300)
@given(bodies, randoms, st.text(max_size=5).filter(str.isascii) | st.just("org/модель"), st.booleans())
def test_only_the_declared_members_are_edited(
    body: Pairs, chance: random.Random, model: str, include_usage: bool
) -> None:
    """The value changes as declared, and every other member keeps its place and its spelling."""
    raw = spelled(body, chance).encode()
    before = loads_exactly(raw)
    assume(before is not None)
    rewritten = read_body(raw).rewritten(model, include_usage=include_usage)

    expected = {key: value for key, value in before.items() if key != "modelId"} | {"model": model}
    if include_usage and usage_wanted(before):
        expected["stream_options"] = (before.get("stream_options") or {}) | {"include_usage": True}
    assert loads_exactly(rewritten) == expected

    kept = [member[:3] for member in members_of(raw) if member.key not in EDITED]
    assert [member[:3] for member in members_of(rewritten) if member.key not in EDITED] == kept
    order = [member.key for member in members_of(raw) if member.key != "modelId"]
    assert [member.key for member in members_of(rewritten) if member.key in order] == order


@settings(deadline=None, max_examples=200)
@given(bodies, texts, randoms)
def test_without_other_edits_only_the_model_value_differs(body: Pairs, name: str, chance: random.Random) -> None:
    """Whitespace, escapes, order: the body is the same but for the bytes of one value."""
    ours = [member for member in body.members if member[0] not in ("model", "modelId")]
    ours.insert(chance.randrange(len(ours) + 1), ("model", name))
    raw = spelled(Pairs(ours), chance).encode()
    assume(loads_exactly(raw) is not None)
    text, member = raw.decode(), next(member for member in members_of(raw) if member.key == "model")
    after = text[member.value_start + len(member.value_text) :]
    assert read_body(raw).rewritten("provider/m-1").decode() == text[: member.value_start] + '"provider/m-1"' + after


@pytest.mark.parametrize(
    ("raw", "rewritten"),
    [
        (b'{"model":"a"}', b'{"model":"P"}'),
        (b' { "x" : 1.10 , "model" : "a" } ', b' { "x" : 1.10 , "model" : "P" } '),
        (b'{"model":null}', b'{"model":"P"}'),
        (b'{"model":{"model":"a"}}', b'{"model":"P"}'),
        (b'{"m":{"model":"a"},"model":"b"}', b'{"m":{"model":"a"},"model":"P"}'),
        (b'{"m":{"model":"a"},"\\u006dodel":"b"}', b'{"m":{"model":"a"},"\\u006dodel":"P"}'),
        (b'{"x":"say \\"model","mod\\u0065l":"b"}', b'{"x":"say \\"model","mod\\u0065l":"P"}'),
        (b'{"x":"model","model":"b"}', b'{"x":"model","model":"P"}'),
        (b"{}", b'{"model":"P"}'),
        (b" {\n} ", b' {"model":"P"\n} '),
        (b'{ "x":1}', b'{"model":"P", "x":1}'),
        (b'{"modelId":5}', b'{"model":"P"}'),
        (b'{ "modelId" : "5" }', b'{"model":"P"  }'),
        (b'{"modelId":5, "x":1}', b'{"model":"P","x":1}'),
        (b'{"x":1, "modelId":5}', b'{"model":"P","x":1}'),
        (b'{"x":1, "modelId":5, "y":2}', b'{"model":"P","x":1, "y":2}'),
        (b'{"model":"a","modelId":5}', b'{"model":"P"}'),
        (b'{"modelId":5,"model":"a"}', b'{"model":"P"}'),
        (b'{"model\\u0049d":5,"model":"a"}', b'{"model":"P"}'),
        (b'{"x":{"modelId":5},"model":"a"}', b'{"x":{"modelId":5},"model":"P"}'),
    ],
)
def test_where_the_model_goes(raw: bytes, rewritten: bytes) -> None:
    """Replaced where it stands, else added first; `modelId` goes with one comma, inner members of that name stay."""
    assert read_body(raw).rewritten("P") == rewritten


@pytest.mark.parametrize(
    ("raw", "rewritten"),
    [
        (b'{"model":"a"}', b'{"stream_options":{"include_usage":true},"model":"P"}'),
        (b"{}", b'{"model":"P","stream_options":{"include_usage":true}}'),
        (b'{"modelId":1}', b'{"model":"P","stream_options":{"include_usage":true}}'),
        (b'{"model":"a","stream_options":null}', b'{"model":"P","stream_options":{"include_usage":true}}'),
        (b'{"model":"a","stream_options":{ }}', b'{"model":"P","stream_options":{"include_usage":true }}'),
        (b'{"model":"a","stream_options":{"x":1.0}}', b'{"model":"P","stream_options":{"include_usage":true,"x":1.0}}'),
        (
            b'{"stream_options":{"x":[{"include_usage":1}], "include_usage" : false },"model":"a"}',
            b'{"stream_options":{"x":[{"include_usage":1}], "include_usage" : true },"model":"P"}',
        ),
        (
            b'{"stream_options":{"include_usage":true},"model":"a"}',
            b'{"stream_options":{"include_usage":true},"model":"P"}',
        ),
        (b'{"stream_options":"yes","model":"a"}', b'{"stream_options":"yes","model":"P"}'),
    ],
)
def test_where_include_usage_goes(raw: bytes, rewritten: bytes) -> None:
    """Into the options that are there or options of its own; what is no object stays for the upstream to refuse."""
    assert read_body(raw).rewritten("P", include_usage=True) == rewritten


def test_one_body_serves_several_endpoints() -> None:
    """Each call stands for itself: other names, with usage and without, in any order."""
    body = read_body(b'{"model":"a","n":1}')
    assert body.rewritten("one") == b'{"model":"one","n":1}'
    assert body.rewritten("two", include_usage=True) == b'{"stream_options":{"include_usage":true},"model":"two","n":1}'
    assert body.rewritten('t"h\n') == b'{"model":"t\\"h\\n","n":1}'
    assert body.raw == b'{"model":"a","n":1}'


def test_a_body_that_needs_no_edit_is_passed_on_without_a_copy() -> None:
    """Ten megabytes that name the provider's model already are not written again."""
    body = read_body(b'{"model":"a"}')
    assert body.rewritten("a") is body.raw
    assert read_body(b'{"model":"a","modelId":5}').rewritten("a") == b'{"model":"a"}'


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", "1" * 400, "0e99999", "-0", "1.10", "1" * 40, "1E400", "1e+0400"]
)
def test_numbers_keep_their_bytes(number: str) -> None:
    """Beyond a double's range as well: what a number means is between client and upstream."""
    raw = f'{{"x":[{number}],"s":"1e400 \\" 1e400","model":"a"}}'.encode()
    assert read_body(raw).rewritten("P") == raw.replace(b'"a"', b'"P"')


@pytest.mark.parametrize("number", [b"1e400", b"-1e400"])
def test_an_enormous_number_excuses_nothing_else(number: bytes) -> None:
    """Keys given twice and malformed JSON are refused beside one."""
    assert "given twice" in refusal(b'{"a":' + number + b',"a":1}')
    assert "not valid JSON" in refusal(b'{"a":' + number + b',"b":tru}')
    assert "not valid JSON" in refusal(b'{"a":' + number + b',"b":"\\ud800"}')


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "line 1, column 2"),
        (b'{"a":1}\n{"b":2}', "line 2, column 1"),
        (b'{"a":1,}', "not valid JSON"),
        (b"{'a':1}", "not valid JSON"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":Infinity}', "not valid JSON"),
        (b'{"a":-Infinity}', "not valid JSON"),
        (b'{"a":01}', "not valid JSON"),
        (b'{"a":"\x01"}', "not valid JSON"),
        (b'{"a":"\\ud800"}', "not valid JSON"),
        (b'{"a":"\\udc00\\ud800"}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        ('{"a":1}'.encode("utf-16"), "not valid UTF-8 (byte 0)"),
        (b'{"a":"\xff"}', "not valid UTF-8 (byte 6)"),
        (b'{"a":"\xed\xa0\x80"}', "not valid UTF-8 (byte 6)"),
        (b'{"a":"\xc0\xaf"}', "not valid UTF-8 (byte 6)"),
        (b"model=a&stream=true", "not valid JSON"),
        (b"[]", "not an array"),
        (b'"text"', "not a string"),
        (b"12", "not a number"),
        (b"1e400", "not a number"),
        (b"true", "not a boolean"),
        (b"null", "not null"),
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes, message: str) -> None:
    """With a message that helps to find the mistake."""
    assert message in refusal(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"model":"a","model":"b"}', 'The key "model" is given twice (line 1, column 14).'),
        (b'{"model":"a",\n "mod\\u0065l":"b"}', 'The key "model" is given twice (line 2, column 2).'),
        (b'{"a":[1,{"b":1,"c":{},"b":2}]}', 'The key "b" is given twice (line 1, column 23).'),
        (b'{"\\u003a":1,":":2}', 'The key ":" is given twice (line 1, column 13).'),
        ('{"é":"é","é":1}'.encode(), 'The key "%C3%A9" is given twice (line 1, column 10).'),
        (b'{"a\\r\\nb":1,"a\\r\\nb":1}', 'The key "a%0D%0Ab" is given twice (line 1, column 13).'),
        (b'{"a":{"b":1},"c":{"b":1},"a":1}', 'The key "a" is given twice (line 1, column 26).'),
        (b'{"%b":1,"%b":2}' % (b"k" * 100, b"k" * 100), '"' + "k" * 61 + '..."'),
        (b'{"pad":"%b","a":1,"a":2}' % (b"x" * (1 << 20)), "A key is given twice in the request body."),
    ],
)
def test_a_repetition_is_named_with_its_place(raw: bytes, message: str) -> None:
    """In printable, short form; in a very large body only the fact is told."""
    assert message in refusal(raw)


@pytest.mark.parametrize("escapes", [":", "\\u003a", "\\u003A", "\\\\u003a", "\\\\\\u003a", "\\u005cu003a", "\\\\:"])
def test_escaped_colons_neither_hide_nor_feign_a_repetition(escapes: str) -> None:
    """The count of colons is what finds repetitions; every spelling of one must count once."""
    read_body(f'{{"a":"{escapes}","b":1}}'.encode())
    assert '"a"' in refusal(f'{{"a":"{escapes}","a":1}}'.encode())
    assert '"a"' in refusal(f'{{"a":1,"a":"{escapes}"}}'.encode())


@pytest.mark.parametrize("value", ["1e400", "-1E+999", "1" * 400, "1" * 5_000, "1e99999999999", "1e-400"])
def test_a_number_is_as_long_as_it_likes_in_a_body_of_any_size(value: str) -> None:
    """And reaches the upstream as it was written."""
    for pad in (0, 1 << 21):
        raw = b'{"s":"%b 1e400","x":[%b],"model":"a"}' % (b"p" * pad, value.encode())
        body = read_body(raw)
        assert abs(body.fields["x"][0]) <= 1e308
        assert body.fields["s"].endswith(" 1e400")
        assert body.rewritten("P") == raw.replace(b'"model":"a"', b'"model":"P"')


@pytest.mark.parametrize("half", [b"\\ud800", b"\\udc00\\ud800", b"\\ud800x", b"\xed\xa0\x80"])
def test_half_a_surrogate_pair_is_refused_in_a_body_of_any_size(half: bytes) -> None:
    """With a number beside it that takes a second look, too."""
    for pad in (0, 1 << 21):
        for number in (b"1", b"1e400"):
            refusal(b'{"s":"%b","e":%b,"u":"%b"}' % (b"p" * pad, number, half))


@pytest.mark.parametrize("pad", [0, 1 << 17])
def test_nesting_is_bounded_at_254_levels(pad: int) -> None:
    """A bound that is the same on every Python and in every size, and an answer instead of a crash beyond it."""

    def nested(levels: int, inner: bytes = b"") -> bytes:
        return b'{"model":"a","x":' + b"[" * (levels - 1) + inner + b"]" * (levels - 1) + b" " * pad + b"}"

    assert read_body(nested(254)).rewritten("P") == nested(254).replace(b'"a"', b'"P"')
    read_body(nested(253, b'{"y":1}')).rewritten("P", include_usage=True)
    for raw in (nested(255), nested(1_024), nested(1_025), nested(100_000), b"[" * 100_000, b'{"a":' * 100_000):
        assert "nested too deeply" in refusal(raw)


@pytest.mark.parametrize("unclosed", [b'"' + b'\\"' * 400_000, b'"' * 800_000, b"1" * 800_000, b'"\\\n' * 250_000])
def test_malformed_megabytes_are_refused_in_passing(unclosed: bytes) -> None:
    """The second look at a refused body is linear in its size; squared, this test would not end."""
    assert "not valid JSON" in refusal(b'{"a":1e400,"b":' + unclosed)


def test_a_refusal_repeats_nothing_of_the_body() -> None:
    """Bodies hold what users wrote, and error messages land in logs."""
    for raw in (
        b'{"a":"private" "b"}',
        b'{"a":private}',
        b'{"a":"private\xff"}',
        b'"private"',
        b'{"a":1,"a":"private"}',
    ):
        assert "private" not in refusal(raw)
    assert repr(read_body(b'{"a":"private"}')) == "<RequestBody bytes=15 members=1>"


def test_ten_megabytes_are_rewritten_to_the_byte() -> None:
    """An image in base64, the common large body."""
    image = base64.b64encode(random.Random(1).randbytes(7_500_000))
    raw = b'{"messages":[{"role":"user","content":"data:image/png;base64,%b"}],"model":"a","modelId":1}' % image
    assert read_body(raw).rewritten("P") == raw.replace(b'"model":"a","modelId":1}', b'"model":"P"}')


def test_fields_are_what_the_body_says() -> None:
    """Callers read the model, the fields to refuse and the size of the prompt from them."""
    body = read_body(b'{"modelId":5,"model":"a","stream":true,"n":1e400}')
    assert isinstance(body, RequestBody)
    assert body.fields == {"modelId": 5, "model": "a", "stream": True, "n": 1e308}
