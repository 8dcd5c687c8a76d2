"""Ask each endpoint of a file for its models.

Is it there, is its credential alive, does it have the model?
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.assembly import proxy_of
from gateway.cli.console import complain, print_line
from gateway.config import Settings
from gateway.errors import ConnectFailed, ConnectTimedOut, TransportError
from gateway.http.client import Transport
from gateway.http.client.passed_on import NOTHING, passed_on
from gateway.pool.state import without_credentials
from gateway.proxy.attempt import read_head
from gateway.proxy.endpoint_client import EndpointClient
from gateway.types import Endpoint, Model

AT_A_TIME = 8
SECONDS = 10.0  # for one endpoint, from the name's resolution to the list's last byte
PATIENCE_SECONDS = 2.0  # after which people are told that it goes on
MOST_BYTES = 8 << 20
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())

_STATUS_WORDS = {
    401: "the credential is not accepted",
    403: "the credential is not accepted, or may not list models",
    404: "there is no list of models; is `url` right?",
    405: "there is no list of models; is `url` right?",
    407: "the proxy wants a credential",
    429: "it is rate-limited, or its quota is used up",
}


class ProbeResult(NamedTuple):
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
        self._asked: dict[tuple[object, bytes], asyncio.Task[ProbeResult]] = {}

    def ask(self, endpoint: Endpoint) -> asyncio.Task[ProbeResult]:
        endpoint_client = EndpointClient(endpoint)
        # The head that requests have, so that what they would run into is found, with another method.
        protocol = endpoint.protocols[0]
        passed = passed_on(_NO_HEADERS, "/models", ("anthropic-version",)) if protocol == "anthropic" else NOTHING
        head = endpoint_client.head("/models", 0, b"", passed, protocol).replace(b"POST ", b"GET ", 1)
        same = endpoint_client.origin, head
        if same not in self._asked:
            self._asked[same] = asyncio.create_task(self._probe(endpoint_client, head))
        return self._asked[same]

    @property
    def progress(self) -> str:
        done = sum(task.done() for task in self._asked.values())
        return f"{done} of {len(self._asked)} endpoints have been asked"

    async def stop(self) -> None:
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _probe(self, endpoint_client: EndpointClient, head: bytes) -> ProbeResult:
        try:
            async with self._turns, asyncio.timeout(SECONDS):
                return _understood(await self._answer(endpoint_client, head))
        except (ConnectFailed, ConnectTimedOut) as error:
            return ProbeResult(None, f"cannot be reached: {error}")
        except TransportError as error:
            return ProbeResult(None, f"no usable answer: {error}")
        except TimeoutError:
            return ProbeResult(None, f"no answer within {SECONDS:g} s")

    async def _answer(self, endpoint_client: EndpointClient, head: bytes) -> _Answer:
        answer = _Answer()
        connect_timeout = min(endpoint_client.endpoint.timeouts.connect, SECONDS)
        exchange = await self._transport.exchange(
            endpoint_client.origin, head, b"", answer, connect_timeout=connect_timeout
        )
        try:
            await answer.done
        except BaseException:
            exchange.abort()
            raise
        return answer


def _understood(answer: _Answer) -> ProbeResult:
    if answer.status != 200:
        return ProbeResult(
            None, f"HTTP {answer.status}: {_STATUS_WORDS.get(answer.status, 'it does not list its models')}"
        )
    if answer.encoding:
        return ProbeResult(None, "HTTP 200, but compressed although nobody asked for that")
    try:
        listed = orjson.loads(answer.body)["data"]
        return ProbeResult(frozenset(each["id"] for each in listed))
    except (ValueError, KeyError, TypeError):
        return ProbeResult(None, "HTTP 200, but the answer is no list of models; is `url` right?")


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
        async with _reporting_progress(asker):
            for model, endpoint, task in asked:
                result = await task
                failed += result.models is None
                print_line(_line(model, endpoint, result))
        return failed
    finally:
        await asker.stop()
        await transport.close()


def _endpoints(settings: Settings) -> Iterator[tuple[Model, Endpoint]]:
    for model in settings.models:
        for endpoint in model.endpoints:
            yield model, endpoint


def _line(model: Model, endpoint: Endpoint, result: ProbeResult) -> str:
    about = f"{model.name}, endpoint {endpoint.id}, {without_credentials(endpoint.url)}"
    if result.models is None:
        return f"FAIL  {about}: {result.fault}"
    wanted = endpoint.provider_model or model.provider_model
    credential = "takes the credential" if endpoint.api_key is not None else "takes requests without a credential"
    count = f"{len(result.models)} model{'s' if len(result.models) != 1 else ''}"
    if wanted in result.models:
        return f"ok    {about}: {credential}, lists {count}, `{wanted}` among them"
    return f"warn  {about}: {credential}, lists {count}, `{wanted}` not among them; is `provider_model` right?"


@contextlib.asynccontextmanager
async def _reporting_progress(asker: _Asker) -> AsyncIterator[None]:
    """Report progress on stderr now and then."""

    async def report() -> None:
        while True:
            await asyncio.sleep(PATIENCE_SECONDS)
            complain(f"… {asker.progress}")

    reporting = asyncio.create_task(report())
    try:
        yield
    finally:
        reporting.cancel()
        await asyncio.wait([reporting])
