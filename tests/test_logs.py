"""Log lines: whole, parseable, and harmless."""

from __future__ import annotations

import io
import logging

import orjson
import pytest

from gateway.logs import LibraryLogs, make_logger
from gateway.types import Secret


def test_json_lines_parse_and_hide_secrets() -> None:
    out = io.TextIOWrapper(io.BytesIO())
    make_logger("json", stream=out).info("request", key=Secret("sk-very-secret"), path="/v1\nnext", user=42)
    (line,) = out.buffer.getvalue().splitlines()  # type: ignore[attr-defined]
    event = orjson.loads(line)
    assert (event["event"], event["level"], event["user"], event["key"]) == ("request", "info", 42, "***")
    assert event["path"] == "/v1\nnext"
    assert event["timestamp"].endswith("Z")


def test_the_console_shows_control_characters_instead_of_obeying_them() -> None:
    out = io.StringIO()
    make_logger("console", stream=out).info("request", path="/v1\x1b[31m\r\nforged line", key=Secret("sk-very-secret"))
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    assert "very" not in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_traceback_keeps_its_lines(stream: type[io.StringIO]) -> None:
    """On a terminal too, and where Rich is installed, which structlog would rather use there."""
    out = stream()
    log = make_logger("console", stream=out)
    try:
        raise LookupError("nowhere")
    except LookupError:
        log.exception("a mistake")
    assert "\nLookupError: nowhere" in out.getvalue()


def test_what_libraries_log_becomes_a_line_of_ours() -> None:
    out = io.TextIOWrapper(io.BytesIO())
    library = logging.Logger("a.library")
    library.addHandler(LibraryLogs(make_logger("json", stream=out)))
    library.info("chatter")
    library.error("it broke: %s", "badly")
    (line,) = out.buffer.getvalue().splitlines()  # type: ignore[attr-defined]
    event = orjson.loads(line)
    assert (event["event"], event["level"], event["logger"]) == ("it broke: badly", "error", "a.library")
