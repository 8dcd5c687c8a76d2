"""A request to relay: its operation, body, caller and model."""

from __future__ import annotations

import msgspec

from gateway.access.companions import Companion, are_served_at
from gateway.dialects import openai
from gateway.dialects.base import Operation, Translated
from gateway.http.client import Upload
from gateway.http.multipart import FormBody
from gateway.limits import Terms, prompt_tokens
from gateway.proxy.keeping.object_keeper import Keeper
from gateway.proxy.keeping.pins import Pin
from gateway.store.base import Catalogue
from gateway.types import Access, Caller, Endpoint, Model, id_text


class Reserved(msgspec.Struct, frozen=True, gc=False):
    """What all lines of a batch may use. `nano`: cost in billionths."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    nano: int


class Ask(msgspec.Struct, frozen=True, eq=False):
    """A request to relay: its operation, body, caller and model."""

    operation: Operation
    body: openai.RequestBody | FormBody
    caller: Caller
    access: Access
    catalogue: Catalogue
    terms: Terms
    companions: tuple[Companion, ...] = ()  # one for each of the body's mentions
    streams_by_query: bool = False  # the URL asks for a stream
    translated: Translated | None = None  # where it is asked in another protocol's words
    target: str | None = None  # the path to ask for, where it has ids in it
    pin: Pin | None = None  # the account that keeps its objects
    keeper: Keeper | None = None  # remembers what its answers bring
    reserved: Reserved | None = None  # what it may use, where its body does not say
    keeps: bool = False  # it makes an object, so endpoints that keep none are left out

    @property
    def needs_no_model(self) -> bool:
        """Whether it goes to an account, by whichever of its models."""
        return self.pin is not None and bool(self.pin.models)

    @property
    def path(self) -> str:
        """What is appended to an endpoint's base URL."""
        return self.target or self.operation.path

    @property
    def may_go_on(self) -> bool:
        """Whether it asks for work that goes on after it."""
        works_on = self.operation.works_on
        return self.reserved is not None or (
            works_on is not None and self.body.fields.get(works_on) not in (None, False)
        )

    @property
    def wants_stream(self) -> bool:
        """Whether the client asks for a stream, in whichever way."""
        fields = self.body.fields
        return fields.get("stream") is True or fields.get("stream_format") == "sse" or self.streams_by_query

    def is_cheap_to_ask(self, model: Model) -> bool:
        """Whether nothing large has to be translated for this model."""
        return self.operation.translation is None or self.body.size < openai.LARGE_BYTES or self.is_spoken_by(model)

    def as_asked_of(self, model: Model) -> Ask | None:
        """Return the request as this model's endpoints take it.

        Itself where one of them speaks its protocol, translated where all speak another; None where neither can be.

        Raises NotTranslatable.
        """
        translation = self.operation.translation
        if self.is_spoken_by(model):
            return self
        if translation is None:
            return None
        other = translation.operation.dialect.protocol
        if not all(other in endpoint.protocols for endpoint in model.endpoints):
            return None
        translated = translation.translate(self.body.fields, model)
        fields = translated.fields
        body, operation = openai.RequestBody(translated.raw, fields), translation.operation
        translated.prompt_tokens = prompt_tokens(fields, len(body.raw), operation.prompt)
        return msgspec.structs.replace(self, operation=operation, body=body, companions=(), translated=translated)

    def is_spoken_by(self, model: Model) -> bool:
        """Whether an endpoint of this model takes it as it is."""
        protocol = self.operation.dialect.protocol
        for endpoint in model.endpoints:  # noqa: SIM110  # the first nearly always does: `any` would be more calls
            if protocol in endpoint.protocols:
                return True
        return False

    def endpoints_left_out(self, model: Model) -> set[str]:
        """List endpoints that speak another protocol, or lack what is named.

        A model or an object.

        Ids of endpoints of `model`, as text.
        """
        protocol, companions = self.operation.dialect.protocol, self.companions
        left_out: set[str] = set()
        for one in model.endpoints:
            if (
                protocol not in one.protocols
                or (companions and not are_served_at(companions, one))
                or (self.keeps and not one.objects)
                or (self.pin is not None and not self.pin.account.holds(model, one))
            ):
                left_out.add(id_text(one.id))
        return left_out

    def body_for(self, endpoint: Endpoint, model: Model, *, include_usage: bool) -> bytes | Upload:
        """The body as it goes to this endpoint of `model`."""
        if self.pin is not None and self.needs_no_model and isinstance(self.body, openai.RequestBody):
            return self.body.raw
        if not self.companions:
            name = endpoint.provider_model or model.provider_model or model.name
            return self.body.upload(name, include_usage=include_usage)
        return self.body.upload(*self.names_at(endpoint, model), include_usage=include_usage)

    @property
    def json(self) -> openai.RequestBody:
        """The body of a route that takes no forms."""
        if isinstance(self.body, FormBody):
            raise TypeError(f"{self.operation} was asked with a form")
        return self.body

    def json_for(self, endpoint: Endpoint, model: Model) -> bytes:
        """The same body, as it goes to this endpoint of `model`."""
        return self.json.rewritten(*self.names_at(endpoint, model))

    def names_at(self, endpoint: Endpoint, model: Model) -> tuple[str, list[str]]:
        """The provider's names of the model, and of those named besides."""
        name = endpoint.provider_model or model.provider_model or model.name
        return name, [each.provider_model_at(endpoint) or each.model.name for each in self.companions]
