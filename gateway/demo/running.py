"""The demo's configuration, its upstreams and its gateway.

Two endpoints serve the model `demo`. One is steady; the other answers 429 now and then, so that rotation and cooldown
can be seen in the log. With `--faults`, the other one meets each request with a fault, and each fault has a model of
its own besides.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory

from structlog.typing import FilteringBoundLogger

from gateway.config import Settings, parse_settings
from gateway.demo.answers import Asked
from gateway.demo.faults import FAULTS, Fault
from gateway.demo.faulty import REFUSE, FaultyUpstream, Met
from gateway.demo.sign_in import Door
from gateway.demo.upstream import MODEL, loopback_upstream
from gateway.process.serve import serve
from gateway.types import Secret

# The upstream has an answer of each kind, also where a client names no model.
OPERATIONS = ("chat", "completions", "embeddings", "moderations", "images", "speech", "transcriptions", "rerank")
USER = "demo"
# Short enough to be seen: an operator who tries a stall does not wait for minutes.
FAULTY_TIMEOUTS = "{connect: 2, first_byte: 3, idle: 3, total: 8}"


async def run_demo(sock: socket.socket, log: FilteringBoundLogger, *, faults_by_seed: int | None = None) -> None:
    """Serve gateway and upstreams until SIGTERM or SIGINT; print what to paste.

    `faults_by_seed`: the upstream breaks HTTP in its many ways, in an order that this number decides.
    """
    key, panels_key = f"sk-demo-{token_urlsafe(24)}", f"sk-panel-{token_urlsafe(24)}"
    host, port = sock.getsockname()[:2]
    async with AsyncExitStack() as running:
        directory = running.enter_context(TemporaryDirectory(prefix="ecli-gateway-demo-"))
        steady = await running.enter_async_context(loopback_upstream())
        if faults_by_seed is None:
            models, notes = flaky_models(steady), ""
        else:
            faulty = await running.enter_async_context(FaultyUpstream.running(faults_by_seed, _log_faults(log)))
            models, notes = faulty_models(steady, faulty), faulty_notes(faults_by_seed)
        settings = demo_settings(models, key, panels_key, host, port, Path(directory))
        door = await running.enter_async_context(Door.opened(Secret(panels_key), USER))

        def ready(url: str) -> None:
            door.gateway_url = url
            print(pages_at(url, door.url) + snippets(url, key) + notes, flush=True)

        await serve(settings, log, sock, ready=ready)


def flaky_models(upstream_url: str) -> str:
    return f"""
  - id: 1
    name: {MODEL}
    aliases: [claude-{MODEL}]
    global: true
    operations: [{", ".join(OPERATIONS)}, realtime]
    endpoints:
      - {{id: steady, url: "{upstream_url}/steady/v1", protocols: [openai, anthropic], websocket: true}}
      - {{id: flaky, url: "{upstream_url}/flaky/v1", protocols: [openai, anthropic], websocket: true}}
"""


def faulty_models(steady_url: str, faulty: FaultyUpstream) -> str:
    """List models over faulty endpoints.

    `demo`: a faulty endpoint that is asked first, and a steady one behind it. And a model for each fault alone.
    """
    records = [
        f"""
  - id: 1
    name: {MODEL}
    global: true
    endpoints:
      - {{id: faulty, url: "{faulty.url("any")}", timeouts: {FAULTY_TIMEOUTS}}}
      - {{id: steady, url: "{steady_url}/steady/v1", priority: 1}}
"""
    ]
    for name in fault_names():
        endpoint = f'{{id: "{name}", url: "{faulty.url(name)}", timeouts: {FAULTY_TIMEOUTS}}}'
        records.append(f'  - {{id: "{name}", name: "{name}", global: true, endpoints: [{endpoint}]}}\n')
    return "".join(records)


def fault_names() -> list[str]:
    return [REFUSE, *(fault.name for fault in FAULTS)]


def demo_settings(models: str, key: str, panels_key: str, host: str, port: int, directory: Path) -> Settings:
    """A configuration like one that an operator would write, made in memory."""
    text = f"""
server: {{host: "{host}", port: {port}, drain_seconds: 3}}
models:{models}
keys:
  - {{id: demo, user: {USER}, key: "{key}"}}
  - {{id: panel, user: panel, key: "{panels_key}", scopes: ["ai:manage", "usage:read", "act:as", "ai:use"]}}
"""
    return parse_settings(text, "(demo)", {}, directory)


def pages_at(url: str, link: str) -> str:
    """Where the pages are, and the link that signs in."""
    return f"""
Its pages (chat, studio, usage, keys, fleet …) are at {url}/dashboard/
One click signs you in, as long as this demo runs, from this machine:

{link}
"""


def snippets(url: str, key: str) -> str:
    """Ready to paste: a `curl` line and an `openai` program."""
    return f"""
The demo gateway serves the model `{MODEL}` at {url}/v1 — stop it with Ctrl-C. Ask it something:

curl -N {url}/v1/chat/completions \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Hello?"}}]}}'

Or in Python (pip install openai):

from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{key}")
stream = client.chat.completions.create(
    model="{MODEL}", messages=[{{"role": "user", "content": "Hello?"}}], stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

Or with Claude Code:

ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN={key} ANTHROPIC_MODEL=claude-{MODEL} claude
"""


def faulty_notes(seed: int) -> str:
    """Which faults there are, and how to have the same ones again."""
    width = max(map(len, fault_names())) + 2
    lines = [f"  {REFUSE:{width}}nobody listens there", *(f"  {each.name:{width}}{each.says}" for each in FAULTS)]
    listed = "\n".join(lines)
    return f"""
The first endpoint of `{MODEL}` breaks what it is asked; the log names each fault. The same ones in the same order:
gateway demo --faults --seed {seed}

Each fault is a model as well, with nothing else behind it:

{listed}
"""


def _log_faults(log: FilteringBoundLogger) -> Met:
    def met(fault: Fault, asked: Asked) -> None:
        log.info("fault", fault=fault.name, number=asked.number, route=asked.route, streamed=asked.stream)

    return met
