"""Ask each endpoint of a file for its models.

Is it there, is its credential alive, does it have the model?
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import orjson

from gateway.app import proxy_of
from gateway.cli.console import complain, say
from gateway.config import Settings
from gateway.errors import ConnectFailed, ConnectTimedOut, TransportError
from gateway.http.client import Transport
from gateway.pool.state import without_credentials
from gateway.proxy.endpoint_client import Outlet, read_head
from gateway.types import Endpoint, Model

AT_A_TIME = 8
SECONDS = 10.0  # for one endpoint, from the name's resolution to the list's last byte
PATIENCE_SECONDS = 2.0  # after which people are told that it goes on
MOST_BYTES = 8 << 20

_STATUS_WORDS = {
    401: "the credential is not accepted",
    403: "the credential is not accepted, or may not list models",
    404: "there is no list of models; is `url` right?",
    405: "there is no list of models; is `url` right?",
    407: "the proxy wants a credential",
    429: "it is rate-limited, or its quota is used up",
}


class Heard(NamedTuple):
    """An endpoint's answer.

    `models` are ids; None where it did not give a list, and `fault` is why.
    """

    models: frozenset[str] | None
    fault: str = ""


class _Answer:
    """A `Receiver` that gathers a whole answer."""

    def __init__(self) -> None:
        self.status = 0
        self.encoding = b""
        self.body = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.encoding = read_head(headers).encoding

    def on_body(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > MOST_BYTES:
            self._fail(TransportError(f"the answer is longer than {MOST_BYTES >> 20} MiB"))

    def on_end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def on_failure(self, error: TransportError) -> None:
        self._fail(error)

    def _fail(self, error: TransportError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Asker:
    """Ask at most `AT_A_TIME` endpoints at once, equal ones once.

    Those that are the same to their upstream.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._asked: dict[tuple[object, bytes], asyncio.Task[Heard]] = {}

    def ask(self, endpoint: Endpoint) -> asyncio.Task[Heard]:
        outlet = Outlet(endpoint)
        # The head that requests have, so that what they would run into is found, with another method.
        head = outlet.head("/models", 0).replace(b"POST ", b"GET ", 1)
        same = outlet.origin, head
        if same not in self._asked:
            self._asked[same] = asyncio.create_task(self._heard(outlet, head))
        return self._asked[same]

    @property
    def progress(self) -> str:
        done = sum(task.done() for task in self._asked.values())
        return f"{done} of {len(self._asked)} endpoints have been asked"

    async def stop(self) -> None:
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _heard(self, outlet: Outlet, head: bytes) -> Heard:
        try:
            async with self._turns, asyncio.timeout(SECONDS):
                return _understood(await self._answer(outlet, head))
        except (ConnectFailed, ConnectTimedOut) as error:
            return Heard(None, f"cannot be reached: {error}")
        except TransportError as error:
            return Heard(None, f"no usable answer: {error}")
        except TimeoutError:
            return Heard(None, f"no answer within {SECONDS:g} s")

    async def _answer(self, outlet: Outlet, head: bytes) -> _Answer:
        answer = _Answer()
        connect_timeout = min(outlet.endpoint.timeouts.connect, SECONDS)
        exchange = await self._transport.exchange(outlet.origin, head, b"", answer, connect_timeout=connect_timeout)
        try:
            await answer.done
        except BaseException:
            exchange.abort()
            raise
        return answer


def _understood(answer: _Answer) -> Heard:
    if answer.status != 200:
        return Heard(None, f"HTTP {answer.status}: {_STATUS_WORDS.get(answer.status, 'it does not list its models')}")
    if answer.encoding:
        return Heard(None, "HTTP 200, but compressed although nobody asked for that")
    try:
        listed = orjson.loads(answer.body)["data"]
        return Heard(frozenset(each["id"] for each in listed))
    except (ValueError, KeyError, TypeError):
        return Heard(None, "HTTP 200, but the answer is no list of models; is `url` right?")


async def probe(settings: Settings) -> int:
    """Print a line an endpoint; return the number of failures.

    In the order of the file.

    A model that is not in an endpoint's list is told and not counted: not all upstreams list what they serve.
    """
    transport = Transport(proxy=proxy_of(settings))
    asker = _Asker(transport)
    try:
        asked = [(model, endpoint, asker.ask(endpoint)) for model, endpoint in _endpoints(settings)]
        failed = 0
        async with _telling(asker):
            for model, endpoint, task in asked:
                heard = await task
                failed += heard.models is None
                say(_line(model, endpoint, heard))
        return failed
    finally:
        await asker.stop()
        await transport.close()


def _endpoints(settings: Settings) -> Iterator[tuple[Model, Endpoint]]:
    for model in settings.models:
        for endpoint in model.endpoints:
            yield model, endpoint


def _line(model: Model, endpoint: Endpoint, heard: Heard) -> str:
    about = f"{model.name}, endpoint {endpoint.id}, {without_credentials(endpoint.url)}"
    if heard.models is None:
        return f"FAIL  {about}: {heard.fault}"
    wanted = endpoint.provider_model or model.provider_model
    credential = "takes the credential" if endpoint.api_key is not None else "takes requests without a credential"
    count = f"{len(heard.models)} model{'s' if len(heard.models) != 1 else ''}"
    if wanted in heard.models:
        return f"ok    {about}: {credential}, lists {count}, `{wanted}` among them"
    return f"warn  {about}: {credential}, lists {count}, `{wanted}` not among them; is `provider_model` right?"


@contextlib.asynccontextmanager
async def _telling(asker: _Asker) -> AsyncIterator[None]:
    """Report progress on stderr now and then."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(PATIENCE_SECONDS)
            complain(f"… {asker.progress}")

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])
