"""From a picture to lines of text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.cli.top.picture import EndpointSeen, LimitSeen, Picture, Seen
from gateway.observability.live_requests import LiveRequest
from gateway.types import Id

BOLD, DIM, RED, YELLOW, GREEN, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[32m", ""
_RESET = "\x1b[0m"
_BAR_CELLS = 20
_GOOD, _BAD = ("ok", "available"), ("upstream_error", "interrupted", "refused", "unready")
_MOST_QUEUES = 5  # that are named
_LEAST_ROWS = 3  # of a table, however low the screen is


class Column(NamedTuple):
    """A table's column: `least` cells, and a share of what is left."""

    name: str
    least: int
    share: int = 0
    is_number: bool = False


class Row(NamedTuple):
    cells: Sequence[str]
    style: str = PLAIN


_POOL = (
    Column("MODEL", 12, 2),
    Column("ENDPOINT", 10, 1),
    Column("STATE", 28),
    Column("IN FLIGHT", 9, is_number=True),
    Column("FAILED", 6, is_number=True),
    Column("URL", 10, 2),
)
_REQUESTS = (
    Column("MODEL", 12, 2),
    Column("USER", 8, 1),
    Column("KEY", 8, 1),
    Column("ENDPOINT", 10, 1),
    Column("OUTCOME", 18),
    Column("TRIES", 5, is_number=True),
    Column("TOKENS", 8, is_number=True),
    Column("FIRST", 8, is_number=True),
    Column("TIME", 8, is_number=True),
)
_USAGE = (
    Column("USER TODAY", 10, 1),
    Column("REQUESTS", 9, is_number=True),
    Column("TOKENS", 10, is_number=True),
    Column("COST", 12, is_number=True),
    Column("TIGHTEST LIMIT", 44, 2),
)


def frame(picture: Picture, width: int, height: int | None, *, colours: bool, hint: str = "") -> list[str]:
    """Draw the picture in `width` cells.

    In at most `height` lines; None: as many as it takes.
    """
    painter = _Painter(width, colours=colours)
    head = list(_head(picture, painter, hint))
    pool, usage, requests = _pool_rows(picture), _usage_rows(picture), _request_rows(picture)
    rooms = _rooms((len(pool), len(usage), len(requests)), None if height is None else height - len(head) - 6)
    tables = zip((_POOL, _USAGE, _REQUESTS), (pool, usage, requests), rooms, strict=True)
    lines = head
    for columns, rows, room in tables:
        lines += ["", *painter.table(columns, rows, room)]
    return lines if height is None else lines[:height]


