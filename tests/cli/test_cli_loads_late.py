"""Who serves does not load what only other commands, or other settings, need: it starts sooner, and holds less."""

from __future__ import annotations

import subprocess
import sys

LATE = (
    "genai_prices",
    "gateway.cli.connections",
    "gateway.cli.litellm.conversion",
    "gateway.cli.trials.probe",
    "gateway.demo",
    "gateway.limits.redis",
    "gateway.store.redis",
    "opentelemetry",
    "redis",
    "sqlalchemy",
)


def test_the_command_line_loads_late_what_few_need() -> None:
    program = "import sys, gateway.cli.entry; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    loaded = done.stdout.split()
    assert "gateway.process.serve" in loaded
    assert [name for name in loaded if any(name == late or name.startswith(f"{late}.") for late in LATE)] == []
