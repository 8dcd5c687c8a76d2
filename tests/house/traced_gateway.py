"""Runs `gateway serve` and writes which of its files each request called; started by test_house.

    python traced_gateway.py FILE ARGUMENT…     the arguments are those of `gateway`

FILE gets a list of lists: one for each read of a client's connection, of the calls until the next one.
"""

from __future__ import annotations

import atexit
import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import gateway
from gateway.cli import main

HOUSE = f"{Path(gateway.__file__).parent}/"
LANE = f"{HOUSE}http/fast_lane/"

windows: list[list[str]] = []


def on_call(frame: FrameType, event: str, _argument: Any) -> None:
    name = frame.f_code.co_filename
    if event != "call" or not name.startswith(HOUSE):
        return
    if frame.f_code.co_name == "data_received" and name.startswith(LANE):
        windows.append([])
    if windows:
        windows[-1].append(f"{name.removeprefix(HOUSE)} {frame.f_code.co_qualname}")


def write(file: Path) -> None:
    sys.setprofile(None)
    file.write_text(json.dumps(windows))


if __name__ == "__main__":
    atexit.register(write, Path(sys.argv.pop(1)))
    sys.setprofile(on_call)
    main()
