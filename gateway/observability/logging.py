"""Logging by structlog: coloured lines for people, JSON for machines.

Never a secret, never a raw control character.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TextIO

import msgspec
import orjson
import structlog
from msgspec import UNSET, UnsetType
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gateway.observability.calls import Call
from gateway.observability.log_stream import LogStream
from gateway.types import Id, Secret

LogFormat = Literal["console", "json"]

Put = Callable[[bytes], object]

# Of what strangers may send, in characters: a line stays small enough to be written in one piece.
LONGEST_PATH = 1_000
LONGEST_TEXT = 5_000  # what upstreams said is cut to 4,000 before
LONGEST_TRACEBACK = 20_000
MOST_ITEMS = 100

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
            _make_short,
            _make_printable,
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
    wrapper = structlog.make_filtering_bound_logger(level)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Sink(put),
        processors=processors,
        wrapper_class=_with_quick_info(wrapper, put) if log_format == "json" and level <= logging.INFO else wrapper,
        cache_logger_on_first_use=True,
    )
    return logger.bind()


class AccessLine(msgspec.Struct, gc=False):
    """A request's access line, the event of `log.info`.

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
    queued_ms: float | UnsetType = UNSET
    event: str = "request"

    def fields(self) -> EventDict:
        """Return the fields for structlog's steps, timestamp and level aside.

        They add these themselves.
        """
        fields = {name: getattr(self, name) for name in self.__struct_fields__[2:]}
        return {name: value for name, value in fields.items() if value is not UNSET}


def access_line(call: Call, now: float) -> AccessLine:
    """Return the access line of a call that has ended at `now`."""
    began, caller, trace, first_byte = call.began, call.caller, call.trace, call.first_byte
    line = AccessLine(
        datetime.now(UTC),
        "info",
        call.request_id,
        call.peer,
        call.method,
        call.path,
        call.status,
        round((now - began) * 1000, 2),
        call.client_request_id or UNSET,
        UNSET if caller is None else caller.user.id,
        UNSET if caller is None else caller.key.id,
        code=call.code or UNSET,
        trace_id=UNSET if trace is None else trace.trace_id,
        first_byte_ms=UNSET if first_byte is None else round((first_byte - began) * 1000, 2),
        queued_ms=round(call.queued_seconds * 1000, 2) if call.queued_seconds else UNSET,
    )
    if call.outcome is not None:  # it was for an upstream
        served = call.served or call.granted_model
        line.outcome, line.attempts, line.streamed = call.outcome, call.attempts, call.streamed
        line.model = None if served is None else served.name
        line.endpoint = None if call.endpoint is None else call.endpoint.id
    return line


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


def _with_quick_info(wrapper: Any, put: Put) -> Any:
    """Return a logger with a short way for access lines.

    There, structlog's steps would be a tenth of a request.
    """

    class Quick(wrapper):  # type: ignore[misc]  # structlog makes its class at run time
        def info(self, event: Any, *args: Any, **fields: Any) -> Any:
            if type(event) is not AccessLine:
                return super().info(event, *args, **fields)
            if len(event.path) > LONGEST_PATH:
                event.path = _cut(event.path, LONGEST_PATH)
            try:
                line = _encode(event)
            except UnicodeEncodeError:  # bytes of a head that were no UTF-8
                return super().info(event)
            put((line if line.isascii() and b"\x7f" not in line else _harmless(line)) + b"\n")
            return None

    return Quick


_encode = msgspec.json.Encoder().encode
_format_exception = structlog.processors.ExceptionRenderer()


def _as_json_line(logger: WrappedLogger, level: str, event: EventDict) -> bytes:
    """Render a line in one step instead of structlog's four.

    There is a line for each request.
    """
    line = {"timestamp": datetime.now(UTC), "level": _LEVELS.get(level, level), **_spread(logger, level, event)}
    if "exc_info" in event:
        line = dict(_format_exception(logger, level, line))
    line = dict(_make_short(logger, level, line))
    try:
        encoded = orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:  # half a surrogate pair: bytes of a header that were no UTF-8
        fields = {key: _escaped(str(value)) for key, value in line.items() if value is not None}
        encoded = orjson.dumps(fields)
    return _harmless(encoded) + b"\n"


def _harmless(line: bytes) -> bytes:
    """Escape control characters from U+007F on, which terminals obey.

    JSON leaves them alone.
    """
    return "".join(c if c.isprintable() else _json_escaped(c) for c in line.decode()).encode()


def _json_escaped(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def _as_bytes(_: WrappedLogger, __: str, line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _make_short(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Bounds what anybody's words can add to the log."""
    longest = {"path": LONGEST_PATH, "exception": LONGEST_TRACEBACK}
    return {key: _shortened(value, longest.get(key, LONGEST_TEXT)) for key, value in event.items()}


def _shortened(value: object, longest: int) -> object:
    if isinstance(value, str):
        return value if len(value) <= longest else _cut(value, longest)
    if isinstance(value, list | tuple):
        more = [f"… and {len(value) - MOST_ITEMS} more"] if len(value) > MOST_ITEMS else []
        return [*(_shortened(item, longest) for item in value[:MOST_ITEMS]), *more]
    return value


def _cut(text: str, longest: int) -> str:
    return f"{text[:longest]}… ({len(text)} characters)"


def _spread(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """An access line's fields as an event's own."""
    line = event["event"]
    return {**event, **line.fields()} if isinstance(line, AccessLine) else event


def _make_printable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape control characters for the console renderer.

    It would print them as they are (and a terminal would obey).
    """
    return {key: _escaped_lines(value) if key == "exception" else _escaped(value) for key, value in event.items()}


def _escaped_lines(traceback: str) -> str:
    """Escape a traceback's lines, and keep them apart.

    A traceback is ours and needs its lines; what an exception's text quotes may be anybody's.
    """
    return "\n".join(str(_escaped(line)) for line in traceback.split("\n"))


def _escaped(value: object) -> object:
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, str) and not value.isprintable():
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)
    return value
