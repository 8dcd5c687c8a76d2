"""A program for the tests: a worker's ledger at full speed, which says what was acknowledged until it is killed.

Arguments: the database's URL and the journal's directory. Lines `a ID` and `s ID` say that the call has returned.
"""

from __future__ import annotations

import asyncio
import collections
import os
import random
import sys
from pathlib import Path

from ledgerkit import admission, capturing_log, settlement

from gateway.types import Secret
from gateway.usage import Ledger

LONGEST_OPEN = 30  # requests under way at a time


async def main(url: Secret, directory: Path) -> None:
    ledger = Ledger.open(
        url,
        directory,
        log=capturing_log()[0],
        segment_bytes=20_000,
        sync_seconds=0.01,
        most_in_memory=random.choice((20, 10_000)),  # rows that are read back, and rows that never are
    )
    under_way: collections.deque[str] = collections.deque()
    while True:
        admitted = admission()
        ledger.admit(admitted)
        os.write(1, b"a %b\n" % admitted.request_id.encode())
        under_way.append(admitted.request_id)
        for _ in range(random.randrange(3) if len(under_way) < LONGEST_OPEN else 2):
            if under_way:
                request_id = under_way.popleft()
                ledger.settle(settlement(request_id))
                os.write(1, b"s %b\n" % request_id.encode())
        await asyncio.sleep(0)


asyncio.run(main(Secret(sys.argv[1]), Path(sys.argv[2])))
