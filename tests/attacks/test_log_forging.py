"""What strangers write into the log: never a line of its own, never a control character that a terminal would obey."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kit import DEADLINE_SECONDS, KEYS, FakeUpstream, Reply, Stage, Wire, answer, as_openai, ask, config, request_bytes
from kit.answers import full, raw
from kit.stage import endpoint, model

CHAT = "/v1/chat/completions"
# Sequences that clear a screen, set a title, move up a line; C1 controls, and Unicode that turns text around.
EVIL_TEXT = 'evil\r\n{"level":"info","event":"forged"}\n\x1b[2J\x1b]0;pwned\x07\x9b31m\x00\x08\u2028\u202eevil\x7f'
FORGED = "forged"


def evil_requests(model_name: str) -> dict[str, bytes]:
    """Every place of a request from which something comes into the log, or might."""
    key = KEYS["user"]
    good = ask(model_name)

    def with_header(name: bytes, value: bytes, secret: str = key) -> bytes:
        request = request_bytes("POST", CHAT, good, key=secret)
        return request.replace(b"\r\n\r\n", b"\r\n" + name + b": " + value + b"\r\n\r\n", 1)

    c1 = "evil\u009b31m\u2028\u202e".encode()
    return {
        "model": request_bytes("POST", CHAT, ask(EVIL_TEXT), key=key),
        "modelId": request_bytes("POST", CHAT, ask(modelId=EVIL_TEXT), key=key),
        "a key of the body": request_bytes("POST", CHAT, good | {EVIL_TEXT: 1}, key=key),
        "a key of the body twice": request_bytes("POST", CHAT, b'{"\\u001b[2J\\n":1,"\\u001b[2J\\n":2}', key=key),
        "path": request_bytes("GET", "/v1/%1b[2J%0d%0aforged%00%9b", key=key),
        "model in the path": request_bytes("GET", "/v1/models/%1b[2J%0d%0aforged", key=key),
        "model of the proxy": request_bytes("POST", "/api/ai/proxy/%1b%0aforged/chat/completions", good, key=key),
        "query": request_bytes("GET", "/v1/models?x=%1b[2J%0d%0aforged", key=key),
        "method": request_bytes("FORGED", CHAT, key=key),
        "user-agent": with_header(b"user-agent", c1),
        "x-request-id": with_header(b"x-request-id", c1),
        "x-request-id in Latin-1": with_header(b"x-request-id", b"\x9b31m"),
        "x-client-request-id": with_header(b"x-client-request-id", b"\x85\x9b" + c1),
        "x-gateway-user": with_header(b"x-gateway-user", c1, KEYS["panel"]),
        "x-gateway-user in Latin-1": with_header(b"x-gateway-user", b"\xff\xfe\x9b", KEYS["panel"]),
        "x-gateway-user with a tab": with_header(b"x-gateway-user", b"a\tb", KEYS["panel"]),
        "a key that nobody has": with_header(b"x-api-key", c1, "sk-nobody").replace(b"authorization", b"x-other"),
        "host": request_bytes("POST", CHAT, good, key=key).replace(b"gateway.test", c1),
    }


async def answered(port: int, request: bytes) -> Reply:
    async with Wire.open(port) as wire:
        await wire.send(request)
        return await wire.reply()


@pytest.mark.parametrize("where", evil_requests(""))
async def test_every_json_line_is_one_whole_object(stage: Stage, where: str) -> None:
    """Whatever was sent: an answer that is no mistake of ours, and a log of JSON lines, none of them forged."""
    before = len(stage.gateway.logs)
    reply = await answered(stage.port, evil_requests(stage.model().name)[where])
    assert reply.status < 500, reply
    assert (await stage.get("/healthz")).status == 200
    if (request_id := reply.header("x-request-id")) is not None:
        line = await stage.gateway.log(lambda each: each.get("request_id") == request_id)
        assert line["status"] == reply.status
    assert stage.gateway.noise == []
    assert [line for line in stage.gateway.logs[before:] if line.get("event") == FORGED] == []


EVIL_ANSWERS = {
    "error text": full(500, {"error": {"message": EVIL_TEXT, "type": EVIL_TEXT, "code": EVIL_TEXT}}),
    "reason phrase": b"HTTP/1.1 500 \x9bevil\x85\r\ncontent-length: 0\r\n\r\n",
    "no HTTP": b"\x1b[2J\r\n" + EVIL_TEXT.encode(),
    "a header's name": b"HTTP/1.1 200 OK\r\n\x1b[2J: 1\r\ncontent-length: 0\r\n\r\n",
    "a header's value": b"HTTP/1.1 429 OK\r\nretry-after: \x9b\xff\r\ncontent-length: 0\r\n\r\n",
    "a redirect": full(302, b"", [("location", "http://\x9b\xff/")]),
    "a first event": full(200, b'data: {"error":"\\u001b[2J"}\n\n', content_type="text/event-stream"),
}


@pytest.mark.parametrize("sent", EVIL_ANSWERS.values(), ids=EVIL_ANSWERS)
async def test_an_upstreams_words_forge_no_line(stage: Stage, sent: bytes) -> None:
    """What it said when it failed is told to operators, within the line of the request and nowhere else."""
    model = stage.model()
    model.a.always(raw(sent))
    before = len(stage.gateway.logs)
    assert (await stage.post(model.chat())).status >= 400
    await stage.gateway.log(lambda line: line.get("event") == "request" and line.get("model") == model.name)
    assert FORGED not in [line["event"] for line in stage.gateway.logs]
    holding = [line for line in stage.gateway.logs[before:] if "pwned" in json.dumps(line)]
    assert {line.get("model") for line in holding} <= {model.name}
    assert stage.gateway.noise == []


# --- the console


class Console:
    """A gateway that logs for people. `written` is everything it wrote so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.written = b""
        self.port = 0

    async def until(self, pattern: bytes) -> re.Match[bytes]:
        """Reads on until the pattern is there."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (found := re.search(pattern, self.written)) is None:
                piece = await self.process.stdout.read(65536)
                assert piece, f"the gateway ended: {self.written!r}"
                self.written += piece
        return found


@contextlib.asynccontextmanager
async def console_gateway(settings: dict[str, Any], directory: Path) -> AsyncIterator[Console]:
    """`gateway serve --log-format console`, killed at the end."""
    file = directory / "gateway.yaml"
    file.write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "-c", str(file), "--log-format", "console"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(os.environ),
    )
    console = Console(process)
    try:
        console.port = int((await console.until(rb"listening .* port=(\d+)"))[1])
        yield console
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_console_shows_what_was_sent_and_obeys_none_of_it(tmp_path: Path) -> None:
    """A line each, of printable characters, for every evil request and every evil answer."""
    upstream = await FakeUpstream.start(as_openai())
    try:
        records = [model("m", [endpoint(upstream, "m")])]
        records += [model(f"evil-{n}", [endpoint(upstream, f"evil-{n}")]) for n in range(len(EVIL_ANSWERS))]
        async with console_gateway(config(records), tmp_path) as console:
            requests = list(evil_requests("m").values())
            for number, sent in enumerate(EVIL_ANSWERS.values()):
                upstream.endpoint(f"evil-{number}").always(raw(sent))
                requests.append(request_bytes("POST", CHAT, ask(f"evil-{number}"), key=KEYS["user"]))
            upstream.endpoint("m").always(answer(200, b"{}"))
            for request in requests:
                await answered(console.port, request)
            await answered(console.port, request_bytes("GET", "/the-last-one"))
            await console.until(rb"path=/the-last-one.*\n")
            text = console.written.decode()
    finally:
        await upstream.close()
    lines = text.split("\n")
    assert lines.pop() == ""
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines if not re.match(r"\d\d:\d\d:\d\d \[\w+ *\] \w", line)] == []
    assert not [line for line in lines if line.startswith("forged")]
