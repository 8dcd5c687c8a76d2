"""Log lines: whole, parseable, and harmless."""

from __future__ import annotations

import io
import logging
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gateway.observability.ended import AccessLine
from gateway.observability.logging import LibraryLogs, make_logger
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


def access_line(path: str = "/v1/models", **fields: Any) -> AccessLine:
    return AccessLine(
        datetime(2026, 1, 2, tzinfo=UTC), "info", "some-id", "127.0.0.1", "GET", path, 200, 1.5, user=42, **fields
    )


def in_json(line: AccessLine) -> dict[str, Any]:
    out = io.TextIOWrapper(io.BytesIO())
    make_logger("json", stream=out).info(line)  # type: ignore[arg-type]
    (written,) = out.buffer.getvalue().splitlines()  # type: ignore[attr-defined]
    event: dict[str, Any] = orjson.loads(written)
    return event


def test_an_access_line_in_json_has_what_is_known_and_nothing_else() -> None:
    assert in_json(access_line(model=None)) == {
        "timestamp": "2026-01-02T00:00:00Z",
        "level": "info",
        "request_id": "some-id",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/v1/models",
        "status": 200,
        "ms": 1.5,
        "user": 42,
        "model": None,
        "event": "request",
    }


def test_an_access_line_of_bytes_that_were_no_text_has_the_same_fields() -> None:
    plain, odd = in_json(access_line()), in_json(access_line(path="/v1/\udcff"))
    assert odd.keys() == plain.keys()
    assert (odd["event"], odd["level"], odd["path"]) == ("request", "info", "/v1/\\udcff")


def test_an_access_line_on_the_console_obeys_nothing_and_leaves_the_unknown_out() -> None:
    out = io.StringIO()
    make_logger("console", stream=out).info(access_line(path="/v1\x1b[31m\nforged line"))  # type: ignore[arg-type]
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "request_id=some-id" in text
    assert "UNSET" not in text


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


def test_what_strangers_send_makes_no_long_lines() -> None:
    """A path, a text of an exception, a list: cut, with their length."""
    assert in_json(access_line(path="/" + "a" * 9_999))["path"] == "/" + "a" * 999 + "… (10000 characters)"
    assert in_json(access_line(path="/" + "a" * 1_000))["path"] == "/" + "a" * 999 + "… (1001 characters)"
    assert in_json(access_line(path="/" + "a" * 999))["path"] == "/" + "a" * 999
    out = io.TextIOWrapper(io.BytesIO())
    log = make_logger("json", stream=out)
    try:
        raise LookupError("x" * 1_000_000)
    except LookupError:
        log.exception("a mistake", text="y" * 6_000, many=["z" * 6_000] * 101, few=("a", 1))
    event = orjson.loads(out.buffer.getvalue())  # type: ignore[attr-defined]
    assert event["text"] == "y" * 5_000 + "… (6000 characters)"
    assert event["many"] == ["z" * 5_000 + "… (6000 characters)"] * 100 + ["… and 1 more"]
    assert event["few"] == ["a", 1]
    assert len(event["exception"]) < 21_000


def test_the_console_bounds_them_as_well() -> None:
    out = io.StringIO()
    log = make_logger("console", stream=out)
    log.info(access_line(path="/" + "a" * 9_999))  # type: ignore[arg-type]
    log.info("said", text="\x9b" * 6_000)
    first, second = out.getvalue().splitlines()
    assert "a" * 999 + "… (10000 characters)" in first
    assert "a" * 1_000 not in first
    assert second.isprintable()
    assert second.count("x9b") == 5_000
    assert "… (6000 characters)" in second


@pytest.mark.parametrize("odd", ["\x7f", "\x9b31m", "\u2028", "\u202e", "\U000e0041", "\x1b[31m", "\n"])
def test_json_lines_hold_no_character_that_a_terminal_obeys(odd: str) -> None:
    """JSON itself escapes those below U+0020 alone; what is read from a line is what was logged."""
    out = io.TextIOWrapper(io.BytesIO())
    log = make_logger("json", stream=out)
    log.warning("said", text=odd)
    log.info(access_line(path="/" + odd))  # type: ignore[arg-type]
    log.info(access_line(path="/é" + odd))  # type: ignore[arg-type]
    lines = out.buffer.getvalue().decode().split("\n")[:-1]  # type: ignore[attr-defined]
    assert all(map(str.isprintable, lines))
    said, plain, accented = map(orjson.loads, lines)
    assert (said["text"], plain["path"], accented["path"]) == (odd, "/" + odd, "/é" + odd)
