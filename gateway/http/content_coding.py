"""Decompress answers beside their way, to meter them.

They came compressed although unrequested.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES = 2**20  # unpacked at a time, so that nobody waits long for it
# In all: a few bytes may unfold to any number. What is beyond is not read.
_MOST_BYTES = 64 * 2**20
_MOST_TIMES = 16  # … or so many times what came, whichever is more
_MOST_PENDING_BYTES = 4 * 2**20
_HEADER_BYTES = 2  # they tell zlib's form from deflate alone
_GZIP_WINDOW, _ZLIB_WINDOW, _RAW_WINDOW = 31, 15, -15
_ZSTD_WINDOW: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}  # 8 MB, as RFC 9659 has it for HTTP


class _Codec(Protocol):
    """Decompress one stream.

    `feed` gives about so many bytes at most; its faults are those of its library.
    """

    more: bool  # there may be more to give: until then it takes no further bytes
    surplus: bytes | None  # what came behind the stream's end; None before it

    def feed(self, data: bytes, most: int) -> bytes: ...


class Unpacker:
    """Decompress bytes a step at a time.

    `is_readable` is False once they turn out not to be so.
    """

    def __init__(self, encoding: bytes) -> None:
        self._open = _CODECS.get(encoding)
        self._codec: _Codec | None = None
        self._pending = b""
        self._fed_bytes = 0
        self.given_bytes = 0
        self.is_readable = self._open is not None

    @property
    def more(self) -> bool:
        """Whether a next step may give something without further bytes."""
        if self._codec is None:
            return self.is_readable and len(self._pending) >= _HEADER_BYTES
        return self.is_readable and (self._codec.more or bool(self._pending))

    def feed(self, data: bytes) -> None:
        self._fed_bytes += len(data)
        if self.is_readable:
            self._pending += data
            self.is_readable = len(self._pending) <= _MOST_PENDING_BYTES

    def step(self, most: int = STEP_BYTES) -> bytes:
        """What comes next, at most `most` bytes; empty where nothing does yet."""
        most = min(most, max(_MOST_BYTES, _MOST_TIMES * self._fed_bytes) - self.given_bytes)
        if not self.is_readable or most <= 0:
            self.is_readable = False
            return b""
        try:
            return self._next(most)
        except (zlib.error, brotli.error, zstd.ZstdError, ValueError, EOFError):
            self._pending, self.is_readable = b"", False
            return b""

    def _next(self, most: int) -> bytes:
        if self._codec is None:
            if self._open is None or len(self._pending) < _HEADER_BYTES:
                return b""
            self._codec = self._open(self._pending)
        data = b""
        if not self._codec.more:
            data, self._pending = self._pending, b""
        piece = self._codec.feed(data, most)
        if not piece and not data and self._codec.more:  # it promises and does not give: lest nobody's turn ever ends
            raise EOFError
        self.given_bytes += len(piece)
        if self._codec.surplus is not None:  # gzip and zstd may be several in a row
            self._pending, self._codec = self._codec.surplus.lstrip(b"\0"), None
        return piece


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._decoder = zlib.decompressobj(window_bits)
        self.more = False
        self.surplus: bytes | None = None

    def feed(self, data: bytes, most: int) -> bytes:
        decoder = self._decoder
        piece = decoder.decompress(decoder.unconsumed_tail + data, most)
        self.more = bool(decoder.unconsumed_tail) or len(piece) == most
        if decoder.eof:
            self.more, self.surplus = False, decoder.unused_data
        return piece


class _Brotli:
    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self.more = False
        self.surplus: bytes | None = None

    def feed(self, data: bytes, most: int) -> bytes:
        if self._decoder.is_finished():  # what follows is not looked at
            return b""
        piece: bytes = self._decoder.process(data, output_buffer_limit=most)
        # It takes more data while it has yet to give what did not fit.
        has_more = not self._decoder.can_accept_more_data() or len(piece) >= most
        self.more = has_more and not self._decoder.is_finished()
        return piece


class _Zstd:
    def __init__(self) -> None:
        self._decoder = zstd.ZstdDecompressor(options=_ZSTD_WINDOW)
        self.more = False
        self.surplus: bytes | None = None

    def feed(self, data: bytes, most: int) -> bytes:
        decoder = self._decoder
        piece: bytes = decoder.decompress(data, most)
        self.more = not decoder.eof and not decoder.needs_input
        self.surplus = decoder.unused_data if decoder.eof else None
        return piece


def _deflate(begin: bytes) -> _Codec:
    """Return a decompressor for zlib's form or bare deflate.

    The RFC has zlib's; some servers send it alone.
    """
    is_zlib = begin[0] & 0x0F == 8 and int.from_bytes(begin[:2]) % 31 == 0
    return _Zlib(_ZLIB_WINDOW if is_zlib else _RAW_WINDOW)


_CODECS: dict[bytes, Callable[[bytes], _Codec]] = {
    b"gzip": lambda _: _Zlib(_GZIP_WINDOW),
    b"x-gzip": lambda _: _Zlib(_GZIP_WINDOW),
    b"deflate": _deflate,
    b"br": lambda _: _Brotli(),
    b"zstd": lambda _: _Zstd(),
}


def unpacked(body: bytes, encoding: bytes, most: int = STEP_BYTES) -> bytes:
    """Return the beginning of a body's content, or nothing."""
    unpacker = Unpacker(encoding)
    unpacker.feed(body)
    return unpacker.step(most)


def unpacked_whole(body: bytes, encoding: bytes, most: int) -> bytes | None:
    """Return a body's whole content, or None.

    None where it is cut, larger than `most`, followed by more, or not to be read.
    """
    try:
        if encoding == b"br":
            decoder = brotli.Decompressor()
            content: bytes = decoder.process(body, output_buffer_limit=most)
            return content if decoder.is_finished() else None
        codec = _CODECS[encoding](body)
        content = codec.feed(body, most)
        return content if codec.surplus == b"" else None
    except (KeyError, IndexError, zlib.error, brotli.error, zstd.ZstdError, ValueError, EOFError):
        return None
