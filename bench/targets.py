"""The gateway and the upstream as processes: how each is configured, started and named."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import StartError, redis_program
from bench.wire import MODEL, PROVIDER_MODEL
from gateway import __version__

REPOSITORY = Path(__file__).parent.parent
UPSTREAM_KEY = "an-upstream-credential"
# Of each kind, and so high that no load reaches them.
LIMITS = (
    "{rpm: 100000000, tpm: 100000000000, concurrency: 1000000, "
    "requests: 1000000000, tokens: 1000000000000, cost: 1000000000, period: day}"
)


@dataclass(frozen=True)
class Place:
    """Where a proxy is to stand: before which upstream, on which port, with which folder for its files."""

    folder: Path
    port: int
    upstream_port: int
    key: str  # the client's
    authority: Path | None = None  # PEM that signed the upstream's certificate; None: plain HTTP

    @property
    def upstream_url(self) -> str:
        return f"{'https' if self.authority else 'http'}://127.0.0.1:{self.upstream_port}"


@dataclass(frozen=True)
class Target:
    """A proxy, ready to be started."""

    name: str
    version: str
    note: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)  # that each request to it must bear
    byte_exact: bool = True  # False: it words answers anew; they are held to the same text
    slow: bool = False  # gets fewer rounds, so that the others need not wait
    checkout: Path = REPOSITORY  # from which `python -m` takes its modules
    start_seconds: float = 20  # within which it must answer


DIRECT = Target("direct", "", "no proxy: what the upstream and the load generator can do together", [])


@dataclass(frozen=True)
class LoopLag:
    """Of the upstream's streams: see `bench.upstream`."""

    events: int = 100
    tick_seconds: float = 0.02
    slots: int = 1
    first_seconds: float = 0.0


def upstream(port: int, loop_lag: LoopLag, certificate: Path | None) -> Target:
    numbers = ["--port", str(port), "--events", str(loop_lag.events), "--tick", str(loop_lag.tick_seconds)]
    numbers += ["--slots", str(loop_lag.slots), "--first", str(loop_lag.first_seconds)]
    tls = ["--certificate", str(certificate)] if certificate else []
    return Target("upstream", "", "canned bytes", [sys.executable, "-m", "bench.upstream", *numbers, *tls])


def redis(port: int, folder: Path) -> Target:
    """Raises `StartError` where there is no Redis on this machine."""
    fixed = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    program = redis_program()
    if program is None:
        raise StartError("no Redis server: put redis-server on PATH")
    return Target("redis", "", "keeps nothing", [program, "--port", str(port), *fixed])


def gateway(
    place: Place,
    *,
    sections: str = "",
    users: Iterable[str] | None = None,
    checkout: Path = REPOSITORY,
    name: str = "gateway",
) -> Target:
    """The gateway as an operator starts it: everything that the file does not name is at its default.

    `sections`: more YAML. `users`: the keys of so many users, each with a grant; default: one user with the client's.
    `checkout`: where its modules are, for another revision.
    """
    configuration = place.folder / "gateway.yaml"
    keys = [place.key] if users is None else list(users)
    configuration.write_text(_configuration(place, keys, sections))
    return Target(
        name=name,
        version=gateway_version(checkout),
        note="configured as an operator would, all else at its default: checks the key and the grant, keeps limits of "
        "each kind (rpm, tpm, concurrency, and totals of requests, tokens and cost), parses the body and puts the "
        "provider's model into it, asks streams for usage and takes that event out, keeps a journal and a ledger of "
        "usage, counts metrics, writes one log line a request (to a file)",
        command=[sys.executable, "-m", "gateway", "serve", "-c", str(configuration)],
        environment={"SSL_CERT_FILE": str(place.authority)} if place.authority else {},
        start_seconds=120 if users is not None else 20,
        checkout=checkout,
    )


def _configuration(place: Place, keys: list[str], sections: str) -> str:
    grants = f"grants: [{{model: {MODEL}, limits: {LIMITS}}}]"
    users = "".join(f"  - id: {number}\n    {grants}\n" for number in range(1, len(keys) + 1))
    hashes = "".join(
        f'  - {{id: key-{number}, user: {number}, hash: "sha256:{sha256(key)}"}}\n'
        for number, key in enumerate(keys, 1)
    )
    listed = f"users:\n{users}keys:\n{hashes}" if keys else ""
    server = "" if "server:" in sections else f"server: {{host: 127.0.0.1, port: {place.port}}}\n"
    return f"""\
{server}{sections}
models:
  - id: 1
    name: {MODEL}
    provider_model: {PROVIDER_MODEL}
    price: {{input: 2.5, output: 10}}
    endpoints:
      - {{id: loopback, url: "{place.upstream_url}/v1", api_key: {UPSTREAM_KEY}}}
{listed}"""


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def gateway_version(checkout: Path) -> str:
    """The version and, in a clone, the commit; `-dirty` where files differ from it."""
    describe = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(describe, check=False, cwd=checkout, capture_output=True, text=True, timeout=10)
    return f"{__version__} {done.stdout.strip()}".strip()
