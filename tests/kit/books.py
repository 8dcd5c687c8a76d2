"""The ledger as its readers see it, and an upstream that counts by itself.

Tests act for a user that nobody else uses (`fresh_user`), so that each sees its own usage alone.
"""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit.answers import DONE, LAST_CHUNK, STREAM_HEAD, chunk, delta, event, full
from kit.gateway import KEYS, GatewayProcess
from kit.stage import Record, Stage, endpoint, model
from kit.upstream import FakeUpstream, Received
from kit.wire import DEADLINE_SECONDS, Reply, Wire, request_bytes

PRICE = {"input": 2.50, "output": 10.00}
_users = itertools.count(1)


def fresh_user() -> str:
    return f"user-{next(_users)}"


def acting_for(user: str) -> list[tuple[str, str]]:
    """Headers for the panel's key."""
    return [("x-gateway-user", user)]


def priced_models(upstream: FakeUpstream) -> Iterator[Record]:
    """Two models with a price, one without, and forty more for tests that want one of their own."""
    yield model("gpt", [endpoint(upstream, "gpt.a"), endpoint(upstream, "gpt.b", priority=1)], price=PRICE, id=1)
    yield model("free", [endpoint(upstream, "free.a")], id="1x")
    yield model("proud", [endpoint(upstream, "proud")], fallbacks=["free"], price=PRICE)
    for number in range(40):
        yield model(f"m{number}", [endpoint(upstream, f"m{number}")], price=PRICE)


async def post_for(
    stage: Stage, user: str, body: dict[str, Any], route: str = "chat/completions", **headers: str
) -> Reply:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return await stage.post(body, route, key=KEYS["panel"], headers=[*acting_for(user), *named])


async def ask_for(gateway: GatewayProcess, user: str, body: dict[str, Any], *, tag: str | None = None) -> Reply:
    """One chat on behalf of a user; `tag` is the client's own request id, and goes upstream in the body as well."""
    headers = acting_for(user)
    if tag is not None:
        headers.append(("x-client-request-id", tag))
        body = body | {"user": tag}
    async with Wire.open(gateway.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=headers))
        return await wire.reply()


async def usage(gateway: GatewayProcess, user: str, query: str = "", *, of: str = "user") -> dict[str, Any]:
    """A user's usage as the panel is told it, or an organisation's (`of="org"`)."""
    reply = await gateway.get(f"/api/soc/usage/{of}/{user}{query}", key=KEYS["panel"])
    assert reply.status == 200, reply
    return dict(reply.json())


async def until_counted(
    gateway: GatewayProcess, user: str, requests: int, *, of: str = "user", seconds: float = DEADLINE_SECONDS
) -> None:
    """Waits until the usage has so many requests, no more and no less."""

    async def counted() -> bool:
        return bool((await usage(gateway, user, of=of))["totals"]["requests"] == requests)

    await until(counted, seconds)


async def rows(gateway: GatewayProcess, user: str, count: int) -> list[dict[str, str]]:
    """Waits until the export has `count` rows of this user, then gives them all."""
    found: list[dict[str, str]] = []

    async def enough() -> bool:
        reply = await gateway.get(f"/api/soc/usage/user/{user}/export.csv", key=KEYS["panel"])
        if reply.status != 200:
            return False
        found[:] = csv.DictReader(io.StringIO(reply.body.decode(), newline=""), strict=True)
        return len(found) >= count

    await until(enough)
    return found


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = DEADLINE_SECONDS) -> None:
    """Looks again and again: for what another process does and tells nobody. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # no event of ours is set by another process
            await asyncio.sleep(0.03)


def stored(directory: Path) -> list[dict[str, Any]]:
    """Every row in the SQLite file of a gateway whose configuration lies in this directory, read without it.

    None where no gateway has lived long enough to make the table.
    """
    try:
        with closing(sqlite3.connect(f"file:{directory / 'data' / 'usage.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("select * from ai_usage order by time_ms")]
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "unable to open" in str(error):
            return []
        raise


@dataclass(frozen=True)
class Counted:
    """What one answer used, by the upstream's own count."""

    prompt: int
    completion: int
    cached: int
    reasoning: int

    def as_chat(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }

    def as_embeddings(self) -> dict[str, Any]:
        return {"prompt_tokens": self.prompt, "total_tokens": self.prompt}

    def as_response(self) -> dict[str, Any]:
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.prompt + self.completion,
        }


@dataclass
class CountingUpstream:
    """A behaviour that invents a usage for each request, tells it in the answer, and remembers it by the body's `user`.

    Answers leave in pieces that are cut anywhere, `cuts` of them or at each byte where it is None.
    """

    cuts: int | None = 3
    told: dict[str, Counted] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    async def __call__(self, request: Received) -> None:
        asked = request.json()
        dice = self.dice
        is_embedding = request.route == "embeddings"
        counted = Counted(
            prompt=dice.randrange(1, 10**6),
            completion=0 if is_embedding else dice.randrange(10**6),
            cached=0 if is_embedding else dice.randrange(1000),
            reasoning=0 if is_embedding else dice.randrange(1000),
        )
        self.told[asked["user"]] = counted
        for piece in self._pieces(answer_telling(request.route, asked, counted)):
            await request.send(piece)
            await asyncio.sleep(0)

    def _pieces(self, data: bytes) -> Iterable[bytes]:
        places = range(1, len(data)) if self.cuts is None else sorted(self.dice.sample(range(1, len(data)), self.cuts))
        return [data[start:end] for start, end in itertools.pairwise([0, *places, len(data)])]


def answer_telling(route: str, asked: dict[str, Any], counted: Counted) -> bytes:
    """The bytes of an answer in the route's shape with this usage; streamed where it was asked to be."""
    told = counted.as_response() if route == "responses" else counted.as_chat()
    told = counted.as_embeddings() if route == "embeddings" else told
    if not asked.get("stream"):
        return full(200, json.dumps({"object": "x", "model": asked["model"], "usage": told}).encode())
    if route == "responses":
        response = {"id": "r-1", "object": "response", "status": "completed", "usage": told}
        events = [
            event({"type": "response.output_text.delta", "delta": "Hi"}, name="response.output_text.delta"),
            event({"type": "response.completed", "response": response}, name="response.completed"),
        ]
    else:
        assert asked["stream_options"]["include_usage"] is True, "the gateway did not ask for the usage"
        events = [delta("Hel", usage=None), delta("lo", usage=None), event({"choices": [], "usage": told}), DONE]
    return STREAM_HEAD + b"".join(map(chunk, events)) + LAST_CHUNK
