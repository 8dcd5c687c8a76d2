"""An upstream that plays a provider's batches and background responses, and a gateway in front of it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import KEYS, FakeUpstream, GatewayProcess
from kit.answers import answer, event, events
from kit.forms import Field, fields_of, form_request
from kit.gateway import config
from kit.stage import Record, endpoint, model
from kit.upstream import Behaviour, Received
from kit.wire import Reply, Wire, request_bytes
from openai import AsyncOpenAI

Json = dict[str, Any]
PRICE = {"input": 2, "output": 10, "batch": 0.5}
CHAT = "/v1/chat/completions"


class Provider:
    """A behaviour for many endpoints: each keeps its own files, batches and responses. Nothing ends by itself."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = defaultdict(dict)  # contents, by endpoint and id
        self.things: dict[str, dict[str, Json]] = defaultdict(dict)  # batches and responses
        self.asked: list[tuple[str, str, str]] = []  # endpoint, method, route
        self._made = 0

    async def __call__(self, request: Received) -> None:
        self.asked.append((request.endpoint, request.method, request.route))
        await self._behaviour(request)(request)

    def polls(self, thing: str) -> int:
        return sum(1 for _, method, route in self.asked if method == "GET" and route.endswith(thing))

    def ends(self, thing: str, status: str = "completed", output: Iterable[Json] | None = None, **more: Any) -> None:
        """A batch or response is over; `output`: what its batch has written."""
        for at, things in self.things.items():
            if thing in things:
                things[thing] |= {"status": status} | more
                if output is not None:
                    made = self._name("file-out", at)
                    self.files[at][made] = b"".join(json.dumps(each).encode() + b"\n" for each in output)
                    things[thing]["output_file_id"] = made

    def loses(self, thing: str) -> None:
        for things in self.things.values():
            things.pop(thing, None)

    def _behaviour(self, request: Received) -> Behaviour:
        at, route = request.endpoint, request.route
        files, things = self.files[at], self.things[at]
        if (request.method, route) == ("POST", "files"):
            fields = {field.name: field.content for field in fields_of(request)}
            made = self._name("file", at)
            files[made] = fields["file"]
            return answer(200, _file(made, len(fields["file"]), fields["purpose"].decode()))
        if request.method == "POST" and route in ("batches", "responses"):
            return self._make(at, route, request.json())
        named = route.split("/")[1] if "/" in route else ""
        if named in files:
            if request.method == "DELETE":
                return answer(200, {"id": named, "object": "file", "deleted": True})
            if route.endswith("/content"):
                return answer(200, files[named], content_type="application/octet-stream")
            return answer(200, _file(named, len(files[named]), "batch"))
        if named not in things:
            return _error(404, f"nothing here: {request.method} {route}")
        if request.method == "DELETE":
            del things[named]
            return answer(200, {"id": named, "object": "response.deleted", "deleted": True})
        if route.endswith("/cancel"):
            things[named]["status"] = "cancelling" if named.startswith("batch") else "cancelled"
        if "stream=true" in request.target:
            return events(event({"type": "response.completed", "sequence_number": 3, "response": things[named]}))
        return answer(200, things[named])

    def _make(self, at: str, route: str, fields: Json) -> Behaviour:
        if route == "batches":
            if fields["input_file_id"] not in self.files[at]:
                return _error(400, "no such file here")
            made = {"id": self._name("batch", at), "object": "batch", "status": "validating", "created_at": 5}
            made |= {"endpoint": fields["endpoint"], "input_file_id": fields["input_file_id"], "output_file_id": None}
        else:
            status = "queued" if fields.get("background") else "completed"
            made = {"id": self._name("resp", at), "object": "response", "status": status, "created_at": 5, "output": []}
            made |= {"model": fields["model"], "background": fields.get("background", False), "usage": None}
        self.things[at][made["id"]] = made
        if fields.get("stream"):
            created = {"type": "response.created", "sequence_number": 0, "response": made}
            progress = {"type": "response.in_progress", "sequence_number": 1, "response": made}
            delta = {"type": "response.output_text.delta", "sequence_number": 2, "delta": "Hi"}
            return events(*(event(each) for each in (created, progress, delta)), asyncio.Event())  # it goes on
        return answer(200, made)

    def _name(self, prefix: str, at: str) -> str:
        self._made += 1
        return f"{prefix}_{at}_{self._made}"


