"""Logging by structlog: coloured lines for people, JSON for machines; never a secret, never a raw control character."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec
import orjson
import structlog
from msgspec import UNSET, UnsetType
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from gateway.types import Id, Secret

LogFormat = Literal["console", "json"]

_LEVELS = {"exception": "error", "warn": "warning"}  # the name of a method is not always that of its level


def make_logger(
    log_format: LogFormat, *, level: int = logging.INFO, stream: TextIO | None = None
) -> FilteringBoundLogger:
    """A logger that writes to `stream` (default: standard error), one line and one write an event."""
    out = stream if stream is not None else sys.stderr
    processors: list[Any]
    sink: structlog.BytesLogger | structlog.WriteLogger
    if log_format == "json":
        processors = [_as_json_line]
        sink = structlog.BytesLogger(out.buffer)
    else:
        processors = [
            _spread,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.ExceptionRenderer(),
            _make_printable,
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                pad_event_to=22,
                sort_keys=False,
                # Its own choice, where Rich is installed, would warn that ours is made: the text is there already.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
        sink = structlog.WriteLogger(out)
    wrapper = structlog.make_filtering_bound_logger(level)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        sink,
        processors=processors,
        wrapper_class=_with_quick_info(wrapper, out) if log_format == "json" and level <= logging.INFO else wrapper,
        cache_logger_on_first_use=True,
    )
    return logger.bind()


class AccessLine(msgspec.Struct, gc=False):
    """What is told of each request, as the event of `log.info`; what is UNSET is left out.

    There is one for each request: a struct is written as JSON in a single step.
    """

    timestamp: datetime
    level: str
    request_id: str
    client: str
    method: str
    path: str
    status: int
    ms: float
    client_request_id: str | UnsetType = UNSET
    user: Id | UnsetType = UNSET
    key: Id | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    streamed: bool | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    endpoint: Id | UnsetType | None = UNSET
    code: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET
    first_byte_ms: float | UnsetType = UNSET
    event: str = "request"

    def fields(self) -> EventDict:
        """The same as structlog's steps take it; timestamp and level they add themselves."""
        told = {name: getattr(self, name) for name in self.__struct_fields__[2:]}
        return {name: value for name, value in told.items() if value is not UNSET}


class LibraryLogs(logging.Handler):
    """Brings what libraries log (asyncio, aiohttp, SQLAlchemy) into the gateway's own lines."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _with_quick_info(wrapper: Any, out: TextIO) -> Any:
    """The same, with a short way for what is said of each request: there, structlog's steps would be a tenth of it."""
    write, flush = out.buffer.write, out.buffer.flush

    class Quick(wrapper):  # type: ignore[misc]  # structlog makes its class at run time
        def info(self, event: Any, *args: Any, **fields: Any) -> Any:
            if type(event) is not AccessLine:
                return super().info(event, *args, **fields)
            try:
                line = _encode(event)
            except UnicodeEncodeError:  # bytes of a head that were no UTF-8
                return super().info(event)
            write(line + b"\n")
            flush()
            return None

    return Quick


_encode = msgspec.json.Encoder().encode
_format_exception = structlog.processors.ExceptionRenderer()


def _as_json_line(logger: WrappedLogger, level: str, event: EventDict) -> bytes:
    """One step for what structlog does in four: there is a line for each request."""
    line = {"timestamp": datetime.now(UTC), "level": _LEVELS.get(level, level), **_spread(logger, level, event)}
    if "exc_info" in event:
        line = dict(_format_exception(logger, level, line))
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:  # half a surrogate pair: bytes of a header that were no UTF-8
        told = {key: _escaped(str(value)) for key, value in line.items() if value is not None}
        return orjson.dumps(told)


def _spread(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """An access line's fields as an event's own."""
    line = event["event"]
    return {**event, **line.fields()} if isinstance(line, AccessLine) else event


def _make_printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escapes control characters, which the console renderer would print as they are (and a terminal would obey)."""
    return {key: _escaped_lines(value) if key == "exception" else _escaped(value) for key, value in event.items()}


def _escaped_lines(traceback: str) -> str:
    """A traceback is ours and needs its lines; what an exception's text quotes may be anybody's."""
    return "\n".join(str(_escaped(line)) for line in traceback.split("\n"))


def _escaped(value: object) -> object:
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, str) and not value.isprintable():
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)
    return value
