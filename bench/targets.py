"""Who is measured: how each is configured, started and named, and what it does not do."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from bench.wire import MODEL, PROVIDER_MODEL
from gateway import __version__

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Ports:
    own: int
    upstream: int


@dataclass(frozen=True)
class Target:
    """A proxy, ready to be started."""

    name: str
    version: str
    note: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


DIRECT = Target("direct", "", "no proxy: what the upstream and the load generator can do together", [])


def upstream(port: int) -> Target:
    return Target("upstream", "", "canned bytes", [sys.executable, "-m", "bench.upstream", "--port", str(port)])


def gateway(folder: Path, ports: Ports, key: str) -> Target:
    """The gateway as an operator starts it: everything that the file does not name is at its default."""
    configuration = folder / "gateway.yaml"
    configuration.write_text(f"""\
server: {{host: 127.0.0.1, port: {ports.own}}}
models:
  - id: 1
    name: {MODEL}
    provider_model: {PROVIDER_MODEL}
    endpoints:
      - {{id: loopback, url: "http://127.0.0.1:{ports.upstream}/v1", api_key: an-upstream-credential}}
users:
  - {{id: 42, grants: [{{model: {MODEL}}}]}}
keys:
  - {{id: bench, user: 42, hash: "sha256:{hashlib.sha256(key.encode()).hexdigest()}"}}
""")
    return Target(
        name="gateway",
        version=_gateway_version(),
        note="one process, configured as an operator would, all else at its default: checks the key and the grant, "
        "parses the body and puts the provider's model into it, asks streams for usage and takes that event out, "
        "writes one log line a request (to a file)",
        command=[sys.executable, "-m", "gateway", "serve", "-c", str(configuration)],
    )


def caddy(folder: Path, ports: Ports, _key: str) -> Target:
    binary = peers.caddy()
    configuration = folder / "Caddyfile"
    configuration.write_text(f"""\
{{
    admin off
    auto_https off
    persist_config off
}}
http://127.0.0.1:{ports.own} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{ports.upstream} {{
        flush_interval -1
    }}
}}
""")
    return Target(
        name="caddy",
        version=_first_line(binary, "version").split()[0].removeprefix("v"),
        note="`reverse_proxy` over plain HTTP, threads on all cores, no access log (its default): checks no key, "
        "parses no JSON",
        command=[binary, "run", "--config", str(configuration), "--adapter", "caddyfile"],
        environment={"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
    )


def nginx(folder: Path, ports: Ports, _key: str) -> Target:
    binary = peers.nginx()
    configuration = folder / "nginx.conf"
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration.write_text(f"""\
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
{temporary}
    access_log {folder}/access.log;
    keepalive_requests 100000000;
    upstream provider {{
        server 127.0.0.1:{ports.upstream};
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{ports.own};
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
""")
    return Target(
        name="nginx",
        version=_first_line(binary, "-v").rpartition("/")[2],
        note="`proxy_pass`, one worker, keep-alive to the upstream, no buffering, access log on (its default): checks "
        "no key, parses no JSON",
        command=[binary, "-e", str(folder / "error.log"), "-c", str(configuration)],
    )


PEERS = {"caddy": caddy, "nginx": nginx}


def _gateway_version() -> str:
    """The version and, in a clone, the commit; `-dirty` where files differ from it."""
    describe = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(describe, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=10)
    return f"{__version__} {done.stdout.strip()}".strip()


def _first_line(*command: str) -> str:
    """What a program says of its version, be it on stdout or (nginx) on stderr."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
    return done.stdout.strip().splitlines()[0]
