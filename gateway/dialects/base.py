"""Relayed routes: one `Operation` is all that a route needs.

The router, the fast lane, OpenAPI, estimates, the relay and the ledger read the row; none of them knows a path by name.
No field has a default, so a row without one does not start; `client_headers` has, as hardly a row differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from gateway.dialects.references import Positions
from gateway.errors import GatewayError
from gateway.types import Model, OperationKind, ProtocolName
from gateway.types import Usage as Usage

Json = dict[str, Any]
# `core` are the POST paths of the surface itself, `objects` what upstreams keep; the others are served where asked for.
Family = Literal["core", "objects", "videos", "containers", "evals", "fine_tuning", "skills"]

# Headers of a client's that go up on the OpenAI surface; those of its trace do on every route.
CLIENT_HEADERS = ("accept", "openai-beta", "idempotency-key", "x-client-request-id")


class ToolCalls(NamedTuple):
    """Calls of the provider's own tools."""

    web_search: int = 0
    file_search: int = 0
    code_interpreter: int = 0
    web_fetch: int = 0


class Contents(msgspec.Struct, gc=False):
    """An answer's usage, text size and failure.

    `text_bytes` adds to the text before it; `whole_text_bytes` is an answer's whole text, given once or once more.
    """

    usage: Usage | None = None
    text_bytes: int = 0
    whole_text_bytes: int = 0
    failed: bool = False
    ended: bool = False  # a response is over, well or not: nothing goes on in the background
    unfinished: bool = False  # a promise of the responses route: the work goes on in the background
    service_tier: str | None = None  # as it was reported; the last one holds
    tools: ToolCalls | None = None  # all of the answer
    images: int = 0  # made; adds to those before


class Scan(Protocol):
    """Search a body too large to be decoded for usage.

    And text: `feed` the pieces in order, then `end`.
    """

    @property
    def usage(self) -> Usage | None: ...
    @property
    def text_bytes(self) -> int: ...
    @property
    def service_tier(self) -> str | None: ...
    @property
    def tools(self) -> ToolCalls | None: ...
    @property
    def images(self) -> int: ...
    def feed(self, data: bytes) -> None: ...
    def end(self) -> None: ...


def last_usage(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """Choose between two usage reports of one answer.

    The later, unless it is empty or all zero.
    """
    return later if later is not None and (earlier is None or later.total_tokens) else earlier


class UsageReader(msgspec.Struct, frozen=True, kw_only=True):
    """How usage and text are read from an answer.

    `contents` decodes an event's data or a whole body, None where it is no JSON object; `scan` begins a search.
    """

    contents: Callable[[bytes], Contents | None]
    scan: Callable[[], Scan]
    texts: Callable[[bytes], Contents | None] | None = None  # of joined events that are text alone, else None
    joined: Callable[[Usage | None, Usage | None], Usage | None] = last_usage  # an earlier report, and one after it
    request_or_tokens: bool = False  # a price's `request` is paid only where no tokens are reported


class PromptFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request's prompt.

    All other texts, lists and objects count as text.
    """

    with_parts: frozenset[str]  # within these, pictures, sounds and files have their places
    of_tokens: frozenset[str]  # these may be numbers of tokens in the place of text


class AnswerFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request that bound its answer."""

    bounds: tuple[str, ...]  # of one answer, in tokens; the largest holds
    repeats: tuple[str, ...]  # how many answers; the largest holds
    prompts: str  # a list of prompts has answers for each
    names: frozenset[str] = frozenset()  # all of these

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "names", frozenset((*self.bounds, *self.repeats, self.prompts)))


