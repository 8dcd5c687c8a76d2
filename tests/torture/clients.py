"""The load: clients of every kind, one request after another, each written into the book."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

from kit import KEYS, Reply, Wire, request_bytes

from torture.book import Book, Ending, Heard
from torture.house import EMBED, ENDLESS, GRANTED, SAFE, TIGHT_MODEL, UPSTREAMS, House

# More than every time-out of an endpoint on a model's and a fallback's way, one after the other.
BOUND_SECONDS = 12.0
MOST_TOKENS = 220  # of one request, prompt and answer
MOST_EVENTS = 40  # an endless stream is left after so many
SLOW_EVENTS = 80  # and a flood by who reads slowly: more than the buffers of a connection hold
SLOW_BUFFER_BYTES = 65_536
MODELS = [*(f"lone-{number}" for number in range(UPSTREAMS)), "round_robin", "weighted", "least_busy", "ranked"]
MODELS += ["falls-back", SAFE]
UPSTREAMS_FAULT = {400, 403}  # relayed
OWN = {"upstream_rate_limited", "upstream_credentials_rejected", "upstream_error", "upstream_timeout"}
BAD = (
    (b'{"model": "safe", "messages"', 400, "invalid_json"),
    (b'{"model": "safe", "model": "safe", "messages": []}', 400, "invalid_json"),
    (b"[" * 5000, 400, "invalid_json"),
    (b'{"model": "safe", "models": ["x"], "messages": []}', 400, "field_not_allowed"),
    (b'{"model": "nobody-has-this", "messages": []}', 404, "model_not_found"),
)


class Left(Exception):
    """The client has gone, as it meant to."""


class Client:
    """One of many; its dice are its own, so that a seed brings back what it asks, if not when."""

    def __init__(self, number: int, house: House, book: Book) -> None:
        self.house = house
        self.book = book
        self.dice = random.Random(f"{house.options.mode}:{house.options.seed}:{number}")
        self._tags = (f"{house.options.mode}-{number}-{each}" for each in itertools.count())
        self._gateway = house.gateways[0]
        self._wire: Wire | None = None
        self._good_at = 0.0  # when the connection was last known to be good
        self._reply: Reply | None = None

    async def run(self, over: asyncio.Event) -> None:
        actions: dict[Callable[[str], Coroutine[Any, Any, bytes]], int] = {
            self.plain: 30,
            self.streamed: 28,
            self.embeddings: 8,
            self.responses: 6,
            self.leaves: 10,
            self.slow: 3,
            self.bad: 4,
            self.stranger: 4,
            self.tight: 4,
            self.granted: 3,
        }
        try:
            while not over.is_set():
                await self.house.up()
                (action,) = self.dice.choices(list(actions), list(actions.values()))
                await self.once(action, next(self._tags))
                await asyncio.sleep(self.dice.random() * self.house.options.pause_seconds)
        finally:
            await self.hang_up()

    async def once(self, action: Callable[[str], Coroutine[Any, Any, bytes]], tag: str) -> None:
        """One request to its end, and what became of it."""
        loop = asyncio.get_running_loop()
        began, ending, body = loop.time(), "whole", b""
        self._reply = None
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                body = await action(tag)
        except Left:
            ending = "left"
        except (ConnectionError, asyncio.IncompleteReadError):
            ending = "lost"
        except (TimeoutError, AssertionError, ValueError) as error:
            ending = "left"
            self.book.wrong(f"{tag} {action.__name__}: {error!r} after {loop.time() - began:.1f} s")
        if ending != "whole" or self._has_close():
            await self.hang_up()
        self._write(tag, action.__name__, ending, body, began)  # type: ignore[arg-type]  # one of `Ending`

    def _write(self, tag: str, action: str, ending: Ending, body: bytes, began: float) -> None:
        ended = asyncio.get_running_loop().time()
        status = self._reply.status if self._reply is not None else 0
        code = _own_code(body) if status >= 400 else None
        broke = status == 200 and b'"stream_incomplete"' in body
        dying = self._gateway.may_be_lost(min(began, self._good_at), ended)
        heard = Heard(tag, action, ending, status, code, broke, began, ended, dying)
        self.book.write(heard)
        self.book.look_at(tag, body)
        if ending == "whole" and not self._is_due(heard):
            self.book.wrong(f"{tag} {action}: {status} {code or body[:200]!r}")
        if ending == "whole":
            self._good_at = ended
        if ending == "lost" and not dying:
            self.book.wrong(f"{tag} {action}: the connection ended without an answer, and nobody was killed")

    def _is_due(self, heard: Heard) -> bool:
        """Whether this is one of the answers that the contract has for such a request."""
        if heard.code == "store_unavailable":
            return heard.status == 503 and self.house.redis is not None  # whether it was away is looked at in the end
        if heard.code == "shutting_down":
            return heard.status == 503 and heard.dying  # by a worker whose supervisor was killed
        if heard.action in ("bad", "stranger"):
            return True  # looked at where it was asked
        if heard.action == "tight" and heard.code == "rate_limit_exceeded":
            return heard.status == 429
        if heard.action == "granted" and heard.code == "model_not_accessible":
            return heard.status == 403
        return heard.status == 200 or heard.code in OWN or (heard.code is None and heard.status in UPSTREAMS_FAULT)

    def _has_close(self) -> bool:
        return self._reply is not None and self._reply.header("connection") == "close"

    # -- what clients do

    async def plain(self, tag: str) -> bytes:
        return await self._whole(tag, self._chat(self.dice.choice(MODELS)))

    async def streamed(self, tag: str) -> bytes:
        return await self._whole(tag, self._chat(self.dice.choice(MODELS), stream=True))

    async def embeddings(self, tag: str) -> bytes:
        return await self._whole(tag, {"model": EMBED, "input": self._words()}, "embeddings")

    async def responses(self, tag: str) -> bytes:
        body = {"model": self.dice.choice(MODELS), "input": self._words(), "stream": self.dice.random() < 0.5}
        return await self._whole(tag, body, "responses")

    async def tight(self, tag: str) -> bytes:
        return await self._whole(tag, self._chat(TIGHT_MODEL))

    async def granted(self, tag: str) -> bytes:
        """By a user whose grants come and go."""
        return await self._whole(tag, self._chat(GRANTED), key=KEYS["stranger"])

    async def leaves(self, tag: str) -> bytes:
        """By FIN or RST, before the answer or within it."""
        wire = await self._asking(tag, self._chat(self.dice.choice(MODELS), stream=self.dice.random() < 0.7))
        if self.dice.random() < 0.5:
            await asyncio.sleep(self.dice.random() * 0.05)
        else:
            self._reply = await wire.head()
            await wire.piece()
        if self.dice.random() < 0.5:
            with contextlib.suppress(OSError):  # closed already, by a gateway that was killed
                wire.reset()
        raise Left

    async def slow(self, tag: str) -> bytes:
        """Of a stream without end: reads a little, stops so that it piles up, reads on, leaves."""
        await self.hang_up()
        self._wire = await self._wire_to_a_gateway(SLOW_BUFFER_BYTES)
        self._good_at = asyncio.get_running_loop().time()
        wire = await self._asking(tag, self._chat(ENDLESS, stream=True))
        self._reply = await wire.head()
        if self._reply.status != 200:
            return (await wire.body()).body
        events = [await wire.event()]
        wire.stop_reading()
        await asyncio.sleep(self.dice.random())
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]  # a stream's transport has it
        while events[-1]:
            if len(events) > SLOW_EVENTS:
                raise Left
            events.append(await wire.event())
        self.book.wrong(f"{tag} slow: a stream without end has ended: {b''.join(events)[-300:]!r}")
        return b"".join(events)

    async def bad(self, tag: str) -> bytes:
        body, status, code = self.dice.choice(BAD)
        return await self._refused(tag, body, KEYS["user"], status, code)

    async def stranger(self, tag: str) -> bytes:
        key = self.dice.choice((KEYS["expired"], "sk-nobody-has-this-key-000000"))
        return await self._refused(tag, json.dumps(self._chat(SAFE)).encode(), key, 401, "invalid_api_key")

    # -- how they do it

    def _chat(self, model: str, **more: Any) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": self._words()}]} | more

    def _words(self) -> str:
        return "word " * self.dice.randrange(1, 200)

    async def _refused(self, tag: str, body: bytes, key: str, status: int, code: str) -> bytes:
        wire = await self._connected()
        headers = [("x-client-request-id", tag)]
        await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=key, headers=headers))
        self._reply = reply = await wire.reply()
        found = _own_code(reply.body)
        if (reply.status, found) != (status, code) and found not in ("store_unavailable", "shutting_down"):
            self.book.wrong(f"{tag}: {reply.status} {found} instead of {status} {code}")
        return reply.body

    async def _whole(
        self, tag: str, fields: dict[str, Any], route: str = "chat/completions", key: str = KEYS["user"]
    ) -> bytes:
        """The whole answer; a stream that does not end is left."""
        wire = await self._asking(tag, fields, route, key)
        self._reply = reply = await wire.head()
        if not (reply.header("content-type") or "").startswith("text/event-stream"):
            return (await wire.body()).body
        events = [await wire.event()]
        while events[-1].endswith(b"\n\n"):  # else it was the last: what follows the last event, or nothing
            if len(events) > MOST_EVENTS:
                raise Left
            events.append(await wire.event())
        return b"".join(events)

    async def _asking(
        self, tag: str, fields: dict[str, Any], route: str = "chat/completions", key: str = KEYS["user"]
    ) -> Wire:
        """A connection on which the request has been sent."""
        wire = await self._connected()
        headers = [("x-client-request-id", tag)]
        await wire.send(request_bytes("POST", f"/v1/{route}", fields | {"user": tag}, key=key, headers=headers))
        return wire

    async def _connected(self) -> Wire:
        """The connection of the last request, while it is good; sometimes a fresh one: workers take turns."""
        if self._wire is not None and self.dice.random() < 0.1:
            await self.hang_up()
        if self._wire is None:
            self._wire = await self._wire_to_a_gateway()
            self._good_at = asyncio.get_running_loop().time()
        return self._wire

    async def _wire_to_a_gateway(self, receive_buffer: int | None = None) -> Wire:
        self._gateway = self.house.any_gateway(self.dice)
        return await Wire.connected(self._gateway.port, receive_buffer=receive_buffer)

    async def hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()


def _own_code(body: bytes) -> str | None:
    """The code of an error of the gateway's; None for what an upstream said."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None
