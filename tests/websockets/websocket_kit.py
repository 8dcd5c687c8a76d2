"""A gateway between a client's socket and two upstreams: one that speaks WebSocket, one that streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from kit import DEADLINE_SECONDS, KEYS, FakeUpstream, GatewayProcess, as_openai, config, event
from kit.books import stored, until
from kit.sockets import USAGE, Json, SocketUpstream
from kit.stage import endpoint, model

SECRET = "sk-upstream-secret"


class Client:
    """A client's socket, by aiohttp."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **fields: Any) -> None:
        await self.socket.send_str(json.dumps(fields))

    async def create(self, model: str = "ws", **fields: Any) -> None:
        await self.say(**({"type": "response.create", "model": model, "input": "Hi"} | fields))

    async def message(self) -> aiohttp.WSMessage:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.socket.receive()

    async def event(self) -> Json:
        message = await self.message()
        assert message.type is aiohttp.WSMsgType.TEXT, (message.type, self.socket.close_code)
        return dict(json.loads(message.data))

    async def until(self, *kinds: str) -> list[Json]:
        """The events up to the first of these kinds."""
        found = [await self.event()]
        while found[-1]["type"] not in kinds:
            found.append(await self.event())
        return found

    async def end(self) -> list[Json]:
        """The events up to a response's end, or an error."""
        return await self.until("response.completed", "response.failed", "response.incomplete", "error")

    async def refusal(self) -> Json:
        found = await self.event()
        assert found["type"] == "error", found
        return found

    async def closed(self) -> int | None:
        """Waits until the gateway has closed; its code."""
        while (await self.message()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            pass
        return self.socket.close_code


class Stand:
    """`ws`: WebSocket; `pair`: two such; `apart`: another account; `plain`: streams alone; `tight`: one a minute.

    `narrow`: one at a time.
    """

    def __init__(self, upstream: SocketUpstream, plain: FakeUpstream, gateway: GatewayProcess, directory: Path) -> None:
        self.upstream = upstream
        self.plain = plain.endpoint("plain")
        self.gateway = gateway
        self.directory = directory

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, *, may_end: bool = False, **sections: Any) -> AsyncIterator[Stand]:
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(SocketUpstream.start())
            plain = await FakeUpstream.start(as_openai())
            stack.push_async_callback(plain.close)
            settings = config(models(upstream, plain), **sections)
            gateway = await stack.enter_async_context(GatewayProcess.start(settings, directory))
            yield cls(upstream, plain, gateway, directory)
            assert may_end or gateway.is_running, gateway.output()
            await gateway.stop()
            output = gateway.output()
            assert SECRET not in output, "an upstream's credential is in the log"
            assert not [name for name, key in KEYS.items() if key in output], "a client's key is in the log"
            assert not gateway.noise, "\n".join(gateway.noise[:40])
            assert [line for line in gateway.logs if "exception" in line] == []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    @asynccontextmanager
    async def client(
        self, path: str = "/v1/responses", *, key: str | None = KEYS["user"], **more: Any
    ) -> AsyncIterator[Client]:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        headers |= more.pop("headers", {})
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self.url + path, headers=headers, max_msg_size=0, **more) as socket,
        ):
            yield Client(socket)

    async def rows(self, count: int) -> list[dict[str, Any]]:
        """Waits until the ledger has so many rows, no more and no less."""

        async def all_there() -> bool:
            return len(stored(self.directory)) >= count

        await until(all_there)
        found = stored(self.directory)
        assert len(found) == count, found
        return found


def models(upstream: SocketUpstream, plain: FakeUpstream) -> Iterable[Json]:
    yield model("ws", [upstream.endpoint()])
    yield model("same", [upstream.endpoint(id="same")])
    yield model("pair", [upstream.endpoint(id="a"), upstream.endpoint(id="b", priority=1)])
    yield model("apart", [upstream.endpoint(api_key="sk-upstream-secret-apart")])
    yield model("hasty", [upstream.endpoint(timeouts={"first_byte": 0.4, "idle": 0.4})])
    yield model("narrow", [upstream.endpoint(max_in_flight=1)])
    yield model("tight", [upstream.endpoint()], limits={"rpm": 1})
    yield model("granted", [upstream.endpoint()], **{"global": False})
    yield model("plain", [endpoint(plain, "plain")])
    yield model("tight-plain", [endpoint(plain, "plain")], limits={"rpm": 1})


def streamed(
    *items: Json, number: int = 1, usage: Json | None = USAGE, kind: str = "response.completed"
) -> list[bytes]:
    """The events of a streamed response."""
    about = {"id": f"resp_{number}", "object": "response", "output": []}
    told = [{"type": "response.created", "sequence_number": 0, "response": about | {"status": "in_progress"}}]
    for place, item in enumerate(items):
        told.append({"type": "response.output_item.done", "sequence_number": 1, "output_index": place, "item": item})
    status = kind.removeprefix("response.")
    told.append({"type": kind, "sequence_number": 2, "response": about | {"status": status, "usage": usage}})
    told[-1]["response"]["output"] = list(items)
    return [event(each, name=str(each["type"])) for each in told]


def said(text: str, number: int = 1) -> Json:
    """An output item of text."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": content}
