"""Serve a ledger with the pages, to look at: python -m bench.usage_page --url sqlite:////path/usage.db [--port 8099]

For a ledger that `python -m bench.reports --rows 10_000_000 --sums --url URL` filled: how soon is its usage page shown?
A gateway of its own until it is interrupted, on loopback; printed are the page's address and a key that may see
everybody's usage. Older tables are brought up to date: give it a copy.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from gateway.types import Secret

KEY = "sk-desk-0123456789abcdefghijk"


def serve(url: Secret, port: int) -> None:
    key = {
        "id": "desk",
        "user": 42,
        "hash": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}",
        "scopes": ["ai:use", "usage:read"],
    }
    with tempfile.TemporaryDirectory() as directory:
        settings = {
            "server": {"port": port},
            "store": {"path": f"{directory}/store.db"},
            "usage": {"url": url.reveal(), "journal": f"{directory}/journal"},
            "keys": [key],
        }
        config = Path(directory, "gateway.yaml")
        config.write_bytes(msgspec.json.encode(settings))
        print(f"http://127.0.0.1:{port}/dashboard/usage with the key {KEY}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            subprocess.run([sys.executable, "-m", "gateway", "serve", "-c", str(config)], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=Secret, required=True)
    parser.add_argument("--port", type=int, default=8099)
    arguments = parser.parse_args()
    serve(arguments.url, arguments.port)
