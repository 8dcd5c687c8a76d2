"""What HTTP's parser lets pass and a gateway must not: heads that another server could read differently, and trailers.

RFC 9112 §3.2 and §6.1, and what nginx refuses besides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy, istr

from gateway.errors import InvalidHttp

_HOST, _TRANSFER_ENCODING = istr("host"), istr("transfer-encoding")
_HOST_VALUE = re.compile(r"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)
_CLOSE = (("connection", "close"),)
_LAST_CHUNK = b"\r\n0\r\n\r\n"  # and no trailers


def refuse_ambiguous(headers: CIMultiDictProxy[str], *, http11: bool) -> None:
    """Raises InvalidHttp, after whose answer the connection ends: what follows on it may have been framed otherwise."""
    coding = headers.get(_TRANSFER_ENCODING)
    if coding is not None and (coding.lower() != "chunked" or not http11):
        raise InvalidHttp("Only HTTP/1.1's `transfer-encoding: chunked` is understood here.", headers=_CLOSE)
    if not _HOST_VALUE.fullmatch(headers.get(_HOST, "")):
        raise InvalidHttp("The field `host` is not a host.", headers=_CLOSE)


class Trailers:
    """Notices trailers on a connection, so that it can end with the request that they belong to.

    aiohttp's parser gives the last trailer to the next request, as its first field: behind a proxy that shares its
    connections, a client could so put a field into somebody else's request. For the same reason a request that follows
    a chunked one within a single read is not served: where the one ends and the other begins cannot be seen from here.
    """

    __slots__ = ("_body", "_end")

    def __init__(self) -> None:
        self._body: StreamReader | None = None  # one that comes in chunks, until it is whole
        self._end = b""

    @property
    def may_come(self) -> bool:
        return self._body is not None

    def read(self, data: bytes, found: Sequence[tuple[Any, StreamReader]]) -> tuple[int, bool]:
        """What the parser has found in `data`: how many of those requests may be served, and whether more may come."""
        for place, (message, body) in enumerate(found):
            if not hasattr(message, "chunked"):  # an error of the parser's, after which nothing comes
                self._body = None
                return place + 1, True
            if self._body is not None:
                return place, False
            self._body = body if message.chunked else None
        return len(found), self._body is None or self._goes_on(self._body, data)

    def _goes_on(self, body: StreamReader, data: bytes) -> bool:
        self._end = (self._end + data)[-len(_LAST_CHUNK) :]
        if not body.is_eof():
            return True
        ended_plainly = self._end == _LAST_CHUNK
        self._body, self._end = None, b""
        return ended_plainly