def _rooms(wanted: tuple[int, int, int], height: int | None) -> tuple[int, int, int]:
    """Share the lines out: requests have what the other two leave."""
    pool, usage, requests = wanted
    if height is None:
        return wanted
    pool_room = min(pool, max(_LEAST_ROWS, height // 3))
    usage_room = min(usage, max(_LEAST_ROWS, height // 5))
    return pool_room, usage_room, min(requests, max(0, height - pool_room - usage_room))


def _head(picture: Picture, painter: _Painter, hint: str) -> Iterator[str]:
    ended, failed = picture.rates()
    running = picture.running.values()
    waiting = sum(seen.request.queued for seen in running)
    style = GREEN if picture.status in _GOOD else RED
    yield painter.line((("ecli-gateway ", BOLD), (f"{picture.url}  ", PLAIN), (picture.status, style)), hint)
    present = f"{len(running)} running, {waiting} of them waiting for an endpoint"
    past = f"; seen in the last minute: {ended} ended, {failed} of them badly" if ended else ""
    yield painter.line(((present + past, PLAIN),))
    if waiting:
        queues = Counter(seen.request.model or "" for seen in running if seen.request.queued)
        told = ", ".join(f"{model} {count}" for model, count in queues.most_common(_MOST_QUEUES))
        yield painter.line(((f"in queues: {told}{', …' if len(queues) > _MOST_QUEUES else ''}", YELLOW),))
    for note in picture.notes.values():
        yield painter.line(((note, YELLOW),))


def _pool_rows(picture: Picture) -> list[Row]:
    passed = picture.clock() - picture.cooling_since
    rows = [_endpoint_row(endpoint, passed) for endpoint in picture.endpoints]
    return sorted(rows, key=lambda row: row.style == PLAIN)  # what is unwell first


def _endpoint_row(endpoint: EndpointSeen, passed: float) -> Row:
    left = max(0.0, endpoint.secondsLeft - passed)
    state, style = endpoint.state, PLAIN
    if endpoint.state == "cooling":
        state, style = f"cooling {left:.0f} s ({endpoint.cause or ''})", YELLOW
    elif endpoint.state != "available":
        style = YELLOW
    cells = (endpoint.modelName, str(endpoint.endpointId), state)
    return Row((*cells, str(endpoint.inFlight), str(endpoint.failures or ""), endpoint.url), style)


def _usage_rows(picture: Picture) -> list[Row]:
    rows = []
    for used in picture.busiest:
        tightest = next((limit for limit in picture.limits if limit.user == used.user), None)
        cost = f"{used.cost:.4f} {picture.currency or ''}".strip() if used.cost else ""
        limit, style = ("", PLAIN) if tightest is None else _limit(tightest)
        rows.append(Row((str(used.user), _brief(used.requests), _brief(used.tokens), cost, limit), style))
    return rows


def _limit(limit: LimitSeen) -> tuple[str, str]:
    filled = min(_BAR_CELLS, round(_BAR_CELLS * limit.share))
    bar = "#" * filled + "." * (_BAR_CELLS - filled)
    style = RED if limit.share >= 1 else YELLOW if limit.share >= 0.8 else PLAIN
    return f"{bar} {limit.share:4.0%} of {_brief(limit.most)} {limit.limit} ({limit.window})", style


def _request_rows(picture: Picture) -> list[Row]:
    now = picture.clock()
    return [_request_row(seen, now) for seen in (*reversed(picture.running.values()), *reversed(picture.ended))]


def _request_row(seen: Seen, now: float) -> Row:
    request = seen.request
    outcome, style = _outcome(request)
    tokens = (request.prompt_tokens or 0) + (request.completion_tokens or 0)
    first = request.first_byte_ms
    cells = (
        request.model or request.asked or "",
        _name(request.user),
        _name(request.key),
        _name(request.endpoint),
        outcome,
        str(request.attempts or ""),
        _brief(tokens) if tokens else "",
        "" if first is None else _seconds(first / 1000),
        _seconds(now - seen.began if request.outcome == "running" else request.milliseconds / 1000),
    )
    return Row(cells, style)


def _outcome(request: LiveRequest) -> tuple[str, str]:
    """Say how a request is doing, and its style."""
    if request.outcome == "running":
        return ("waiting", YELLOW) if request.queued else ("running", PLAIN)
    style = RED if request.outcome in _BAD else DIM
    return (request.outcome if request.code is None else f"{request.outcome} {request.status}"), style


def _name(name: Id | None) -> str:
    return "" if name is None else str(name)


class _Painter:
    """Text in cells of a terminal."""

    def __init__(self, width: int, *, colours: bool) -> None:
        self._width = width
        self._colours = colours

    def line(self, parts: Sequence[tuple[str, str]], hint: str = "") -> str:
        left, painted = self._width, ""
        for text, style in parts:
            cut = fitted(text, left)
            left -= cells(cut)
            painted += self._painted(cut, style)
        if hint and left > len(hint):
            painted += " " * (left - len(hint)) + self._painted(hint, DIM)
        return painted

    def table(self, columns: Sequence[Column], rows: Sequence[Row], room: int) -> Iterator[str]:
        widths = self._widths(columns)
        names = [column.name for column in columns]
        yield self._painted(self._row(columns, widths, names), BOLD)
        shown = rows if len(rows) <= room else rows[: max(0, room - 1)]
        for row in shown:
            yield self._painted(self._row(columns, widths, row.cells), row.style)
        if room and len(shown) < len(rows):
            yield self._painted(fitted(f"… {len(rows) - len(shown)} more", self._width), DIM)

    def _widths(self, columns: Sequence[Column]) -> list[int]:
        left = self._width - sum(column.least for column in columns) - len(columns) + 1
        shares = sum(column.share for column in columns)
        return [column.least + max(0, left) * column.share // max(1, shares) for column in columns]

    def _row(self, columns: Sequence[Column], widths: Sequence[int], texts: Sequence[str]) -> str:
        pieces = []
        for column, width, text in zip(columns, widths, texts, strict=True):
            cut = fitted(text, width)
            space = " " * (width - cells(cut))
            pieces.append(space + cut if column.is_number else cut + space)
        return fitted(" ".join(pieces).rstrip(), self._width)

    def _painted(self, text: str, style: str) -> str:
        return f"{style}{text}{_RESET}" if self._colours and style and text else text


def fitted(text: str, width: int) -> str:
    """Cut a text to so many cells, without control characters."""
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if cells(safe) <= width:
        return safe
    cut, taken = "", 0
    for character in safe:
        taken += cells(character)
        if taken > width - 1:
            break
        cut += character
    return cut + "…" if width > 0 else ""


def cells(text: str) -> int:
    """Count the columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _brief(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if unit == 'k' else size):.1f}{unit}"
    return f"{number:g}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
