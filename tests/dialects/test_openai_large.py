"""Large bodies: nothing is copied that stays, and no step takes others' turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.openai import locating
from gateway.dialects.openai.request_body import may_have, read_body
from gateway.dialects.openai.spliced import SplicedBody
from gateway.errors import InvalidJson

MIB = 1 << 20
MANY = 10**6

TEXTS = st.text(max_size=6).filter(lambda text: not any(0xD800 <= ord(letter) < 0xE000 for letter in text))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
LAYOUTS = st.sampled_from([{"ensure_ascii": True}, {"ensure_ascii": False}, {"indent": 1}])


def image(size: int, more: bytes = b"") -> bytes:
    return b'{"model":"m",%b"messages":[{"role":"user","content":"%b"}]}' % (more, b"A" * size)


async def joined(body: bytes | SplicedBody) -> bytes:
    assert isinstance(body, SplicedBody)
    pieces = [bytes(piece) async for piece in body.pieces()]
    assert sum(map(len, pieces)) == len(body)
    assert max(map(len, pieces)) < MIB
    return b"".join(pieces)


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("more", [b"", b'"modelId":"x",', b'"stream_options":{"a":1},'])
async def test_a_large_bodys_upload_is_the_rewritten_body_without_a_copy(more: bytes, include_usage: bool) -> None:
    body = read_body(image(8 * MIB, more))
    body.rewritten("elsewhere", include_usage=include_usage)
    tracemalloc.start()
    try:
        upload = body.upload("elsewhere", include_usage=include_usage)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert await joined(upload) == body.rewritten("elsewhere", include_usage=include_usage)
    assert await joined(upload) == await joined(upload)


def test_a_large_body_is_parsed_with_one_copy_of_its_text() -> None:
    """orjson's own copy would be a second one. It allocates beside Python, so the process's peak is what tells."""
    program = (
        "from gateway.dialects.openai.request_body import read_body\n"
        "def kb(name): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(name))\n"
        "raw = HEAD + b'A' * (16 << 20) + TAIL\n"
        "open('/proc/self/clear_refs', 'w').write('5'); before = kb('VmRSS')\n"
        "body = read_body(raw); print(kb('VmHWM') - before)"
    )
    program = f"HEAD, TAIL = {image(0)[:-4]!r}, {image(0)[-4:]!r}\n{program}"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert int(done.stdout) < 1.5 * 16 * 1024


@pytest.mark.parametrize(
    "value",
    [
        b"1e400",
        b"[-1e400]",
        b"123456789012345678901",
        b"-9223372036854775809",
        b'"\\ud800"',
        b'"\x01"',
        b'"\xff"',
        b"NaN",
    ],
)
def test_a_large_body_is_judged_like_a_small_one(value: bytes) -> None:
    def outcome(more: bytes) -> Any:
        raw = b'{"model":"m","a":%b%b}' % (value, more)
        try:
            return read_body(raw).fields["a"]
        except InvalidJson as error:
            return error.message.partition("(")[0]

    large = b',"b":"' + b"A" * MIB + b'"'
    assert outcome(large) == outcome(b"")


def test_a_small_bodys_upload_is_bytes() -> None:
    assert read_body(image(10)).upload("elsewhere") == image(10).replace(b'"m"', b'"elsewhere"')


@given(st.dictionaries(TEXTS, VALUES, max_size=6), LAYOUTS)
def test_members_are_found_one_by_one_where_they_are_found_together(
    fields: dict[str, Any], layout: dict[str, Any]
) -> None:
    raw = json.dumps(fields, **layout).encode()
    found = locating.locate_members(raw, MANY)
    assert found == locating.locate_members(raw, 0)
    assert [orjson.loads(raw[each.value : each.end]) for each in found.values()] == list(orjson.loads(raw).values())


@given(st.lists(VALUES, max_size=6), LAYOUTS)
def test_so_are_items(items: list[Any], layout: dict[str, Any]) -> None:
    raw = json.dumps(items, **layout).encode()
    assert locating._items_one_by_one(raw, len(items)) == locating.locate_items(raw, 0)


@pytest.mark.parametrize("number", [b"1" * 5_000, b"-1e400", b"1.5E+3", b"-0"])
def test_numbers_of_any_length_are_passed_over(number: bytes) -> None:
    raw = b'{ "a" : %b , "b":2}' % number
    assert locating.locate_members(raw, MANY) == locating.locate_members(raw, 0)


@pytest.mark.parametrize("place", [0, *range((1 << 18) - 90, (1 << 18) + 6, 11), 2 * MIB - 520, 3 * MIB - 12])
@pytest.mark.parametrize("sign", [b'"FILE_ID"', b"\\u0066ile_id"])
def test_a_sign_is_seen_wherever_it_stands(place: int, sign: bytes) -> None:
    raw = bytearray(b"a" * (3 * MIB))
    assert not may_have((b'"file_id"',), bytes(raw))
    raw[place : place + len(sign)] = sign
    assert may_have((b'"file_id"',), bytes(raw))


def test_looking_for_signs_makes_no_copy_of_the_whole() -> None:
    raw = b"a" * (16 * MIB)
    tracemalloc.start()
    try:
        may_have((b'"file_id"',), raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB
