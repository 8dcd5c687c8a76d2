"""A real nginx in front of the gateway, as operators have it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.processes import free_port
from kit.wire import DEADLINE_SECONDS

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{gateway_port};
            {settings}
        }}
    }}
}}
"""


@asynccontextmanager
async def nginx(
    gateway_port: int,
    directory: Path,
    settings: str = "",
    *,
    servers: Callable[[int], str] | None = None,
    port: int = 0,
) -> AsyncIterator[int]:
    """Runs nginx in front of the gateway with `settings` in its location; gives its port. Skips where it is missing.

    `servers`: what stands in its `http` instead, by the port.
    """
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
    if binary is None:
        pytest.skip("NGINX IS NOT INSTALLED: what the gateway promises behind nginx was NOT tested (apt install nginx)")
    port = port or free_port()
    file = directory / "nginx.conf"
    text = CONFIGURATION.format(directory=directory, port=port, gateway_port=gateway_port, settings=settings)
    if servers is not None:
        text = text[: text.index("    server {")] + servers(port) + "\n}\n"
    file.write_text(text)
    process = await asyncio.create_subprocess_exec(
        binary, "-p", str(directory), "-c", str(file), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _until_it_listens(port, process, directory)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _until_it_listens(port: int, process: asyncio.subprocess.Process, directory: Path) -> None:
    """Polls, because nginx tells nobody when it is ready."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while process.returncode is None:
            with contextlib.suppress(ConnectionError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.02)
    log = directory / "error.log"
    raise AssertionError(f"nginx ended: {log.read_text() if log.exists() else 'no log'}")
