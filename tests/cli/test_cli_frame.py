"""What `gateway top` draws: pure, from a picture to lines."""

from __future__ import annotations

from typing import Any

from gateway.cli.top.frame import cells, fitted, frame
from gateway.cli.top.picture import EndpointSeen, LimitSeen, Picture, UsageSeen


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def request(number: int, **more: Any) -> dict[str, Any]:
    about = {"id": f"r{number}", "outcome": "running", "began": 0.0, "milliseconds": 250.0, "firstByteMs": None}
    whose = {
        "user": 42,
        "key": "laptop",
        "model": "gpt",
        "modelId": 1,
        "asked": "gpt",
        "endpoint": "a",
        "route": "/x",
    }
    ends = {"streamed": False, "attempts": 1, "status": 0, "code": None, "promptTokens": None, "completionTokens": None}
    return {"type": "request"} | about | whose | ends | more


def endpoint(name: str, state: str = "available", **more: Any) -> EndpointSeen:
    known: dict[str, Any] = {"cause": None, "secondsLeft": 0.0, "failures": 0, "inFlight": 0}
    return EndpointSeen(**{"modelName": "gpt", "endpointId": name, "url": "http://u/v1", "state": state} | known | more)


def picture() -> tuple[Picture, Clock]:
    clock = Clock()
    return Picture("http://gw", clock), clock


def drawn(one: Picture, width: int = 120, height: int | None = None) -> list[str]:
    return frame(one, width, height, colours=False)


def test_a_request_is_shown_as_it_runs_and_as_it_ended() -> None:
    one, clock = picture()
    one.take(request(1))
    one.take(request(2, queued=True, endpoint=None, attempts=0))
    clock.now += 2
    lines = drawn(one)
    assert "2 running, 1 of them waiting for an endpoint" in lines
    assert "in queues: gpt 1" in lines
    [running] = [line for line in lines if " running " in line and "laptop" in line]
    assert running.endswith("2.25 s")
    assert len([line for line in lines if " waiting " in line and "laptop" in line]) == 1
    ending = {"outcome": "upstream_error", "status": 502, "code": "upstream_error", "promptTokens": 9_000}
    one.take(request(1, **ending, completionTokens=4_000, milliseconds=3000.0))
    [ended] = [line for line in drawn(one) if "upstream_error 502" in line or "upstream_erro…" in line]
    assert "13.0k" in ended
    assert ended.endswith("3.00 s")
    assert "seen in the last minute: 1 ended, 1 of them badly" in "\n".join(drawn(one))
    clock.now += 61
    assert "last minute" not in "\n".join(drawn(one))


def test_what_ran_before_the_connection_broke_is_told_anew() -> None:
    one, _ = picture()
    one.take(request(1))
    one.take({"type": "begun"})
    assert one.running == {}


def test_a_cooldown_counts_down_and_stands_first() -> None:
    one, clock = picture()
    one.endpoints = [endpoint("well"), endpoint("tired", "cooling", cause="rate_limited", secondsLeft=40.0)]
    one.cooling_since = clock.now
    clock.now += 15
    rows = [line for line in drawn(one) if "http://u/v1" in line]
    assert "tired" in rows[0]
    assert "cooling 25 s (rate_limited)" in rows[0]
    assert "well" in rows[1]


def test_the_tightest_limit_of_the_busiest_is_drawn() -> None:
    one, _ = picture()
    one.currency = "USD"
    one.busiest = [UsageSeen(42, 7, 1_500_000, 1.25)]
    one.limits = [
        LimitSeen(42, "gpt", "tokens", 2_000_000, 1_500_000, "day", None),
        LimitSeen(42, "gpt", "rpm", 60, 1, "minute", None),
    ]
    [row] = [line for line in drawn(one) if "1.5M" in line]
    assert "1.2500 USD" in row
    assert "###############.....  75% of 2M tokens (day)" in row.replace("2.0M", "2M")


def test_lines_fit_whatever_the_size_of_the_screen() -> None:
    one, _ = picture()
    one.endpoints = [endpoint(f"endpoint-{n}") for n in range(50)]
    for number in range(300):
        one.take(request(number, model="模型" * 20, user="ü" * 50))
    for width in (1, 20, 80, 200):
        for height in (1, 5, 24, 60):
            lines = drawn(one, width, height)
            assert len(lines) <= height
            assert max(map(cells, lines)) <= width
    assert len([line for line in drawn(one, 120, 30) if line.startswith("… ")]) == 2


def test_names_that_others_chose_cannot_speak_to_the_terminal() -> None:
    """A model's name as a client sent it may hold escape codes."""
    one, _ = picture()
    one.take(request(1, model=None, asked="\x1b[2Jevil\r\n"))
    text = "\n".join(drawn(one))
    assert "\x1b" not in text
    assert "\r" not in text
    assert "evil" in text


def test_texts_are_cut_by_cells() -> None:
    assert fitted("abcdef", 4) == "abc…"
    assert fitted("模型模型", 5) == "模型…"
    assert (cells("模型"), cells("ab"), cells("e\u0301")) == (4, 2, 1)
    assert fitted("abc", 0) == ""
