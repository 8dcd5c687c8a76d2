"""Commands as a shell runs them, several at once where they do not disturb each other."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from kit import DEADLINE_SECONDS
from kit.forked import start_gateway

ROOT = Path(__file__).parent.parent.parent


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def row(self, beginning: str) -> str:
        """The one line of stdout that begins so."""
        (found,) = [line for line in self.out.splitlines() if line.startswith(beginning)]
        return found


async def command(*arguments: str, cwd: Path, stdout: int = asyncio.subprocess.PIPE, **environ: str) -> Done:
    """`gateway ARGUMENTS` in the directory `cwd`."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}
    process = await start_gateway(*arguments, environ=environment, directory=cwd, stdout=stdout)
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return Done(process.returncode, (out or b"").decode(), err.decode())


def write(directory: Path, settings: dict[str, Any], name: str = "gateway.yaml") -> None:
    (directory / name).write_text(json.dumps(settings, indent=1))  # JSON is YAML
