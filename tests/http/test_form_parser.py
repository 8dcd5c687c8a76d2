"""Forms are read the same at every split of their bytes; what is broken or could be read in two ways is refused."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.forms import BOUNDARY, Field, form_bytes

from gateway.errors import InvalidMultipart
from gateway.http.multipart import FormParser, Part, boundary_of
from gateway.http.multipart.form_parser import MAX_HEAD_BYTES, MAX_PARTS

Read = list[tuple[Part, bytes]]


def read(pieces: Iterable[bytes], boundary: str = BOUNDARY) -> Read:
    parser = FormParser(boundary.encode())
    found: list[tuple[Part, list[bytes]]] = []
    for piece in pieces:
        for each in parser.feed(piece):
            if isinstance(each, Part):
                found.append((each, []))
            else:
                assert each
                found[-1][1].append(each)
    parser.end()
    return [(part, b"".join(contents)) for part, contents in found]


def as_fields(found: Read) -> list[Field]:
    return [
        Field(
            part.name,
            content,
            part.filename.decode() if part.filename is not None else None,
            part.content_type.decode() if part.content_type is not None else None,
        )
        for part, content in found
    ]


def one_part(head: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n--b--\r\n"


# Contents that look like the delimiter, or begin like it.
TEMPTING = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"--b", b"\r\n--", b"\r\n-", b"b", b"a", b"\0"])
).map(b"".join)
TOKENS = st.text("abcdefgh_[]0123", min_size=1, max_size=8)
FIELDS = st.lists(
    st.builds(
        Field,
        TOKENS,
        st.binary(max_size=40) | TEMPTING,
        st.none() | st.text("abc .;=é", max_size=8),
        st.none() | st.just("audio/mpeg"),
    ),
    max_size=5,
)


@given(fields=FIELDS, cuts=st.lists(st.integers(0, 400), max_size=12))
@example(fields=[Field("a", b"\r\n--" + BOUNDARY[:-1].encode(), "f")], cuts=list(range(400)))
def test_every_split_of_the_bytes_gives_the_same(fields: list[Field], cuts: list[int]) -> None:
    body = form_bytes(fields)
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    pieces = [body[start:end] for start, end in pairwise(places)]
    assert as_fields(read(pieces)) == fields
    assert as_fields(read(body[at : at + 1] for at in range(len(body)))) == fields


@given(contents=st.lists(TEMPTING, max_size=3), size=st.integers(1, 7))
def test_contents_that_look_like_a_short_boundary_are_cut_there_at_every_split(
    contents: list[bytes], size: int
) -> None:
    """Whatever it is read as, it is the same however it comes: whole, or a few bytes at a time."""
    body = form_bytes([Field("a", each, "f") for each in contents], "b")

    def outcome(pieces: Iterable[bytes]) -> list[Field] | str:
        try:
            return as_fields(read(pieces, "b"))
        except InvalidMultipart as refusal:
            return refusal.message

    assert outcome([body]) == outcome(body[at : at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="a"; filename="b"',
        b'content-disposition:form-data;name=a;filename="b"',
        b'Content-Type: text/plain\r\nCONTENT-DISPOSITION: Form-Data ; name = "a" ; filename = b',
        b'Content-Disposition: form-data; filename="b"; name="a"; size=3\r\nX-Other: 1',
        b'Content-Disposition: form-data; name="a"; filename="b"\r\nContent-Transfer-Encoding: binary',
    ],
)
def test_heads_are_read_however_they_are_written(head: bytes) -> None:
    ((part, content),) = read([one_part(head)], "b")
    assert (part.name, part.filename, content) == ("a", b"b", b"x")


@pytest.mark.parametrize(
    "name", [b'"\xc3\xa9.mp3"', b'"a\\"b.mp3"', b'"C:\\\\x.mp3"', b'"a%22b"', b'""'], ids=lambda name: name.decode()
)
def test_a_files_name_goes_up_as_it_came(name: bytes) -> None:
    ((part, _),) = read([one_part(b'Content-Disposition: form-data; name="file"; filename=' + name)], "b")
    assert part.head == b'content-disposition: form-data; name="file"; filename=' + name + b"\r\n\r\n"
    assert part.is_file


def test_a_coded_name_of_a_file_goes_up_as_well() -> None:
    head = b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%C3%A9.mp3"
    ((part, _),) = read([one_part(head)], "b")
    assert part.head.endswith(b"; filename*=utf-8''%C3%A9.mp3\r\n\r\n")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        b"--b",
        b"--b\r\n",
        b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx",
        b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b",
        b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b\r\n",
        b"--bx\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--\r\n",
        b"--b" + b" " * 400 + b"\r\n",
        one_part(b""),
        one_part(b"Content-Type: text/plain"),
        one_part(b"Content-Disposition: attachment; name=a"),
        one_part(b"Content-Disposition: form-data"),
        one_part(b"Content-Disposition: form-data; filename=a"),
        one_part(b"Content-Disposition: form-data; name=a; name=b"),
        one_part(b"Content-Disposition: form-data; name=a; name*=utf-8''b"),
        one_part(b"Content-Disposition: form-data; name*=utf-8''b"),
        one_part(b'Content-Disposition: form-data; name="mo\\del"'),
        one_part(b'Content-Disposition: form-data; name="a'),
        one_part(b'Content-Disposition: form-data; name="\xff"'),
        one_part(b'Content-Disposition: form-data; name="a\0"'),
        one_part(b"Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b"),
        one_part(b"Content-Disposition: form-data; name=a\r\n folded: yes"),
        one_part(b"Content-Disposition: form-data; name=a\nX: y"),
        one_part(b"Content-Disposition : form-data; name=a"),
        one_part(b"Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64"),
        one_part(b"Content-Disposition: form-data; name=" + b"a" * 2_000),
        one_part(b"Content-Disposition: form-data; name=a\r\nX: " + b"a" * MAX_HEAD_BYTES),
        form_bytes([Field("a", b"")] * (MAX_PARTS + 1), "b"),
        form_bytes([Field("a" * 1_000, b"")] * 300, "b"),
    ],
    ids=range(30),
)
def test_what_is_broken_or_ambiguous_is_refused(body: bytes) -> None:
    for size in (1, len(body) or 1):
        with pytest.raises(InvalidMultipart):
            read((body[at : at + size] for at in range(0, len(body), size)), "b")


def test_what_stands_around_the_form_is_passed_over() -> None:
    body = b"hello\r\n--b \t\r\n" + one_part(b"Content-Disposition: form-data; name=a")[5:] + b"bye --b"
    assert [(part.name, content) for part, content in read([body], "b")] == [("a", b"x")]


def test_a_head_that_never_ends_is_refused_before_it_is_held() -> None:
    parser = FormParser(b"b")
    parser.feed(b"--b\r\n" + b"a" * MAX_HEAD_BYTES)
    with pytest.raises(InvalidMultipart):
        parser.feed(b"a")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data ; charset=utf-8; BOUNDARY="a b/c"', b"a b/c"),
        (f"multipart/form-data;boundary={BOUNDARY}", BOUNDARY.encode()),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/mixed; boundary=a",
        "multipart/form-data; boundary=" + "a" * 201,
        'multipart/form-data; boundary="a "',
    ],
)
def test_what_is_no_forms_type(content_type: str) -> None:
    with pytest.raises(InvalidMultipart):
        boundary_of(content_type)
