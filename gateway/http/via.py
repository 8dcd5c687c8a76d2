"""Detect loops through gateways by `via` (RFC 9110)."""

from __future__ import annotations

import hashlib
import re

from multidict import CIMultiDictProxy, istr

from gateway.errors import LoopDetected

MOST_GATEWAYS = 8
_VIA = istr("via")
_ENTRY = re.compile(r"1\.[01] gw-[0-9a-f]{12}", re.ASCII)
_LONGEST = 8192


def gateways_passed(headers: CIMultiDictProxy[str]) -> tuple[str, ...]:
    """List the gateways of this kind in `via`."""
    if _VIA not in headers:
        return ()
    entries = ",".join(headers.getall(_VIA))[:_LONGEST].split(",")
    return tuple(entry for text in entries if _ENTRY.fullmatch(entry := text.strip(" \t")))


class Via:
    """This gateway's name, one for all of its workers and machines.

    `identity`: of the store that they share; it may become known later than the first request comes. `own_line` is the
    header line of a request that has come through no other gateway.
    """

    def __init__(self, identity: str) -> None:
        self.identify(identity)

    def identify(self, identity: str) -> None:
        """Take the name that follows from the store's identity."""
        self._name = "1.1 gw-" + hashlib.sha256(identity.encode()).hexdigest()[:12]
        self.own_line = f"via: {self._name}\r\n".encode()

    def line(self, passed: tuple[str, ...]) -> bytes:
        """Return the `via` line. Raises LoopDetected.

        For a request that has been here, or in too many.
        """
        if not passed:
            return self.own_line
        if len(passed) > MOST_GATEWAYS or any(entry[3:] == self._name[3:] for entry in passed):
            raise LoopDetected("This request has been through this gateway before: a model's endpoint leads back here.")
        return f"via: {', '.join((*passed, self._name))}\r\n".encode()

    def __repr__(self) -> str:
        return f"<Via {self._name}>"
