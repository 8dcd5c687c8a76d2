"""How many files and rooms one plain relayed request goes through: as few as a reader can hold in mind."""

from __future__ import annotations

import json
from collections import Counter
from functools import reduce
from pathlib import Path

from kit import FakeUpstream
from kit.answers import as_openai
from kit.gateway import KEYS, GatewayProcess, config
from kit.stage import ask, endpoint, model
from kit.wire import Wire, request_bytes

import gateway

# The goal is 15 files and 9 rooms. These are where it stands: they may only fall.
MOST_FILES = 14
MOST_ROOMS = 8
REQUESTS = 12

Calls = Counter[str]  # "file function" → how often


async def test_a_plain_request_stays_in_few_files_and_rooms(tmp_path: Path) -> None:
    calls = await calls_of_one_request(tmp_path)
    files: Counter[str] = Counter()
    for place, times in calls.items():
        files[place.split(" ")[0]] += times
    rooms = {name.split("/")[0].removesuffix(".py") for name in files}
    print(f"\n{calls.total()} calls, {len(files)} files, {len(rooms)} rooms: {', '.join(sorted(rooms))}")  # noqa: T201
    print("\n".join(f"  {times:4} {name}" for name, times in files.most_common()))  # noqa: T201
    assert len(files) <= MOST_FILES
    assert len(rooms) <= MOST_ROOMS
    assert [name for name in files if name not in (gateway.__doc__ or "")] == [], "the map has its way, file by file"


async def calls_of_one_request(directory: Path) -> Calls:
    """What every one of many alike requests called, from its first byte to the row of the ledger.

    What only some of them called belongs to something else that the process did meanwhile.
    """
    written = directory / "calls.json"
    program = [str(Path(__file__).with_name("traced_gateway.py")), str(written)]
    upstream = await FakeUpstream.start(as_openai())
    try:
        settings = config([model("plain", [endpoint(upstream, "plain")])])
        async with GatewayProcess.start(settings, directory, program) as gateway, Wire.open(gateway.port) as wire:
            for _ in range(REQUESTS):
                await wire.send(request_bytes("POST", "/v1/chat/completions", ask("plain"), key=KEYS["user"]))
                assert (await wire.reply()).status == 200
    finally:
        await upstream.close()
    windows = [Counter(window) for window in json.loads(written.read_text())]
    warm = windows[-REQUESTS:-1][2:]  # the first ones fill caches; the last ends with the process
    assert len(warm) > 5
    return reduce(Counter.__and__, warm)
