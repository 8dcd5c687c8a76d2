"""A form as it was read and as it goes up."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from typing import Any

from gateway.dialects.openai import Mention
from gateway.errors import InvalidMultipart
from gateway.http.multipart.part import Part, text_part
from gateway.http.multipart.spool import Spool

READ_BYTES = 2**18
_BOUNDARY_BYTES = 16

_Place = tuple[int, int]  # where a piece of the body is in the spool: its offset and size


class Upload:
    """A body on disk, sent piece by piece; `len` is its `content-length`."""

    __slots__ = ("_pieces", "_size", "_spool")

    def __init__(self, spool: Spool, pieces: Sequence[bytes | _Place]) -> None:
        self._spool = spool
        self._pieces = pieces
        self._size = sum(_size_of(piece) for piece in pieces)

    def __len__(self) -> int:
        return self._size

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body from its beginning. Raises Overloaded where the disk fails."""
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            at, left = piece
            while left:
                size = min(left, READ_BYTES)
                yield await self._spool.read(at, size)
                at, left = at + size, left - size

    def __repr__(self) -> str:
        return f"<Upload of {self._size:,} bytes>"


class FormBody:
    """A form: its text `fields`, and all parts in their order.

    `size` counts its texts' bytes, for estimates: files are none. `adds_model` False: the route has none, so none is
    added. `close` gives back what it holds.
    """

    __slots__ = (
        "_boundary",
        "_spool",
        "_versions",
        "adds_model",
        "content_type",
        "fields",
        "mentions",
        "parts",
        "size",
    )

    def __init__(self, parts: list[Part], fields: dict[str, Any], spool: Spool, *, adds_model: bool = True) -> None:
        self.parts = parts
        self.fields = fields
        self.size = sum(part.size for part in parts if not part.is_file)
        self.adds_model = adds_model
        self.mentions: tuple[Mention, ...] = ()  # what models a form names besides, nobody knows of
        self._spool = spool
        self._versions: dict[tuple[str, ...], tuple[Part, _Place]] = {}  # a part's contents by what models are called
        self._boundary = b"gateway-" + secrets.token_hex(_BOUNDARY_BYTES).encode()
        self.content_type = f"multipart/form-data; boundary={self._boundary.decode()}"

    def close(self) -> None:
        self._spool.close()

    def rewritten(self, model: str, mentioned: Sequence[str] = (), *, include_usage: bool = False) -> bytes | Upload:
        """The form for the provider's `model`, without `modelId`; files keep their bytes.

        But for a part that has a version for these names.
        """
        del include_usage  # no form asks for it
        versioned, place = self._versions.get((model, *mentioned), (None, (0, 0)))
        pieces: list[bytes | _Place] = []
        if self.adds_model and "model" not in self.fields:
            pieces.append(self._head_of(text_part("model")) + model.encode() + b"\r\n")
        for part in self.parts:
            if part.name == "modelId":
                continue
            if part.name == "model":
                pieces.append(self._head_of(text_part("model")) + model.encode() + b"\r\n")
            else:
                at = place if part is versioned else (part.at, part.size)
                pieces += (self._head_of(part), at, b"\r\n")
        pieces.append(b"--" + self._boundary + b"--\r\n")
        if self._spool.is_in_memory:
            return b"".join(piece if isinstance(piece, bytes) else self._spool.held_bytes(*piece) for piece in pieces)
        return Upload(self._spool, _joined(pieces))

    upload = rewritten  # a large one is never in memory

    def digest(self) -> bytes:
        """Digest what makes the form another one, at a small cost.

        Of contents, beyond the texts, their sizes: files are not read again for it.
        """
        digest = blake2b(digest_size=16)
        for part in self.parts:
            value = self.fields.get(part.name, b"") if not part.is_file else b""
            digest.update(
                b"%b:%d:%b;" % (part.head, part.size, value if isinstance(value, bytes) else str(value).encode())
            )
        return digest.digest()

    async def add_version(self, part: Part, names: Sequence[str], pieces: AsyncIterator[bytes]) -> None:
        """Give a part another content where models have these names.

        Raises Overloaded, and whatever `pieces` raises.
        """
        at = self._spool.size
        async for piece in pieces:
            await self._spool.write(piece)
        await self._spool.finish()
        self._versions[tuple(names)] = part, (at, self._spool.size - at)

    async def content(self, part: Part) -> AsyncIterator[bytes]:
        """A part's content, piece by piece."""
        at, left = part.at, part.size
        while left:
            size = min(left, READ_BYTES)
            yield await self._spool.read(at, size)
            at, left = at + size, left - size

    def part(self, name: str) -> Part:
        """Return the one part of this name. Raises InvalidMultipart."""
        found = [part for part in self.parts if part.name == name]
        if len(found) != 1:
            raise InvalidMultipart(f"The form needs one part `{name}`.")
        return found[0]

    def _head_of(self, part: Part) -> bytes:
        return b"--" + self._boundary + b"\r\n" + part.head

    def __repr__(self) -> str:
        return f"<FormBody of {len(self.parts)} parts, {self._spool!r}>"


def _size_of(piece: bytes | _Place) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1]


def _joined(pieces: list[bytes | _Place]) -> list[bytes | _Place]:
    """Join neighbours that are bytes: fewer, larger writes."""
    joined: list[bytes | _Place] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, bytes) and isinstance(last, bytes):
            joined[-1] = last + piece
        elif _size_of(piece):
            joined.append(piece)
    return joined
