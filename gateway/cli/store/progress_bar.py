"""How far something has come, on a terminal."""

from __future__ import annotations

import sys
import time

_CELLS = 40
_SECONDS = 0.1  # between two drawings


class ProgressBar:
    """A progress bar on standard error, where that is a terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._drawn_at = 0.0
        self._step = ""

    def __call__(self, step: str, done: int, of: int | None) -> None:
        now = time.monotonic()
        is_due = now - self._drawn_at >= _SECONDS or step != self._step or done == of
        if self._is_shown and is_due:
            self._drawn_at, self._step = now, step
            self._draw(f"{bar_text(done, of)} {step}")

    def end(self) -> None:
        """Leave an empty line where the bar was."""
        if self._is_shown and self._step:
            self._draw("")
            self._step = ""

    def _draw(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def bar_text(done: int, of: int | None) -> str:
    if of is None:
        return f"{done:,}"
    done = min(done, of)
    filled = _CELLS if of == 0 else _CELLS * done // of
    return f"[{'#' * filled}{' ' * (_CELLS - filled)}] {done:,} of {of:,}"
