"""Write request heads for one endpoint; classify its answers."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import msgspec

from gateway import __version__
from gateway.http.client import Origin, request_head
from gateway.http.client.passed_on import NOTHING, PassedOn, query_names
from gateway.proxy.refusals.masking import Mask
from gateway.types import AuthHeader, Endpoint, Model, ProtocolName

RawHeaders = list[tuple[bytes, bytes]]
JSON = "application/json"

_OFTEN_PASSED = (
    "accept",
    "openai-beta",
    "idempotency-key",
    "x-client-request-id",
    "anthropic-version",
    "anthropic-beta",
)

_USUAL_AUTH_HEADERS: Mapping[ProtocolName, AuthHeader] = {"openai": "authorization", "anthropic": "x-api-key"}
_OF_TRACES = ("traceparent", "tracestate")  # which every request has already that comes with valid ones


class EndpointClient:
    """Build the requests to one endpoint.

    Request heads are made once for each route, all but the length. `plain_heads` has by path what those of posted JSON
    begin with, to which nothing is added but the client's fields, the request's own, and the length.

    `model`: its name, as the provider has it.

    `refuses_stream_options` is learnt: the endpoint answered 400 or 422 to it once and was content without.
    `guarded`: the address that it is connected to must be one that endpoints made at run time may have.
    """

    def __init__(self, endpoint: Endpoint, *, model: Model | None = None, guarded: bool = False) -> None:
        url = urlsplit(endpoint.url)
        host = url.hostname or ""
        self.endpoint = endpoint
        self.model = endpoint.provider_model or (model.provider_model or model.name if model is not None else "")
        is_tls = url.scheme == "https"
        ca_file = (endpoint.ca_file or "") if is_tls else ""
        self.origin = Origin(url.scheme, host, url.port or (443 if is_tls else 80), guarded, ca_file)
        self.refuses_stream_options = not endpoint.stream_usage
        self._host_field = url.netloc.rpartition("@")[2]
        self._base_path = url.path.rstrip("/")
        self._query = "&".join(f"{quote(k, safe='')}={quote(v.reveal(), safe='')}" for k, v in endpoint.query.items())
        self._query_names = query_names(endpoint.query)
        self._own_headers = frozenset(map(str.lower, (*endpoint.headers, *_auth_headers(endpoint))))
        # Of most endpoints a client's header is neither theirs too nor one of more: then no head is a special one.
        self._passes = [name for name in endpoint.pass_headers if name not in _OF_TRACES]
        self._is_particular = bool(self._passes) or not self._own_headers.isdisjoint(_OFTEN_PASSED)
        self.plain_heads: dict[str, bytes] = {}
        self._heads: dict[str, bytes] = {}
        self._untyped_heads: dict[str, bytes] = {}  # for forms: each has a boundary of its own
        self._mask: Mask | None = None

    def head(
        self,
        path: str,
        length: int,
        own_fields: bytes = b"",
        passed: PassedOn = NOTHING,
        protocol: ProtocolName = "openai",
        content_type: str = JSON,
        method: str = "POST",
        is_lasting: bool = True,
    ) -> bytes:
        """Return the request head for a body of `length` bytes.

        `path` is the route's, as /chat/completions; no two protocols have the same. A body of no bytes is none.
        `is_lasting`: the path comes again.

        `own_fields`: header lines of the request's own, each with its line end. `passed`: what the client's head adds.
        """
        heads, is_usual = self._heads, method == "POST" and length > 0
        if content_type != JSON:
            heads, own_fields = self._untyped_heads, b"content-type: %b\r\n%b" % (content_type.encode(), own_fields)
        begin = heads.get(path) if is_usual else None
        if begin is None:
            is_json = heads is self._heads and length > 0
            begin = self._head_up_to_length(path, protocol, method, is_json=is_json)
            if is_usual and is_lasting:
                self._keep(path, begin, heads)
        fields = passed.fields
        if self._is_particular:
            fields = passed.lines_with(self._passes, self._own_headers)
        if passed.query:
            begin = self._with_query(begin, passed)
        if not length and method != "POST":
            return b"%b%b%b\r\n" % (begin, fields, own_fields)
        return b"%b%b%bcontent-length: %d\r\n\r\n" % (begin, fields, own_fields, length)

    def _keep(self, path: str, begin: bytes, heads: dict[str, bytes]) -> None:
        heads[path] = begin
        if heads is self._heads and not self._is_particular:
            self.plain_heads[path] = begin

    def _with_query(self, begin: bytes, passed: PassedOn) -> bytes:
        """Add a client's query, but for what the endpoint's own has."""
        query = passed.query_without(self._query_names)
        if not query:
            return begin
        line, version, rest = begin.partition(b" HTTP/1.1\r\n")
        return b"%b%b%b%b%b" % (line, b"&" if self._query else b"?", query.encode("ascii"), version, rest)

    @property
    def mask(self) -> Mask:
        """Return a mask over the secrets sent to the endpoint."""
        if self._mask is None:
            self._mask = Mask(self.endpoint)
        return self._mask

    def _head_up_to_length(self, path: str, protocol: ProtocolName, method: str, *, is_json: bool) -> bytes:
        target = f"{self._base_path}{path}" + (f"?{self._query}" if self._query else "")
        fields = {
            "host": self._host_field,
            **({"content-type": JSON} if is_json else {}),
            "accept-encoding": "identity",
        }
        if "user-agent" not in self._passes:
            fields["user-agent"] = f"ecli-gateway/{__version__}"
        key = self.endpoint.api_key
        if key is not None:
            header = self.endpoint.auth_header or _USUAL_AUTH_HEADERS[protocol]
            fields[header] = f"Bearer {key.reveal()}" if header == "authorization" else key.reveal()
        fields.update((name.lower(), value.reveal()) for name, value in self.endpoint.headers.items())
        return request_head(method, target, list(fields.items()))[: -len(b"\r\n")]

    def __repr__(self) -> str:
        return f"<EndpointClient of {self.origin.host}:{self.origin.port}>"


def _auth_headers(endpoint: Endpoint) -> tuple[str, ...]:
    return (endpoint.auth_header,) if endpoint.auth_header is not None else tuple(_USUAL_AUTH_HEADERS.values())


class Content(enum.Enum):
    """The kind of content that an upstream declares."""

    EVENTS = "events"
    TEXT = "text"  # JSON, text, or nothing was said
    MEDIA = "media"  # sounds, pictures, films
    OTHER = "other"


# A module's name is quicker than an enumeration's member, which is an attribute of its class.
TEXT, EVENTS = Content.TEXT, Content.EVENTS


class Shape(enum.Enum):
    """What an upstream's answer turned out to be."""

    WHOLE = "whole"  # complete, in `body`
    PART = "part"  # an error of whose body no more is waited for; what came of it is in `body`
    EVENTS = "events"  # a stream whose first event is there
    FLOW = "flow"  # too large to hold, compressed, or neither JSON nor text: passed on as it comes


WHOLE = Shape.WHOLE


class AnswerHead(msgspec.Struct, frozen=True):
    """What matters here of an upstream's headers."""

    passed: list[tuple[str, str]]  # those that the client may see
    content: Content
    encoding: bytes  # how the body is compressed, although we had asked for identity; empty where it is not

    def as_events(self) -> AnswerHead:
        """Return the head with its content type set to events."""
        if self.content is Content.EVENTS:
            return self
        kept = [(name, value) for name, value in self.passed if name != "content-type"]
        return msgspec.structs.replace(
            self, passed=[("content-type", "text/event-stream"), *kept], content=Content.EVENTS
        )


NO_HEAD = AnswerHead([], Content.TEXT, encoding=b"")


def content_of(content_type: bytes | None) -> Content:
    """Classify a declared content type."""
    declared = b"" if content_type is None else content_type.partition(b";")[0].strip().lower()
    if declared == b"text/event-stream":
        return Content.EVENTS
    if not declared or declared.startswith(b"text/") or b"json" in declared:
        return Content.TEXT
    return Content.MEDIA if declared.startswith((b"audio/", b"image/", b"video/")) else Content.OTHER
