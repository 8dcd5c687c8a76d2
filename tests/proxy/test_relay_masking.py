"""Secrets of an endpoint in an upstream's words: every spelling that servers use, and nothing else."""

from __future__ import annotations

import base64
import gzip
import html
import json
import sys
import zlib
from urllib.parse import quote

import brotli
import pytest

from gateway.proxy.refusals.masking import Mask, readable
from gateway.types import Endpoint, Secret

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SECRET = 'sk-"proj"/a+b=c\\dé<&>'


def mask_of(secret: str = "", **more: str) -> Mask:
    return Mask(
        Endpoint(
            id="a",
            url=more.get("url", "https://upstream.test/v1"),
            api_key=Secret(secret) if secret else None,
            headers={"x-header": Secret(more["header"])} if "header" in more else {},
            query={"sig": Secret(more["query"])} if "query" in more else {},
        )
    )


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(SECRET).replace("/", "\\/")[1:-1],
        json.dumps(SECRET).replace("+", "\\u002B").replace("<", "\\u003c").replace("&", "\\u0026")[1:-1],
        json.dumps(json.dumps(SECRET))[3:-3],
        json.dumps(json.dumps(json.dumps(SECRET)))[7:-7],
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        html.escape(SECRET),
        html.escape(SECRET).replace("+", "&#43;").replace("=", "&#x3D;"),
    ],
)
def test_an_echoed_credential_is_masked(spelling: str) -> None:
    """As it is and in the spellings of JSON, URLs and HTML that servers use; all the rest of the body stays."""
    body = '{"error":"key ' + spelling + " or " + spelling + ' is wrong: sk-"}'
    assert mask_of(SECRET).over(body.encode()) == b'{"error":"key *** or *** is wrong: sk-"}'


@pytest.mark.parametrize("before", ["", "u", "Bearer ", "user:", "a longer name:"])
@pytest.mark.parametrize("after", ["", "x", ":y", "xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_a_text_that_holds_it_is_masked(before: str, after: str, encode: type) -> None:
    packed = encode((before + "key?with>signs~0123456789" + after).encode())
    masked = mask_of("key?with>signs~0123456789").over(b"you sent " + packed)
    assert masked.startswith(b"you sent ")
    assert b"***" in masked
    assert len(masked) < len(b"you sent ") + len(before + after) * 2 + 12


@pytest.mark.parametrize(
    ("header", "echoed"),
    [
        ("Bearer token-of-a-header", "token-of-a-header"),
        ("Bearer token-of-a-header", "Bearer token-of-a-header"),
        ("Basic " + base64.b64encode(b"someone:their-password").decode(), "someone:their-password"),
        ("Basic " + base64.b64encode(b"someone:their-password").decode(), "their-password"),
        ("session=abcdefgh12; theme=x", "abcdefgh12"),
        ("one-of-them, another-of-them", "another-of-them"),
    ],
)
def test_a_header_is_masked_in_its_parts(header: str, echoed: str) -> None:
    assert mask_of(header=header).over(f"<{echoed}>".encode()) == b"<***>"


def test_the_query_and_the_urls_password_are_masked() -> None:
    mask = mask_of(query="signature+in/query", url="https://me:pass-in-the-url@upstream.test/v1")
    assert mask.over(b"?sig=signature%2Bin%2Fquery by pass-in-the-url") == b"?sig=*** by ***"


def test_masking_takes_only_what_is_secret() -> None:
    """A short secret would match by chance; a pattern's signs in one mean themselves."""
    assert mask_of("short").over(b"the key is short") == b"the key is short"
    assert mask_of().over(b"the key") == b"the key"
    assert mask_of("aaaa.*[(").over(b"aaaaaaaa.*[(") == b"aaaa***"
    assert mask_of("abcdefgh").over(b"abcdefgh ABCDEFGH") == b"*** ABCDEFGH"


def test_of_two_secrets_that_begin_alike_the_longer_is_masked_whole() -> None:
    assert mask_of("secret-one", header="secret-one-and-more").over(b"secret-one-and-more") == b"***"


def test_a_mask_does_not_show_what_it_masks() -> None:
    assert "sk-" not in repr(mask_of(SECRET))


BODY = b'{"error":{"message":"no"}}'


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (BODY, b""),
        (gzip.compress(BODY, mtime=0), b"gzip"),
        (gzip.compress(BODY, mtime=0), b"x-gzip"),
        (zlib.compress(BODY), b"deflate"),
        (zlib.compress(BODY, wbits=-15), b"deflate"),
        (brotli.compress(BODY), b"br"),
        (zstd.compress(BODY), b"zstd"),
    ],
    ids=["plain", "gzip", "x-gzip", "deflate", "raw deflate", "br", "zstd"],
)
def test_what_can_be_unpacked_whole_can_be_looked_into(body: bytes, encoding: bytes) -> None:
    assert readable(body, encoding) == BODY


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        pytest.param(BODY, b"lzma", id="another way"),
        pytest.param(BODY, b"br", id="no brotli"),
        pytest.param(brotli.compress(BODY)[:-1], b"br", id="br, cut"),
        pytest.param(brotli.compress(BODY) + b"x", b"br", id="br and more"),
        pytest.param(brotli.compress(bytes(2**24)), b"br", id="a bomb in br"),
        pytest.param(zstd.compress(BODY)[:-1], b"zstd", id="zstd, cut"),
        pytest.param(zstd.compress(BODY) * 2, b"zstd", id="two in zstd"),
        pytest.param(zstd.compress(bytes(2**24)), b"zstd", id="a bomb in zstd"),
        pytest.param(b"", b"deflate", id="empty"),
        pytest.param(BODY, b"gzip", id="no gzip"),
        pytest.param(gzip.compress(BODY, mtime=0), b"gzip, gzip", id="twice"),
        pytest.param(gzip.compress(BODY, mtime=0)[:-1], b"gzip", id="gzip, cut"),
        pytest.param(gzip.compress(BODY, mtime=0) + gzip.compress(BODY, mtime=0), b"gzip", id="two in gzip"),
        pytest.param(gzip.compress(bytes(2**24), mtime=0), b"gzip", id="a bomb in gzip"),
        pytest.param(BODY.decode().encode("utf-16"), b"", id="16 bits a character"),
    ],
)
def test_what_cannot_be_looked_into_is_none(body: bytes, encoding: bytes) -> None:
    assert readable(body, encoding) is None