class EventRules(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a route's streams."""

    asks_usage: bool  # `stream_options.include_usage` is asked for, and the event that it brings is taken out
    is_numbered: bool  # they bear a `sequence_number`
    has_preparations: bool  # the first may say no more than that the request has been taken on
    end_signs: tuple[bytes, ...]  # no event is the last that has none of these in it
    error_event: Callable[[GatewayError, int], bytes]  # the error, and the number that the event would have
    refusal_event: Callable[[bytes], bytes]  # an upstream's refusal, by its body


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What all routes of one protocol share."""

    protocol: ProtocolName  # endpoints name it in their `protocols`
    refusal_body: Callable[[str], bytes]  # our words in the place of a refusal that cannot be shown


class Translated(Protocol):
    """One request in another protocol's words, whose answer it puts back.

    A request makes one for each model that it asks, so it may keep what it has seen of a stream.
    """

    prompt_tokens: int  # an estimate, for where nothing is reported

    @property
    def fields(self) -> Json:
        """The body; the relay sets `model` and asks for usage."""

    @property
    def raw(self) -> bytes:
        """The same as JSON."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """The hints that have no counterpart, for `x-gateway-dropped`."""

    @property
    def ended(self) -> bool:
        """Whether the stream has had its last event, be it an error."""

    @property
    def failed(self) -> bool:
        """Whether that was an error."""

    def event(self, data: bytes, name: bytes | None) -> bytes:
        """Put an upstream's event back; may be empty."""

    def end(self) -> bytes:
        """Return what is still missing once the upstream's stream has ended well."""

    def break_off(self, why: str) -> bytes:
        """Return the error that ends a stream that cannot be put back."""

    def whole(self, body: bytes) -> bytes | None:
        """Put a whole answer back; None where it is none."""

    def whole_as_events(self, body: bytes) -> bytes:
        """Put a whole answer back into a stream that has begun."""

    def refusal(self, status: int, body: bytes, request_id: str) -> bytes:
        """Put an upstream's refusal back, with its message."""


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """Serve an operation by one of another protocol."""

    operation: Operation  # what is asked of the endpoints
    translate: Callable[[Json, Model], Translated]  # from a body's fields; raises NotTranslatable


class RequestSchema(msgspec.Struct, frozen=True, kw_only=True):
    """The body's fields that are read here, for OpenAPI.

    And an example.
    """

    fields: Json
    example: Json


class Segment(msgspec.Struct, frozen=True):
    """A `{name}` of a path.

    `kind` None: it lies within the object before it, and whose that is decides.
    """

    name: str
    kind: str | None


class Learnt(msgspec.Struct, frozen=True):
    """Ids that answers bring where the request's `field` asks for it.

    `field` None: always. `by_default`: also where the request says nothing of it.
    """

    ids: Positions
    field: str | None = None
    by_default: bool = True

    def is_asked(self, fields: Mapping[str, Any]) -> bool:
        """Whether answers to this request bring them."""
        wanted = fields.get(self.field) if self.field is not None else None
        return self.by_default if wanted is None else wanted is not False


class ListRules(msgspec.Struct, frozen=True, kw_only=True):
    """A list of top level, made from our own index."""

    kind: str
    most: int  # of a page, as the provider has it
    usual: int  # of a page that no `limit` is asked for
    newest_first: bool  # where no `order` is asked for
    filters: tuple[str, ...]  # fields of the query that each object's own must equal
    unfinished: tuple[str, ...] | None  # each `status` that will still change; None: any may
    orders: tuple[str, ...] = ("created_at", "updated_at")  # of `order_by`; nobody says when one was changed


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One relayed route."""

    dialect: Dialect
    translation: Translation | None  # for models none of whose endpoints speaks the dialect
    method: Literal["GET", "POST", "DELETE"]
    path: str  # behind the prefix, and what is appended to an endpoint's base URL; `{name}` is one segment
    name: str  # its request is NAMERequest in the schema
    summary: str
    kind: OperationKind | None  # what a model's `operations` calls it; None: any model's
    body: Literal["application/json", "multipart/form-data"] | None  # a form's route takes JSON as well
    family: Family
    model: Literal["runs", "names", "none"]  # it runs one and is billed; it names one and is free; it has none
    is_text: bool  # an unknown model may be served by the assigned one, and a body that is no JSON is an answer
    has_fallbacks: bool  # whether another model may answer
    segments: tuple[Segment, ...]  # of the path
    pins: Positions  # of the body: ids that must be the caller's, and send the request to where they live
    content_pins: Positions  # of the body: `encrypted_content`, which pins where it is known
    learns: tuple[Learnt, ...]  # ids that its answers, and events of them, bring
    contents: Positions  # of `encrypted_content` in its answers, and events of them
    lists: ListRules | None  # None: no list of top level
    deletes: bool  # the path's object is forgotten once the upstream has deleted it
    works_on: str | None  # the field that asks for work which goes on when nobody listens
    prompt: PromptFields
    answer: AnswerFields | None  # None: no tokens but the prompt's are reserved
    usage: UsageReader
    events: EventRules
    request: RequestSchema | None  # None: it has no body
    media: tuple[str, ...]  # the types of a good answer
    client_headers: tuple[str, ...] = CLIENT_HEADERS  # in lower case
    # These follow from the others.
    learns_by: frozenset[str] | None = None  # with none of these fields only its ids concern objects; None: all may
    route: str = ""  # its name in the ledger: `chat/completions`, `GET files/{file_id}`
    is_billed: bool = False  # it runs a model, so that grants, limits and prices hold

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or self.path.endswith("/"):
            raise ValueError(f"the path of an operation begins with a slash and ends with none: {self.path!r}")
        if (self.body is None) != (self.request is None):
            raise ValueError(f"an operation with a body has a schema of it: {self.method} {self.path}")
        is_billed = self.model == "runs"
        route = self.path[1:] if is_billed else f"{self.method} {self.path[1:]}"
        msgspec.structs.force_setattr(self, "is_billed", is_billed)
        msgspec.structs.force_setattr(self, "route", route)
        always = self.segments or self.contents.positions
        if not (always or any(learnt.by_default or learnt.field is None for learnt in self.learns)):
            learns_by = frozenset([learnt.field for learnt in self.learns if learnt.field is not None])
            msgspec.structs.force_setattr(self, "learns_by", learns_by)

    def brings_objects(self, fields: Json) -> bool:
        """Whether answers to this request may bring some."""
        return bool(self.segments or self.contents.positions or any(learnt.is_asked(fields) for learnt in self.learns))

    def __repr__(self) -> str:
        return f"<Operation {self.method} {self.path}>"
