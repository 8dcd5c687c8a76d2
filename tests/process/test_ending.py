"""A process whose work is done ends, whatever a thread still waits for."""

from __future__ import annotations

import signal
from pathlib import Path

from kit import FakeUpstream, as_openai, config
from kit.gateway import GatewayProcess
from kit.stage import endpoint, model

STUCK = """
import sys, threading
from gateway.cli import main

threading.Thread(target=threading.Event().wait).start()
sys.exit(main())
"""


async def test_a_thread_that_never_returns_does_not_keep_the_process(tmp_path: Path) -> None:
    """Ten seconds after everything was closed it says where its threads stand, and ends."""
    program = tmp_path / "stuck.py"
    program.write_text(STUCK)
    upstream = await FakeUpstream.start(as_openai())
    try:
        settings = config([model("m", [endpoint(upstream, "m")])])
        async with GatewayProcess.start(settings, tmp_path, [str(program)]) as gateway:
            gateway.signal(signal.SIGTERM)
            assert await gateway.wait() == 1
        assert any(line.get("event") == "stopped" for line in gateway.logs)
        assert any("Thread" in line for line in gateway.noise)
    finally:
        await upstream.close()
