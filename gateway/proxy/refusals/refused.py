"""A refusal of the upstream's that the client is to see."""

from __future__ import annotations

from typing import NamedTuple

from gateway.dialects.base import Dialect
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import EndpointClient, Shape
from gateway.proxy.refusals.masking import readable

Fields = list[tuple[str, str]]

_OF_THE_BODY = ("content-type", "content-encoding", "content-language", "content-disposition")


class Refused(NamedTuple):
    """A refusal to relay: status, fields and body, masked.

    With nothing in them of what was sent to the endpoint. `text`: the body, unpacked.
    """

    status: int
    fields: Fields
    body: bytes
    text: bytes


def refused(endpoint_client: EndpointClient, attempt: Attempt, dialect: Dialect) -> Refused:
    """Return a refusal to relay, with its secrets masked.

    Our own words where it cannot be looked into.
    """
    status, mask = attempt.status, endpoint_client.mask
    fields = [(name, mask.over_text(value)) for name, value in attempt.head.passed]
    content = readable(attempt.body, attempt.head.encoding) if attempt.shape is Shape.WHOLE else None
    if content is None:
        words = f"The model's provider refused this request with status {status}; what it said cannot be shown."
        body = dialect.refusal_body(words)
        return Refused(status, [*_without(fields, _OF_THE_BODY), ("content-type", "application/json")], body, body)
    masked = mask.over(content)
    if masked == content:
        return Refused(status, fields, attempt.body, content)
    return Refused(status, _without(fields, ("content-encoding",)), masked, masked)


def _without(fields: Fields, names: tuple[str, ...]) -> Fields:
    return [field for field in fields if field[0] not in names]
