"""axe-core at a page: what it finds fails. npm installs it, once, in tests alone; it skips loudly where it cannot.

`python tests/dashboard/axe_kit.py` installs it and the compiler that checks the modules' types.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from playwright.async_api import Page

PACKAGE, COMPILER = "axe-core@4", "typescript@5"
PLACE = Path.home() / ".cache" / "ecli-gateway-axe"
INSTALL_SECONDS = 120
_FOUND = """async options => (await axe.run(document, {resultTypes: ["violations"], ...options})).violations.map(
    found => `${found.id}: ${found.help}: ` + found.nodes.map(node => node.html.slice(0, 200)).join(" | "))"""


@cache
def installed(package: str, name: str) -> Path:
    """A package's folder, once npm has brought it."""
    folder = PLACE / "node_modules" / name
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"NO NPM: {name} is not there, what it would look at is not tried")
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(PLACE), package]
            try:
                subprocess.run(command, cwd=PLACE, check=True, capture_output=True, timeout=INSTALL_SECONDS)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"{name} COULD NOT BE INSTALLED, what it would look at is not tried: {error}")
    return folder


def axe_source() -> str:
    """The whole of axe-core."""
    return (installed(PACKAGE, "axe-core") / "axe.min.js").read_text()


async def assert_accessible(page: Page) -> None:
    """No violation of axe's rules, in dark and in light: what is dark differs in its colours alone."""
    await page.evaluate(axe_source())
    for scheme, options in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        assert await page.evaluate(_FOUND, options) == []


if __name__ == "__main__":  # once for a machine, before a test has to wait for it
    for package in (PACKAGE, COMPILER):
        installed(package, package.partition("@")[0])
