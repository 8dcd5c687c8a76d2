"""Scripts called by hash, and the encoding of commands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Part: TypeAlias = str | bytes | int


class Script:
    """A Lua script, called by its hash.

    Its source is sent once where Redis does not know it.
    """

    __slots__ = ("_by_hash", "_by_source")

    def __init__(self, source: str) -> None:
        sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._by_hash = packed_parts(("EVALSHA", sha))
        self._by_source = packed_parts(("EVAL", source))

    def packed(self, keys: Sequence[Part], arguments: Sequence[Part]) -> bytes:
        rest = packed_parts((len(keys), *keys, *arguments))
        return b"*%d\r\n%b%b" % (3 + len(keys) + len(arguments), self._by_hash, rest)

    def with_source(self, packed: bytes) -> bytes:
        """Return the call with the script's source.

        Redis knows it from then on.
        """
        return packed.replace(self._by_hash, self._by_source, 1)


def packed_command(command: Sequence[Part]) -> bytes:
    return b"*%d\r\n%b" % (len(command), packed_parts(command))


def packed_parts(parts: Iterable[Part]) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in map(_encoded, parts)])


def _encoded(part: Part) -> bytes:
    """Encode text, with a stand-in for what UTF-8 cannot.

    No such thing is in Redis either.
    """
    return part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
