"""The command line (contract §10).

Exit codes: 0 done, 1 it failed and wrote why on stderr, 2 wrong usage.

entry.py            the parser, and from errors to words and exit codes
arguments.py        what commands share of their arguments
console.py          the two outputs
serve_command.py    serve, demo
start_commands.py   init, example
check.py            check, schema; trials/: asking each endpoint for its models, alerts test;
                    connections.py: store, ledger and endpoints
explain_command.py  explain
keys_command.py     keys new, list, revoke
usage.py            usage
store/              store copy, export, import
top/                top
litellm/            import litellm
completion/         completion
stored_records.py   the run-time store, as commands beside a running gateway may use it; snapshot.py: the embedded one
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    # Modules are there for good: looking through them for garbage while they load takes a sixth of that time.
    gc.disable()
    try:
        with _unfound("rich"):
            import structlog.dev  # noqa: F401 - for tracebacks in colours that we do not use it would load 50 modules
        from gateway.cli import entry
    finally:
        gc.enable()
    return entry.main(argv)


@contextmanager
def _unfound(name: str) -> Iterator[None]:
    """Hide an optional module while the block imports others."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "there is none"
    try:
        yield
    finally:
        del sys.modules[name]
