"""One POST of an alert, without redirects, with an end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from gateway import __version__
from gateway.alerts.signing import signed_headers
from gateway.config.settings import AlertSettings
from gateway.errors import ConnectFailed, ConnectTimedOut, TransportError
from gateway.http.client import Origin, Transport
from gateway.types import Secret

TRY_SECONDS = 10.0
_MOST_BYTES = 65_536  # of an answer, which nobody reads
GONE = 410


class Receiver(NamedTuple):
    """Where alerts go.

    `id`: a short hash of the URL. `fingerprint`: of all its entry, so that a changed one is told.
    """

    id: str
    fingerprint: str
    settings: AlertSettings

    @classmethod
    def of(cls, settings: AlertSettings) -> Receiver:
        url = settings.url.reveal()
        entry = "\n".join((url, *(secret.reveal() for secret in settings.secrets)))
        return cls(_short_hash(url), _short_hash(entry), settings)

    @property
    def shown(self) -> str:
        """Its origin: a path or a query may hold a token."""
        parts = urlsplit(self.settings.url.reveal())
        return f"{parts.scheme.lower()}://{parts.netloc}"


class Outcome(NamedTuple):
    """What came of a try.

    `status`: 0 where there was no answer, and `fault` is why.
    """

    status: int
    fault: str = ""

    @property
    def is_delivered(self) -> bool:
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        return f"HTTP {self.status}" if self.status else self.fault


async def send(transport: Transport, receiver: Receiver, event_id: str, body: bytes, now: float) -> Outcome:
    """Try once; never raises for what the receiver does."""
    parts = urlsplit(receiver.settings.url.reveal())
    answer = _Answer()
    exchange = None
    try:
        async with asyncio.timeout(TRY_SECONDS):
            exchange = await transport.exchange(
                _origin(parts),
                _head(parts, event_id, body, receiver.settings.secrets, now),
                body,
                answer,
                connect_timeout=TRY_SECONDS,
            )
            status = await answer.status
            with contextlib.suppress(TransportError, TimeoutError):  # the status has come: that is what counts
                await answer.ended
            return Outcome(status)
    except TimeoutError:
        return Outcome(0, f"no answer within {TRY_SECONDS:g} s") if not answer.has_status else Outcome(answer.told)
    except (ConnectFailed, ConnectTimedOut):
        return Outcome(0, "cannot be reached")
    except TransportError:
        return Outcome(0, "no usable answer")
    finally:
        if exchange is not None and not answer.ended.done():
            exchange.abort()
        answer.dismiss()


class _Answer:
    """A receiver of an answer of which the status alone counts."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.status: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.told = 0
        self._bytes = 0

    @property
    def has_status(self) -> bool:
        return self.told > 0

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.told = status
        if not self.status.done():
            self.status.set_result(status)

    def on_body(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES and not self.ended.done():
            self.ended.set_exception(TransportError("the answer is too long"))

    def on_end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def on_failure(self, error: TransportError) -> None:
        for future in (self.status, self.ended):
            if not future.done():
                future.set_exception(error)

    def dismiss(self) -> None:
        """Leave off waiting."""
        for future in (self.status, self.ended):
            if future.done() and not future.cancelled():
                future.exception()
            else:
                future.cancel()


def _origin(parts: SplitResult) -> Origin:
    scheme = parts.scheme.lower()
    return Origin(scheme, parts.hostname or "", parts.port or (443 if scheme == "https" else 80))


def _head(parts: SplitResult, event_id: str, body: bytes, secrets: Sequence[Secret], now: float) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [
        ("host", parts.netloc),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("user-agent", f"ecli-gateway/{__version__}"),
        ("accept", "*/*"),
        *signed_headers(event_id, body, secrets, now),
    ]
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("ascii")


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
