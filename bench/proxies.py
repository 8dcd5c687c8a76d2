"""The peers: how each is configured for one loopback upstream, started and named, and what it does not do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench import peers
from bench.peers import Installed
from bench.processes import free_port, most_connections
from bench.targets import UPSTREAM_KEY, Place, Target
from bench.wire import MODEL, PROVIDER_MODEL


@dataclass(frozen=True)
class Peer:
    """One proxy beside which the gateway is measured. `tables`: those that it takes part in."""

    install: Callable[[], Installed]
    target: Callable[[Installed, Place], Target]
    tables: frozenset[str]


def caddy(installed: Installed, place: Place) -> Target:
    configuration = place.folder / "Caddyfile"
    trust = f"tls_trust_pool file {place.authority}" if place.authority else ""
    configuration.write_text(f"""\
{{
    admin off
    auto_https off
    persist_config off
}}
http://127.0.0.1:{place.port} {{
    bind 127.0.0.1
    reverse_proxy {place.upstream_url} {{
        flush_interval -1
        transport http {{
            {trust}
        }}
    }}
}}
""")
    home = str(place.folder)
    return Target(
        name="caddy",
        version=_first_line(installed.program, "version").split()[0].removeprefix("v"),
        note="Go; `reverse_proxy`, threads on all cores, no access log (its default): checks no key, parses no JSON, "
        "counts no usage",
        command=[installed.program, "run", "--config", str(configuration), "--adapter", "caddyfile"],
        environment={"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home},
    )


def nginx(installed: Installed, place: Place) -> Target:
    configuration = place.folder / "nginx.conf"
    configuration.write_text(_nginx_configuration(place))
    return Target(
        name="nginx",
        version=_first_line(installed.program, "-v").rpartition("/")[2],
        note="C; `proxy_pass`, one worker, keep-alive to the upstream, no buffering of answers, access log on "
        "(its default): checks no key, parses no JSON, counts no usage; writes large bodies to a file before it sends "
        "them on",
        command=[installed.program, "-e", str(place.folder / "error.log"), "-c", str(configuration)],
    )


def _nginx_configuration(place: Place) -> str:
    folder = place.folder
    files = 2 * most_connections()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"    {kind}_temp_path {folder}/{kind};" for kind in kinds)
    trust = f"proxy_ssl_trusted_certificate {place.authority}; proxy_ssl_verify on; proxy_ssl_name localhost;"
    return f"""\
daemon off;
{"user root root;" if os.geteuid() == 0 else ""}
worker_processes 1;
worker_rlimit_nofile {files};
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections {files}; }}
http {{
{temporary}
    access_log {folder}/access.log;
    client_max_body_size 64m;
    keepalive_requests 100000000;
    upstream provider {{
        server 127.0.0.1:{place.upstream_port};
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{place.port} backlog=4096;
        location / {{
            proxy_pass {"https" if place.authority else "http"}://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            {trust if place.authority else ""}
        }}
    }}
}}
"""


def sglang_router(installed: Installed, place: Place) -> Target:
    ports = ["--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(free_port())]
    trust = ["--ca-cert-paths", str(place.authority)] if place.authority else []
    return Target(
        name="sglang-router",
        version=_first_line(installed.program, "--version").split()[-1],
        note="Rust; its OpenAI backend, log level warn: parses the body, checks no key, leaves the model as it is, "
        "counts no usage",
        command=[
            *(installed.program, "launch", "--backend", "openai", "--worker-urls", place.upstream_url),
            *(*ports, "--max-concurrent-requests", "-1", "--log-level", "warn", *trust),
        ],
        environment={"SSL_CERT_FILE": str(place.authority)} if place.authority else {},
    )


def portkey(installed: Installed, place: Place) -> Target:
    version = json.loads(Path(installed.program).parent.with_name("package.json").read_text())["version"]
    node = shutil.which("node") or "node"
    return Target(
        name="portkey",
        version=version,
        note=f"Node {_first_line(node, '--version')}; told provider and upstream by two headers "
        "of each request: checks no key, knows no models, "
        "counts no usage, writes no log",
        command=[node, installed.program, f"--port={place.port}", "--headless"],
        environment={"NODE_EXTRA_CA_CERTS": str(place.authority)} if place.authority else {},
        headers={"x-portkey-provider": "openai", "x-portkey-custom-host": f"{place.upstream_url}/v1"},
        byte_exact=False,
        slow=True,
    )


def litellm(installed: Installed, place: Place) -> Target:
    model = {"model": f"openai/{PROVIDER_MODEL}", "api_base": f"{place.upstream_url}/v1", "api_key": UPSTREAM_KEY}
    configuration = place.folder / "litellm.json"  # JSON is YAML
    configuration.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": model}],
                "general_settings": {"master_key": place.key},
            }
        )
    )
    listening = ["--host", "127.0.0.1", "--port", str(place.port)]
    return Target(
        name="litellm",
        version=_litellm_version(installed),
        note="Python; one worker, no database: knows one key, its master key; no grants, no limits, no ledger",
        command=[installed.program, "--config", str(configuration), *listening, "--telemetry", "False"],
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_DOCS": "True"},  # asks nothing of the network
        byte_exact=False,
        slow=True,
        start_seconds=90,
    )


def bifrost(_installed: Installed, _place: Place) -> Target:
    raise peers.UnavailableError("not installed")


def copier(_installed: Installed, place: Place) -> Target:
    return Target(
        name="copier",
        version=f"uvloop {version('uvloop')}",
        note="Python; no proxy: `bench/copier.py` copies bytes between two sockets and looks at nothing, the least "
        "that a proxy in Python can cost",
        command=[sys.executable, "-m", "bench.copier", str(place.port), str(place.upstream_port)],
    )


_SHORT = frozenset({"requests", "events", "latency", "startup", "install"})
_ALL = _SHORT | {"streams", "bodies", "tls"}

PEERS = {
    "caddy": Peer(peers.caddy, caddy, _ALL),
    "nginx": Peer(peers.nginx, nginx, _ALL),
    "sglang-router": Peer(peers.sglang_router, sglang_router, _ALL),
    "copier": Peer(peers.copier, copier, frozenset({"requests", "events", "latency"})),
    "portkey": Peer(peers.portkey, portkey, _SHORT | {"tls"}),
    "litellm": Peer(peers.litellm, litellm, _SHORT),
    "bifrost": Peer(peers.bifrost, bifrost, frozenset()),
}


def _litellm_version(installed: Installed) -> str:
    found = next(Path(installed.program).parent.parent.glob("lib/python*/site-packages/litellm-*.dist-info"))
    return found.name.removesuffix(".dist-info").rpartition("-")[2]


def _first_line(*command: str) -> str:
    """What a program says of its version, be it on stdout or (nginx) on stderr."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    return done.stdout.strip().splitlines()[0]
