"""Runs `gateway serve` and writes what only a collection of garbage freed; started by test_garbage.

    python garbage_gateway.py FILE ARGUMENT…     the arguments are those of `gateway`

FILE gets an object: how many of each class, of those made since the gateway froze what lives long.
"""

from __future__ import annotations

import atexit
import gc
import json
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gateway.cli import main


def write(file: Path) -> None:
    gc.collect()
    found = [type(each) for each in gc.garbage if not isinstance(each, weakref.ref)]  # modules that were loaded late
    kinds = Counter(f"{each.__module__}.{each.__qualname__}" for each in found)
    file.write_text(json.dumps(kinds))


def freeze_and_watch(freeze: Callable[[], None] = gc.freeze) -> None:
    freeze()
    gc.set_debug(gc.DEBUG_SAVEALL)


if __name__ == "__main__":
    atexit.register(write, Path(sys.argv.pop(1)))
    gc.freeze = freeze_and_watch
    main()
