"""What operators may keep out of the log, and what is said once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from kit import DEADLINE_SECONDS, KEYS, UPSTREAM_WORDS, FakeUpstream, Wire, ask, event, events, request_bytes
from kit.answers import upstream_error
from kit.gateway import GatewayProcess, config
from kit.stage import endpoint, model


async def test_texts_of_upstreams_stay_out_of_the_log_where_it_is_wanted_so(tmp_path: Path) -> None:
    """Of answers that fail, that are relayed, and in an event's place; who failed, and how, is told all the same."""
    upstream = await FakeUpstream.start(upstream_error(422))
    in_an_event = events(event({"error": {"message": UPSTREAM_WORDS, "code": None}}))
    answers = {"relayed": upstream_error(422), "failing": upstream_error(500), "event": in_an_event}
    for name, answered in answers.items():
        upstream.endpoint(name).replies(answered)
    try:
        settings = config(
            [model(name, [endpoint(upstream, name)]) for name in answers], server={"log_upstream_texts": False}
        )
        async with GatewayProcess.start(settings, tmp_path) as gateway:
            ids = {name: await post(gateway, name, stream=name == "event") for name in answers}
            for name, told in ids.items():
                await gateway.log(lambda line, told=told: line["event"] == "request" and line["request_id"] == told)
                lines = [line for line in gateway.logs if line.get("request_id") == told]
                assert [line["endpoint"] for line in lines] == [name, name], "who it was is told all the same"
            assert UPSTREAM_WORDS not in gateway.output()
            assert "upstream_said" not in gateway.output()
            settings["server"]["log_upstream_texts"] = True
            (tmp_path / "gateway.yaml").write_text(json.dumps(settings))
            await gateway.log(lambda line: line["event"] == "configuration reloaded")
            await post(gateway, "relayed")
            await gateway.log(lambda line: UPSTREAM_WORDS in line.get("upstream_said", ""))
    finally:
        await upstream.close()


async def test_a_log_file_that_is_copied_and_emptied_begins_anew(tmp_path: Path) -> None:
    """As logrotate's `copytruncate` does it, and as the page about operations says: appended to, it leaves no hole."""
    file, log = tmp_path / "gateway.yaml", tmp_path / "gateway.log"
    file.write_text(json.dumps(config([])))
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(file), "--log-format", "json"]
    with log.open("ab") as appended:
        process = await asyncio.create_subprocess_exec(*command, stderr=appended)
    try:
        line = await written(log, "listening")
        shutil.copy(log, tmp_path / "gateway.log.1")
        os.truncate(log, 0)
        async with Wire.open(line["port"]) as wire:
            await wire.send(request_bytes("GET", "/healthz"))
            await wire.reply()
        assert (await written(log, "request"))["path"] == "/healthz"
        assert log.read_bytes().startswith(b"{")
    finally:
        process.terminate()
        await process.wait()


async def written(log: Path, event_name: str) -> dict[str, Any]:
    """The first whole line of this event."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            for line in whole_lines(log):
                if line["event"] == event_name:
                    return line
            await asyncio.sleep(0.05)


def whole_lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


async def post(gateway: GatewayProcess, name: str, *, stream: bool = False) -> str:
    """The request's id."""
    async with Wire.open(gateway.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask(name, stream=stream), key=KEYS["user"]))
        found = (await wire.reply()).header("x-request-id")
    assert found is not None
    return found
