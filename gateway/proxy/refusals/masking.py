"""Mask an endpoint's secrets where its upstream repeats them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.http.content_coding import unpacked_whole
from gateway.types import Endpoint

SHORTEST_MASKED = 8  # characters; shorter ones would rather match by chance
_MOST_UNPACKED_BYTES = 2**20
_SEPARATORS = re.compile(r"[\s,;]+")
_NAMES = {"&": b"amp", '"': b"quot", "'": b"apos", "<": b"lt", ">": b"gt"}  # in HTML


class Mask:
    """The secrets of one endpoint, in every spelling.

    Credential, headers and query.
    """

    __slots__ = ("_patterns", "longest")

    def __init__(self, endpoint: Endpoint) -> None:
        secrets = {secret for secret in _secrets(endpoint) if len(secret) >= SHORTEST_MASKED}
        self.longest = max(map(len, secrets), default=0)
        plain = [(secret, b"".join(map(_any_spelling, secret))) for secret in secrets]
        packed = [(text, re.escape(text.encode())) for secret in secrets for text in _in_base64(secret)]
        # The longest first, lest a part of one is masked and the rest of it left.
        ordered = sorted([*plain, *packed], key=lambda pair: (-len(pair[0]), pair[0]))
        self._patterns = [re.compile(pattern) for _, pattern in ordered]

    def over(self, data: bytes) -> bytes:
        """`data` with `***` in the place of each secret."""
        for pattern in self._patterns:
            data = pattern.sub(b"***", data)
        return data

    def over_text(self, text: str) -> str:
        """The same for a header's value."""
        return self.over(text.encode("latin-1", "replace")).decode("latin-1")

    def __repr__(self) -> str:
        return f"<Mask of {len(self._patterns)} spellings>"


def readable(body: bytes, encoding: bytes) -> bytes | None:
    """Return a body's whole content to search for secrets.

    None where it cannot be had.

    `encoding`: of `content-encoding`, empty where there is none.
    """
    content = unpacked_whole(body, encoding, _MOST_UNPACKED_BYTES) if encoding else body
    # A text of 16 or 32 bits a character would hide what is looked for.
    return None if content is None or b"\0" in content else content


def _secrets(endpoint: Endpoint) -> Iterator[str]:
    held = [*endpoint.headers.values(), *endpoint.query.values(), *([endpoint.api_key] if endpoint.api_key else ())]
    for secret in held:
        text = secret.reveal()
        yield text
        for piece in _SEPARATORS.split(text):
            yield piece
            yield piece.partition("=")[2].rstrip("=")
            yield from _of_basic(piece)
    yield urlsplit(endpoint.url).password or ""


def _of_basic(piece: str) -> Iterator[str]:
    """User and password, where a header has them in base64."""
    try:
        text = base64.b64decode(piece, validate=True).decode()
    except (binascii.Error, ValueError):
        return
    if ":" in text and text.isprintable():
        yield text
        yield text.partition(":")[2]


def _in_base64(secret: str) -> Iterator[str]:
    """Return the secret's base64 at each of three offsets.

    Its own characters, wherever in a longer text it begins.
    """
    data = secret.encode()
    for offset in range(3):
        packed = base64.b64encode(b"\0" * offset + data).decode().rstrip("=")
        # The first characters bear what stands before, the last one what may follow.
        own = packed[(0, 2, 3)[offset] : len(packed) if (offset + len(data)) % 3 == 0 else -1]
        if len(own) >= SHORTEST_MASKED:
            yield own
            if (other := own.replace("+", "-").replace("/", "_")) != own:
                yield other


def _any_spelling(character: str) -> bytes:
    """Return a pattern for a character's spellings.

    In JSON (within JSON too), URLs and HTML.

    Nobody escapes ASCII's letters and digits.
    """
    plain, units = character.encode("utf-8", "surrogatepass"), character.encode("utf-16-be", "surrogatepass")
    if plain.isalnum():
        return plain
    escape = b"".join(rb"\\{1,8}u%02x%02x" % pair for pair in zip(units[::2], units[1::2], strict=True))
    percent = b"".join(b"%%%02x" % byte for byte in plain)
    entity = b"&(?:#0{0,4}%d|#x0{0,4}%x%b);" % (
        ord(character),
        ord(character),
        b"|" + _NAMES[character] if character in _NAMES else b"",
    )
    return rb"(?:\\{0,8}%b|(?i:%b|%b|%b))" % (re.escape(plain), escape, percent, entity)
