"""What operators find in the log, and the trace that goes on to the upstream: through real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import CLOSE, DEADLINE_SECONDS, KEYS, UPSTREAM_WORDS, Stage, answer, ask, event, events, raw
from kit.answers import full, upstream_error
from kit.gateway import config
from kit.stage import upstream_key
from kit.wire import Reply, Wire, request_bytes

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


async def line_of(stage: Stage, reply: Reply, event_name: str = "request") -> dict[str, Any]:
    """The log line about this request."""
    ours = reply.header("x-request-id")
    return await stage.gateway.log(lambda line: line["event"] == event_name and line.get("request_id") == ours)


async def test_an_access_line_tells_who_what_where_and_how_long(stage: Stage) -> None:
    fresh = stage.model("pair")
    fresh.a.replies(upstream_error(500))
    reply = await stage.post(fresh.chat())
    line = await line_of(stage, reply)
    assert line["level"] == "info"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (line["client"], line["user"], line["key"]) == ("127.0.0.1", 42, "user")
    assert (line["model"], line["endpoint"], line["attempts"]) == (fresh.name, f"{fresh.name}.b", 2)
    assert (line["outcome"], line["streamed"]) == ("ok", False)
    assert 0 < line["first_byte_ms"] <= line["ms"]
    assert "code" not in line
    assert "trace_id" not in line
    of_this = [each for each in stage.gateway.logs if each.get("request_id") == line["request_id"]]
    assert [each["event"] for each in of_this] == ["attempt failed", "request"]


async def test_an_access_line_has_the_code_of_the_error_that_was_told(stage: Stage) -> None:
    refused = await line_of(stage, await stage.post(ask("m"), key="sk-nobody-has-this-key-at-all"))
    assert (refused["status"], refused["code"]) == (401, "invalid_api_key")
    assert "user" not in refused
    fresh = stage.model()
    fresh.a.replies(upstream_error(503))
    failed = await line_of(stage, await stage.post(fresh.chat()))
    assert (failed["status"], failed["code"], failed["outcome"]) == (502, "upstream_error", "upstream_error")


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_what_a_failing_upstream_says_is_for_operators_and_not_for_users(stage: Stage, status: int) -> None:
    fresh = stage.model()
    fresh.a.replies(upstream_error(status))
    reply = await stage.post(fresh.chat())
    assert reply.status in (429, 502)
    assert UPSTREAM_WORDS.encode() not in reply.body
    failed = await stage.gateway.log(
        lambda line: line["event"].startswith("attempt failed") and line["request_id"] == reply.header("x-request-id")
    )
    assert UPSTREAM_WORDS in failed["upstream_said"]
    assert failed["why"] == f"status {status}"


async def test_an_error_in_an_events_place_is_for_operators_too(stage: Stage) -> None:
    fresh = stage.model()
    fresh.a.replies(events(b": a comment\n\n", event({"error": {"message": UPSTREAM_WORDS, "code": None}})))
    reply = await stage.post(fresh.chat(stream=True))
    assert reply.status == 502
    assert UPSTREAM_WORDS.encode() not in reply.body
    assert UPSTREAM_WORDS in (await line_of(stage, reply, "attempt failed"))["upstream_said"]


async def test_a_refusal_that_is_relayed_is_logged_as_well(stage: Stage) -> None:
    fresh = stage.model()
    fresh.a.replies(upstream_error(422))
    reply = await stage.post(fresh.chat())
    assert reply.status == 422
    line = await line_of(stage, reply, "upstream refuses the request")
    assert (line["status"], line["endpoint"], line["model"]) == (422, f"{fresh.name}.a", fresh.name)
    assert UPSTREAM_WORDS in line["upstream_said"]


async def test_an_answer_that_was_cut_off_is_not_logged(stage: Stage) -> None:
    """It is what somebody was to read, not an error."""
    fresh = stage.model()
    fresh.a.replies(raw(full(200, b'{"secret": "of a user"}')[:-3], CLOSE))
    reply = await stage.post(fresh.chat())
    assert reply.status == 502
    assert "upstream_said" not in await line_of(stage, reply, "attempt failed")
    assert "of a user" not in stage.gateway.output()


async def test_what_is_logged_of_an_upstream_is_bounded_and_without_credentials(stage: Stage) -> None:
    """`Stage` looks at the whole log besides; keys of others are masked by their looks."""
    fresh = stage.model("pair")
    fresh.a.replies(answer(500, complaint(fresh.a.name)))
    fresh.b.replies(answer(500, gzip.compress(complaint(fresh.b.name)), [("content-encoding", "gzip")]))
    reply = await stage.post(fresh.chat())
    assert reply.status == 502
    ours_of = reply.header("x-request-id")
    await stage.gateway.log(lambda line: line["event"] == "request" and line["request_id"] == ours_of)  # the last of it
    lines = [line for line in stage.gateway.logs if line["event"] == "attempt failed" and line["request_id"] == ours_of]
    assert len(lines) == 2
    for line in lines:
        assert line["upstream_said"].startswith('{"error": {"message": "no such key: ***; ***; ***"')
        assert len(line["upstream_said"]) < 4_100


def complaint(endpoint: str) -> bytes:
    """An error that names the endpoint's credential, and others."""
    message = f"no such key: {upstream_key(endpoint)}; sk-proj-abcdefghijklmnopqrstuvwxyz; Bearer abcdefghijklmnop"
    return json.dumps({"error": {"message": message, "code": "x" * 50_000}}).encode()


