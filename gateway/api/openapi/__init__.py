"""`GET /openapi.json`: OpenAPI 3.1 of the table of routes (contract §6).

document.py         from rows and the types that handlers use to the whole document
operations.py       one row: parameters, body, answers
error_responses.py  which faults a row can answer with, in which shape
given.py            parameters and examples, which no type tells
relayed.py          the bodies that the gateway only reads a little of
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from gateway.api.openapi.document import described
from gateway.api.router import Hit, Route
from gateway.http.reply import Answer, Reply

__all__ = ["described", "openapi_route"]

_JSON = ("content-type", "application/json")


def openapi_route(others: Sequence[Route]) -> Route:
    """Return the row that describes `others` and itself.

    The document is made when it is first asked for.
    """
    written: list[bytes] = []

    async def handler(_: Hit) -> Reply:
        if not written:
            written.append(orjson.dumps(described([*others, own])))
        return Answer(200, [_JSON], written[0])

    own = Route("GET", "/openapi.json", handler, scope=None, answer=dict, summary="This document")
    return own
