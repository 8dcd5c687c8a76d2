"""Refuse heads that another server could frame differently.

RFC 9112 §3.2 and §6.1, and what nginx refuses besides.
"""

from __future__ import annotations

import re

from multidict import CIMultiDictProxy, istr

from gateway.errors import InvalidHttp

_HOST, _TRANSFER_ENCODING = istr("host"), istr("transfer-encoding")
_HOST_VALUE = re.compile(r"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)
_CLOSE = (("connection", "close"),)


def refuse_ambiguous(headers: CIMultiDictProxy[str], *, http11: bool) -> None:
    """Raise InvalidHttp for an ambiguous head.

    After its answer the connection ends: what follows on it may have been framed otherwise.
    """
    coding = headers.get(_TRANSFER_ENCODING)
    if coding is not None and (coding.lower() != "chunked" or not http11):
        raise InvalidHttp("Only HTTP/1.1's `transfer-encoding: chunked` is understood here.", headers=_CLOSE)
    hosts = headers.getall(_HOST, ())
    if len(hosts) != 1 and (hosts or http11):
        raise InvalidHttp("One field `host` is needed, and no more.", headers=_CLOSE)
    if hosts and not _HOST_VALUE.fullmatch(hosts[0]):
        raise InvalidHttp("The field `host` is not a host.", headers=_CLOSE)
