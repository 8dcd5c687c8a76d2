"""A program for the tests: remembers, deletes and begins work at full speed, and says what was acknowledged.

Arguments: the directory, and the URL and prefix of a Redis for a shared index. Lines `p ID`, `d ID` and `b ID` say that
the call has returned.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from objects_kit import Bench, record
from store.grants_kit import Log, RedisServer

from gateway.objects.record import Unsettled


class Elsewhere(RedisServer):
    """A server that somebody else runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        return self._url


async def main(directory: Path, url: str = "", prefix: str = "") -> None:
    bench = Bench("redis" if url else "embedded", directory, Log(), Elsewhere(url) if url else None, prefix)
    index = await bench.open(max_journal_bytes=2**30)
    for number in range(1_000_000):
        object_id = f"file-{os.getpid()}-{number}"
        await index.remember([record(object_id, created=number + 1, body=b'{"id":"x"}')])
        os.write(1, b"p %b\n" % object_id.encode())
        if number % 7 == 3:
            os.write(1, b"t %b\n" % object_id.encode())  # may be gone from here on
            await index.forget(object_id)
            os.write(1, b"d %b\n" % object_id.encode())
        if number % 11 == 5:
            await index.begin(Unsettled(id=object_id, kind="batch", owner="42", account="here", reservation=b"\x00r"))
            os.write(1, b"b %b\n" % object_id.encode())


asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