def _file(made: str, size: int, purpose: str) -> Json:
    about = {"id": made, "object": "file", "bytes": size, "created_at": 5, "filename": "in.jsonl"}
    return about | {"purpose": purpose, "status": "processed"}


def _error(status: int, message: str) -> Behaviour:
    error = {"message": message, "type": "upstream", "param": None, "code": f"upstream_{status}"}
    return answer(status, {"error": error})


def line(number: int = 0, *, url: str = CHAT, **body: Any) -> Json:
    chat = {"messages": [{"role": "user", "content": "Hello there, how are you?"}], "max_tokens": 100}
    return {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": chat | body}


def jsonl(*lines: Json | bytes) -> bytes:
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines)


@dataclass
class Batching:
    """A gateway, and the provider behind it."""

    gateway: GatewayProcess
    upstream: FakeUpstream
    provider: Provider
    again: Callable[[bool], Awaitable[GatewayProcess]]

    async def restart(self, *, kill: bool = False) -> None:
        """Another process on the same directory; what runs goes on at the provider."""
        self.gateway = await self.again(kill)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}/v1"

    def client(self, key: str = "user") -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.url, api_key=KEYS[key], max_retries=0)

    async def ask(
        self, method: str, path: str, body: Json | bytes | None = None, *, key: str = "user", user: str | None = None
    ) -> Reply:
        """One request below /v1; `user`: whom the panel's key acts for."""
        async with Wire.open(self.gateway.port) as wire:
            headers = [("connection", "close")] + ([("x-gateway-user", user)] if user is not None else [])
            used = KEYS["panel" if user is not None else key]
            await wire.send(request_bytes(method, f"/v1{path}", body, key=used, headers=headers))
            return await wire.reply()

    async def upload(
        self, content: bytes, *, purpose: str = "batch", key: str = "user", user: str | None = None
    ) -> Reply:
        form = [Field("purpose", purpose.encode()), Field("file", content, "in.jsonl", "application/jsonl")]
        async with Wire.open(self.gateway.port) as wire:
            headers = [("connection", "close")] + ([("x-gateway-user", user)] if user is not None else [])
            used = KEYS["panel" if user is not None else key]
            await wire.send(form_request("/v1/files", form, key=used, headers=headers))
            return await wire.reply()

    async def begun(self, *lines: Json, user: str | None = None) -> Reply:
        """A batch of these lines, begun."""
        file = (await self.upload(jsonl(*lines), user=user)).json()["id"]
        asked = {"input_file_id": file, "endpoint": lines[0]["url"], "completion_window": "24h"}
        return await self.ask("POST", "/batches", asked, user=user)


def models(upstream: FakeUpstream) -> list[Record]:
    """`pair` has two accounts that call it differently, `second` the first of them, `closed` is nobody's."""
    first = endpoint(upstream, "a")
    return [
        model("pair", [first, endpoint(upstream, "b", provider_model="b-calls-it")], price=PRICE),
        model("second", [first], price=PRICE),
        model("closed", [first], **{"global": False}),
        model("poor", [endpoint(upstream, "d", objects=False)]),
    ]


@asynccontextmanager
async def batching(directory: Path, **sections: Any) -> AsyncIterator[Batching]:
    provider = Provider()
    upstream = await FakeUpstream.start(provider)
    try:
        settings = config(sections.pop("models", models)(upstream), **sections)
        async with AsyncExitStack() as running:
            started: list[GatewayProcess] = []

            async def again(kill: bool) -> GatewayProcess:
                if started:
                    if kill:
                        started[-1].process.kill()
                        await started[-1].process.wait()
                    await running.pop_all().aclose()
                started.append(await running.enter_async_context(GatewayProcess.start(settings, directory)))
                return started[-1]

            shop = Batching(await again(False), upstream, provider, again)
            yield shop
            assert shop.gateway.is_running, shop.gateway.output()
        for gateway in started:
            assert [each for each in gateway.logs if "exception" in each] == []
            assert not gateway.noise, gateway.noise
    finally:
        await upstream.close()
    assert upstream.faults == []
