"""Who serves does not load what only other commands, or other settings, need: it starts sooner, and holds less."""

from __future__ import annotations

import subprocess
import sys

LATE = (
    "aiohttp",
    "genai_prices",
    "gateway.cli.connections",
    "gateway.cli.litellm.conversion",
    "gateway.cli.trials.probe",
    "gateway.demo",
    "gateway.limits.redis",
    "gateway.store.redis",
    "gateway.websockets.handshakes",
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


def test_what_a_library_loads_for_colours_is_left_out_and_can_be_loaded_by_whoever_wants_it() -> None:
    program = (
        "import sys; from gateway.cli import main; main(['schema'])\n"
        "print('rich' in sys.modules, file=sys.stderr)\n"
        "import rich.console; print(rich.console.Console, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines() == ["False", "<class 'rich.console.Console'>"]


def test_modules_are_loaded_without_a_look_for_garbage_which_every_command_then_has_again() -> None:
    program = (
        "import gc, sys; from gateway.cli import main; at = []\n"
        "class Look:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        at.append((name, gc.isenabled()))\n"
        "sys.meta_path.insert(0, Look())\n"
        "main(['schema'])\n"
        "print([name for name, is_on in at if is_on and name.startswith('gateway.')], gc.isenabled(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[] True"


def test_a_server_that_listens_looks_for_garbage_again() -> None:
    program = (
        "import gc; gc.disable(); from gateway.process import serve; serve.settle_the_collector(); "
        "print(gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n"


def test_a_ledger_in_sqlite_has_no_other_databases_dialect_loaded() -> None:
    program = "import sys, gateway.usage.sql.rows_store, gateway.usage.sql.reader; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    dialects = {name.split(".")[2] for name in done.stdout.split() if name.startswith("sqlalchemy.dialects.")}
    assert dialects == {"sqlite", "_typing"}
