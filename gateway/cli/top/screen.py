"""A terminal as a screen, left as it was found."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence

# The other screen, so that what was on the terminal comes back; and no cursor.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[0m\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Screen:
    """The terminal behind standard output, keys from standard input."""

    def __init__(self) -> None:
        self._out = sys.stdout.fileno()
        self._in = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._in) if os.isatty(self._in) else None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        found = shutil.get_terminal_size()
        return found.columns, found.lines

    @contextlib.contextmanager
    def held(
        self, on_key: Callable[[str], None], on_end: Callable[[], None], redraw: Callable[[], None]
    ) -> Iterator[None]:
        """Take the terminal over; however the block ends, it is given back.

        `on_end`: at Ctrl-C and whatever else would end the process. `redraw`: it has another size, or was away.
        """
        loop = asyncio.get_running_loop()

        def suspended() -> None:  # Ctrl-Z: the shell finds its terminal as it was
            self._leave()
            os.kill(os.getpid(), signal.SIGSTOP)

        def resumed() -> None:
            self._enter()
            redraw()

        handlers: dict[signal.Signals, Callable[[], None]] = dict.fromkeys(_ENDINGS, on_end)
        handlers |= {signal.SIGWINCH: redraw, signal.SIGTSTP: suspended, signal.SIGCONT: resumed}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        if self._before is not None:
            loop.add_reader(self._in, self._read, on_key, on_end)
        try:
            self._enter()
            yield
        finally:
            loop.remove_reader(self._in)
            self._leave()
            for number in handlers:
                loop.remove_signal_handler(number)

    def draw(self, lines: Sequence[str]) -> None:
        """Put these lines on it, over what was there."""
        whole = "\r\n".join(line + _REST_OF_LINE for line in lines)
        self._write(_HOME + whole + _REST_OF_SCREEN)

    def _enter(self) -> None:
        if self._before is not None:
            tty.setcbreak(self._in)
        self._write(_ENTER)

    def _leave(self) -> None:
        self._write(_LEAVE)
        if self._before is not None:
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)

    def _read(self, on_key: Callable[[str], None], on_end: Callable[[], None]) -> None:
        data = os.read(self._in, 64)
        if not data:  # the terminal has gone
            on_end()
        for key in data.decode("utf-8", "replace"):
            on_key(key)

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._out, data) :]

    def __repr__(self) -> str:
        return f"<Screen of {self.size[0]} by {self.size[1]}>"
