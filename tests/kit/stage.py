"""One gateway and one fake upstream for many tests, and still nothing shared between the tests.

What tests would disturb each other with is the state of a pool: cooldowns, failures, rotation. So the stage's
configuration has many models of each kind, and a test takes one that nobody has used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit.answers import as_openai
from kit.gateway import KEYS, GatewayProcess, config
from kit.upstream import FakeEndpoint, FakeUpstream
from kit.wire import Reply, Wire, request_bytes

Record = dict[str, Any]  # a piece of gateway.yaml

SLASHED = "meta-llama/Llama-3.1-8B"


@dataclass(frozen=True)
class Kind:
    """`spare` models of `endpoints` each. Where they are `ranked`, it is certain which is asked first."""

    spare: int
    endpoints: int
    ranked: bool = False
    timeouts: Record = field(default_factory=dict)


KINDS = {
    "single": Kind(400, 1),
    "pair": Kind(300, 2, ranked=True),
    "ring": Kind(30, 3),
    "hasty": Kind(60, 2, ranked=True, timeouts={"connect": 1, "first_byte": 0.3, "idle": 0.3, "total": 5}),
}


class FreshModel:
    """A model that no other test has used, and its endpoints `a`, `b`, `c` as far as it has them."""

    def __init__(self, name: str, endpoints: list[FakeEndpoint]) -> None:
        self.name = name
        self.endpoints = endpoints

    @property
    def a(self) -> FakeEndpoint:
        return self.endpoints[0]

    @property
    def b(self) -> FakeEndpoint:
        return self.endpoints[1]

    @property
    def provider_name(self) -> str:
        """What upstreams know the model as."""
        return f"provider/{self.name}"

    def asked(self) -> list[int]:
        """How many requests each endpoint has seen."""
        return [len(endpoint.requests) for endpoint in self.endpoints]

    def chat(self, **fields: Any) -> dict[str, Any]:
        """A chat body for this model."""
        return ask(self.name, **fields)


class Stage:
    def __init__(self, upstream: FakeUpstream, gateway: GatewayProcess) -> None:
        self.upstream = upstream
        self.gateway = gateway
        self._spare: dict[str, Iterator[int]] = {name: iter(range(kind.spare)) for name, kind in KINDS.items()}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        directory: Path,
        models: Callable[[FakeUpstream], Iterable[Record]] | None = None,
        *,
        may_end: bool = False,
        **sections: Any,
    ) -> AsyncIterator[Stage]:
        """A gateway over a fake upstream; `sections` go into its configuration, as do `models` (default: `KINDS`).

        One that is a function is asked for, with the upstream.
        It must still run at the end of the block, unless it `may_end` before.
        """
        upstream = await FakeUpstream.start(as_openai())
        try:
            records = list((models or spare_models)(upstream))
            made = {name: each(upstream) if callable(each) else each for name, each in sections.items()}
            async with GatewayProcess.start(config(records, **made), directory) as gateway:
                yield cls(upstream, gateway)
                assert may_end or gateway.is_running, gateway.output()
            _assert_nothing_leaked(gateway)
        finally:
            await upstream.close()
        assert upstream.faults == []

    def model(self, kind: str = "single") -> FreshModel:
        """A model of this kind that nobody has used."""
        name = f"{kind}-{next(self._spare[kind])}"
        letters = "abc"[: KINDS[kind].endpoints]
        return FreshModel(name, [self.upstream.endpoint(f"{name}.{letter}") for letter in letters])

    @property
    def port(self) -> int:
        return self.gateway.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def post(
        self,
        body: dict[str, Any] | bytes,
        route: str = "chat/completions",
        *,
        key: str | None = KEYS["user"],
        prefix: str = "/v1/",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Reply:
        """One request on a connection of its own, and its whole answer."""
        async with Wire.open(self.port) as wire:
            await wire.send(request_bytes("POST", prefix + route, body, key=key, headers=headers))
            return await wire.reply()

    async def get(self, target: str, *, key: str | None = KEYS["user"]) -> Reply:
        return await self.gateway.get(target, key=key)

    @asynccontextmanager
    async def asking(
        self, body: dict[str, Any] | bytes, route: str = "chat/completions", *, receive_buffer: int | None = None
    ) -> AsyncIterator[Wire]:
        """A connection on which the request has been sent and nothing read."""
        async with Wire.open(self.port, receive_buffer=receive_buffer) as wire:
            await wire.send(request_bytes("POST", "/v1/" + route, body, key=KEYS["user"]))
            yield wire


def ask(model: str | None = None, **fields: Any) -> Record:
    """A chat body; without a model's name it has none."""
    named = {} if model is None else {"model": model}
    return named | {"messages": [{"role": "user", "content": "Hi"}]} | fields


def spare_models(upstream: FakeUpstream) -> Iterator[Record]:
    """Many models of each kind, and one whose name has a slash."""
    yield model(SLASHED, [endpoint(upstream, "slashed")])
    for kind_name, kind in KINDS.items():
        for number in range(kind.spare):
            yield _spare_model(upstream, f"{kind_name}-{number}", kind)


def _spare_model(upstream: FakeUpstream, name: str, kind: Kind) -> Record:
    endpoints = [
        endpoint(upstream, f"{name}.{letter}", priority=place if kind.ranked else 0, timeouts=kind.timeouts)
        for place, letter in enumerate("abc"[: kind.endpoints])
    ]
    return model(name, endpoints)


def endpoint(upstream: FakeUpstream, name: str, **more: Any) -> Record:
    """A record of `endpoints:` that leads to the fake endpoint of this name."""
    return {"id": name, "url": upstream.endpoint(name).url, "api_key": upstream_key(name)} | more


def model(name: str, endpoints: list[Record], **more: Any) -> Record:
    """A record of `models:` that anyone may use."""
    about = {"id": f"id-{name}", "name": name, "provider_model": f"provider/{name}", "global": True}
    return about | more | {"endpoints": endpoints}


def upstream_key(endpoint: str) -> str:
    """The credential that the gateway has for this endpoint."""
    return f"sk-upstream-secret-{endpoint}"


def _assert_nothing_leaked(gateway: GatewayProcess) -> None:
    """P7 over everything that the whole run logged; and no line of it that the gateway did not mean to write."""
    output = gateway.output()
    assert "sk-upstream-secret" not in output, "an upstream's credential is in the log"
    assert not [name for name, key in KEYS.items() if key in output], "a client's key is in the log"
    assert not gateway.noise, "not log lines: an exception that nobody handled?\n" + "\n".join(gateway.noise[:40])
    assert [line for line in gateway.logs if "exception" in line] == []
