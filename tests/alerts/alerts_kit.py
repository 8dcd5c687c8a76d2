"""A receiver of alerts on a real socket, and gateways whose totals are small.

What it is sent is verified by the reference implementation of Standard Webhooks.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kit import (
    KEYS,
    Behaviour,
    FakeUpstream,
    GatewayProcess,
    Received,
    Wire,
    answer,
    as_openai,
    ask,
    config,
    request_bytes,
)
from kit.stage import endpoint, model
from kit.wire import DEADLINE_SECONDS, Reply
from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
Event = dict[str, Any]


class Hook:
    """A receiver. `events`: what it was sent, verified, with the `webhook-id` under `id`."""

    def __init__(self, upstream: FakeUpstream, name: str = "hook", secret: str = SECRET) -> None:
        self.endpoint = upstream.endpoint(name)
        self.endpoint.always(answer(204, b""))
        self.secret = secret

    @property
    def url(self) -> str:
        return self.endpoint.url

    @property
    def requests(self) -> list[Received]:
        return self.endpoint.requests

    def entry(self, **more: Any) -> dict[str, Any]:
        """Its entry in `alerts`."""
        return {"url": self.url, "secret": self.secret} | more

    def replies(self, *behaviours: Behaviour) -> None:
        self.endpoint.replies(*behaviours)

    def always(self, behaviour: Behaviour) -> None:
        self.endpoint.always(behaviour)

    def events(self) -> list[Event]:
        return [verified(each, self.secret) for each in self.requests]

    async def sent(self, count: int) -> list[Event]:
        """Waits for so many tries; all of them."""
        await self.endpoint.request(count)
        return self.events()

    async def until(self, wanted: Callable[[list[Event]], bool]) -> list[Event]:
        """Waits until what was sent is as wanted."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not wanted(self.events()):
                await self.endpoint.request(len(self.requests) + 1)
        return self.events()


def verified(request: Received, secret: str) -> Event:
    """An alert as its receiver understands it; its signature must hold."""
    assert request.method == "POST"
    assert request.header("content-type") == "application/json"
    headers = {name: value for name, value in request.headers if name.startswith("webhook-")}
    assert sorted(headers) == ["webhook-id", "webhook-signature", "webhook-timestamp"]
    body = Webhook(secret).verify(request.body, headers)
    assert sorted(body) == ["data", "timestamp", "type"]
    return {"id": headers["webhook-id"], **body}


def told(request: Received, secret: str) -> Event:
    """As `verified`, of any day: the reference refuses what is older than minutes."""
    headers = dict(request.headers)
    signed_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    signature = Webhook(secret).sign(headers["webhook-id"], signed_at, request.body.decode())
    assert headers["webhook-signature"] == signature
    return {"id": headers["webhook-id"], **json.loads(request.body)}


def shares(events: Iterable[Event], **about: Any) -> list[int]:
    """The percents of thresholds told of, of totals with these facts."""
    return [
        each["data"]["share"]
        for each in events
        if each["type"] == "limit.threshold" and about.items() <= each["data"].items()
    ]


def using(tokens: int) -> Behaviour:
    """A chat completion that used so many tokens."""
    usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return answer(200, {"id": "c-1", "object": "chat.completion", "choices": [choice], "usage": usage})


class Place:
    """A directory with a gateway.yaml: a model `m`, its upstream, and a receiver. Gateways begin and end in it."""

    def __init__(self, directory: Path, upstream: FakeUpstream, **sections: Any) -> None:
        self.directory = directory
        self.upstream = upstream
        self.hook = Hook(upstream)
        self.model = upstream.endpoint("up")
        self.sections = sections
        self.limits: dict[str, Any] = {"tokens": 1000, "period": "month"}
        self.written: dict[str, Any] | None = None  # the whole configuration, where a test needs another
        self.alerts: list[dict[str, Any]] = [self.hook.entry(events=["limits"])]

    def settings(self) -> dict[str, Any]:
        record = model("m", [endpoint(self.upstream, "up")], limits=self.limits)
        return config([record], alerts=self.alerts, **self.sections)

    def gateway(self) -> Any:
        return GatewayProcess.start(self.written or self.settings(), self.directory)

    async def use(self, gateway: GatewayProcess, tokens: int, *, key: str = KEYS["user"], model: str = "m") -> Reply:
        """One request that comes to so many tokens, whole."""
        self.model.always(using(tokens))
        async with Wire.open(gateway.port) as wire:
            await wire.send(request_bytes("POST", "/v1/chat/completions", ask(model, max_tokens=1), key=key))
            return await wire.reply()


@asynccontextmanager
async def placed(directory: Path, **sections: Any) -> AsyncIterator[Place]:
    upstream = await FakeUpstream.start(as_openai())
    try:
        yield Place(directory, upstream, **sections)
    finally:
        await upstream.close()
    assert upstream.faults == []
