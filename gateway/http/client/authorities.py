"""TLS contexts by the authorities that an origin's certificate may come from.

A file is looked at again, at most four times a second, whenever its origin is used; once it has changed, new lines are
opened by the new authorities, and idle ones of the old are not used any more. While what it holds is broken, what it
held last goes on.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import NamedTuple, TypeVar

from gateway.config.problems import Refused
from gateway.config.sources.certificates import context_of
from gateway.config.yaml.fingerprints import Fingerprint, fingerprint

LOOK_EACH_SECONDS = 0.25
# Of more files than this those first read are read again; endpoints made at run time may name any number.
MOST_FILES = 256


_Known = TypeVar("_Known")


class _File(NamedTuple):
    """What a file was like when it was last looked at."""

    looked_at: float
    version: Fingerprint | None


class Authorities:
    """Give TLS contexts, which offer http/1.1 alone.

    `default`: for origins that name no file; made at the first need.
    """

    def __init__(self, default: ssl.SSLContext | None = None) -> None:
        self._default = default
        self._files: dict[str, _File] = {}
        self._contexts: dict[str, tuple[Fingerprint | None, ssl.SSLContext]] = {}
        if default is not None:
            default.set_alpn_protocols(["http/1.1"])

    def version(self, path: str) -> Fingerprint | None:
        """Return what changes with the file, seen within the last moment."""
        now, known = time.monotonic(), self._files.get(path)
        if known is None or now - known.looked_at >= LOOK_EACH_SECONDS:
            known = _remembered(self._files, path, _File(now, fingerprint(path)))
        return known.version

    async def context(self, path: str) -> ssl.SSLContext:
        """Return the context for this file; for `""` the system's authorities.

        Raises OSError where the file holds none, and never has.
        """
        if not path:
            return self._system()
        version, known = self.version(path), self._contexts.get(path)
        if known is not None and known[0] == version:
            return known[1]
        fresh = await asyncio.to_thread(_context, path)
        if isinstance(fresh, Refused):
            if known is None:
                raise OSError(f"ca_file: {fresh}")
            fresh = known[1]
        return _remembered(self._contexts, path, (version, fresh))[1]

    def _system(self) -> ssl.SSLContext:
        if self._default is None:
            self._default = ssl.create_default_context()
            self._default.set_alpn_protocols(["http/1.1"])
        return self._default

    def __repr__(self) -> str:
        return f"<Authorities of {len(self._contexts)} files>"


def _remembered(known: dict[str, _Known], path: str, value: _Known) -> _Known:
    known.pop(path, None)
    known[path] = value
    if len(known) > MOST_FILES:
        del known[next(iter(known))]
    return value


def _context(path: str) -> ssl.SSLContext | Refused:
    if not os.path.isabs(path):
        return Refused("not an absolute path")
    try:
        context = context_of(path)
    except Refused as refused:
        return refused
    context.set_alpn_protocols(["http/1.1"])
    return context