async def test_a_trace_goes_on_to_every_upstream_that_is_asked_and_into_the_log(stage: Stage) -> None:
    fresh = stage.model("pair")
    fresh.a.replies(upstream_error(500))
    headers = [("Traceparent", PARENT), ("tracestate", "rojo=00f067aa0ba902b7"), ("tracestate", "congo=t61rcWkgMzE")]
    reply = await stage.post(fresh.chat(), headers=headers)
    for received in (await fresh.a.request(), await fresh.b.request()):
        brought = [field for field in received.headers if field[0].startswith("trace")]
        assert brought == [("traceparent", PARENT), ("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")]
        assert received.json()["messages"], "the body is where it belongs"
    assert (await line_of(stage, reply))["trace_id"] == TRACE_ID


async def test_a_trace_does_not_stay_with_an_endpoint(stage: Stage) -> None:
    """Heads of requests are made once for each route: what is one request's own is not in them."""
    fresh = stage.model()
    await stage.post(fresh.chat(), headers=[("traceparent", PARENT)])
    await stage.post(fresh.chat())
    assert (await fresh.a.request(1)).header("traceparent") == PARENT
    assert (await fresh.a.request(2)).header("traceparent") is None


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", PARENT.upper()), ("tracestate", "a=1")],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("traceparent", f"00-{'0' * 32}-00f067aa0ba902b7-01")],
        [("tracestate", "a=1")],
        [("baggage", "userId=alice"), ("b3", "0")],
    ],
    ids=["upper case", "twice", "zeros", "no parent", "other headers"],
)
async def test_what_is_no_valid_trace_stays_here(stage: Stage, headers: list[tuple[str, str]]) -> None:
    fresh = stage.model()
    reply = await stage.post(fresh.chat(), headers=headers)
    assert reply.status == 200
    received = await fresh.a.request()
    names = {name for name, _ in received.headers}
    assert not names & {"traceparent", "tracestate", "baggage", "b3"}
    assert "trace_id" not in await line_of(stage, reply)


@asynccontextmanager
async def serving(directory: Path, *options: str) -> AsyncIterator[tuple[int, asyncio.StreamReader]]:
    """A gateway with these options: its port, and its log from the line behind `listening`."""
    file = directory / "gateway.yaml"
    file.write_text(json.dumps(config([])))
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(file), *options]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while b"listening" not in (line := await process.stderr.readline()):
                assert line, "it ended"
            found = re.search(rb'port(?:=|":)(\d+)', line)
            assert found is not None
            yield int(found[1]), process.stderr
            process.terminate()
            await process.stderr.read()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def visit(port: int, target: str) -> int:
    async with Wire.open(port) as wire:
        await wire.send(request_bytes("GET", target, key=KEYS["user"]))
        return (await wire.reply()).status


async def test_the_console_format_is_for_people(tmp_path: Path) -> None:
    """`--log-format console`: one readable line a request."""
    async with serving(tmp_path, "--log-format", "console") as (port, log):
        assert await visit(port, "/no%1b[31mwhere") == 404
        access = (await log.readline()).decode()
    assert "[info     ] request" in access
    assert "path=/no%1b[31mwhere status=404" in access
    assert "code=not_found" in access
    assert "\x1b" not in access


async def test_without_a_terminal_lines_are_json(tmp_path: Path) -> None:
    async with serving(tmp_path) as (port, log):
        assert await visit(port, "/healthz") == 200
        line = json.loads(await log.readline())
    assert (line["event"], line["level"], line["path"], line["status"]) == ("request", "info", "/healthz", 200)


async def test_the_format_is_one_of_those_that_there_are(tmp_path: Path) -> None:
    """Wrong usage: exit code 2, and the choices are named."""
    command = [sys.executable, "-m", "gateway", "serve", "--log-format", "xml"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, cwd=tmp_path)
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, said = await process.communicate()
    assert process.returncode == 2
    assert b"'console', 'json'" in said
