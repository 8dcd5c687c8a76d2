"""Logging by structlog: coloured lines for people, JSON for machines.

Never a secret, never a raw control character.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gateway.observability.ended import AccessLine, with_access_lines
from gateway.observability.line_text import escaped, harmless_json, make_printable, make_short
from gateway.observability.log_stream import LogStream

LogFormat = Literal["console", "json"]

Put = Callable[[bytes], object]

_LEVELS = {"exception": "error", "warn": "warning"}  # the name of a method is not always that of its level


def make_logger(
    log_format: LogFormat,
    *,
    level: int = logging.INFO,
    stream: TextIO | LogStream | None = None,
    first: Sequence[Processor] = (),
) -> FilteringBoundLogger:
    """Return a logger that writes one line an event.

    To `stream` (default: standard error), in one write. `first`: steps that may drop an event or add to it.
    """
    out = stream if stream is not None else sys.stderr
    put = _putter(out)
    processors: list[Any]
    if log_format == "json":
        processors = [_as_json_line]
    else:
        processors = [
            _spread,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.ExceptionRenderer(),
            make_short,
            make_printable,
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                pad_event_to=22,
                sort_keys=False,
                # Its own choice, where Rich is installed, would warn that ours is made: the text is there already.
                exception_formatter=structlog.dev.plain_traceback,
            ),
            _as_bytes,
        ]
    if isinstance(out, LogStream):
        out.loss_line = partial(_loss_line, processors)
    processors = [*first, *processors]
    logger_class: Any = structlog.make_filtering_bound_logger(level)
    if log_format == "json" and level <= logging.INFO:
        logger_class = with_access_lines(logger_class, put, out if isinstance(out, LogStream) else None)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Sink(put),
        processors=processors,
        wrapper_class=logger_class,
        cache_logger_on_first_use=True,
    )
    return logger.bind()


class LibraryLogs(logging.Handler):
    """Brings what libraries log (asyncio, aiohttp, SQLAlchemy) into the gateway's own lines."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


class _Sink:
    """Where structlog hands on finished lines, whatever their level."""

    def __init__(self, put: Put) -> None:
        self.msg = self.debug = self.info = self.warning = self.error = self.critical = put


def _putter(out: TextIO | LogStream) -> Put:
    """What writes one line to `out`, in one write where it can."""
    if isinstance(out, LogStream):
        return out.put

    def put(line: bytes) -> None:
        binary = getattr(out, "buffer", None)
        if binary is None:
            out.write(line.decode())
        else:
            binary.write(line)
            binary.flush()

    return put


def _loss_line(processors: Sequence[Processor], count: int) -> bytes:
    """Return the line that counts lines lost before it."""
    line: Any = {"event": "log lines lost: nobody read them, or there was no space", "lines": count}
    for process in processors:
        line = process(None, "warning", line)
    finished: bytes = line
    return finished


_format_exception = structlog.processors.ExceptionRenderer()


def _as_json_line(logger: WrappedLogger, level: str, event: EventDict) -> bytes:
    """Render a line in one step instead of structlog's four.

    There is a line for each request.
    """
    line = {"timestamp": datetime.now(UTC), "level": _LEVELS.get(level, level), **_spread(logger, level, event)}
    if "exc_info" in event:
        line = dict(_format_exception(logger, level, line))
    line = dict(make_short(logger, level, line))
    try:
        encoded = orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:  # half a surrogate pair: bytes of a header that were no UTF-8
        fields = {key: escaped(str(value)) for key, value in line.items() if value is not None}
        encoded = orjson.dumps(fields)
    return harmless_json(encoded) + b"\n"


def _as_bytes(_: WrappedLogger, __: str, line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _spread(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """An access line's fields as an event's own."""
    line = event["event"]
    return {**event, **line.fields()} if isinstance(line, AccessLine) else event
