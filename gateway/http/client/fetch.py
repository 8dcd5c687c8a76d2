"""One GET of a small document, without redirects, with an end."""

from __future__ import annotations

import asyncio
from urllib.parse import SplitResult, urlsplit

from gateway import __version__
from gateway.errors import TransportError
from gateway.http.client.dial import Origin
from gateway.http.client.request_head import request_head
from gateway.http.client.transport import Transport


async def fetch(transport: Transport, url: str, *, ca_file: str, seconds: float, most_bytes: int) -> bytes:
    """Return the body of a 200. Raises TransportError.

    Its text has no more of the URL than the host.
    """
    parts = urlsplit(url)
    answer = _Whole(most_bytes)
    exchange = None
    try:
        async with asyncio.timeout(seconds):
            exchange = await transport.exchange(
                _origin(parts, ca_file), _head(parts), b"", answer, connect_timeout=seconds
            )
            return await answer.body
    except TimeoutError:
        raise TransportError(f"no answer within {seconds:g} s") from None
    finally:
        if exchange is not None and not answer.has_ended:
            exchange.abort()
        if not answer.body.cancel() and not answer.body.cancelled():
            answer.body.exception()


class _Whole:
    """Gather an answer's body."""

    def __init__(self, most_bytes: int) -> None:
        self.body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.has_ended = False
        self._most_bytes = most_bytes
        self._held = bytearray()

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        encodings = [value.strip().lower() for name, value in headers if name == b"content-encoding"]
        if status != 200:
            self._fail(TransportError(f"HTTP {status}"))
        elif any(each != b"identity" for each in encodings):
            self._fail(TransportError("the answer is compressed although nobody asked for that"))

    def on_body(self, data: bytes) -> None:
        if not self.body.done():
            self._held += data
            if len(self._held) > self._most_bytes:
                self._fail(TransportError(f"the answer is longer than {self._most_bytes >> 10} KiB"))

    def on_end(self) -> None:
        self.has_ended = True
        if not self.body.done():
            self.body.set_result(bytes(self._held))

    def on_failure(self, error: TransportError) -> None:
        self.has_ended = True
        self._fail(error)

    def _fail(self, error: TransportError) -> None:
        if not self.body.done():
            self.body.set_exception(error)


def _origin(parts: SplitResult, ca_file: str) -> Origin:
    is_tls = parts.scheme.lower() == "https"
    port = parts.port or (443 if is_tls else 80)
    return Origin(parts.scheme.lower(), parts.hostname or "", port, ca_file=ca_file if is_tls else "")


def _head(parts: SplitResult) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [
        ("host", parts.netloc),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("user-agent", f"ecli-gateway/{__version__}"),
    ]
    return request_head("GET", target, headers)
