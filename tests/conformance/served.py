"""Which calls there are on routes that the gateway serves, and what must be the same about their answers."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from conformance.library import Method, methods

from gateway.api import all_routes
from gateway.dialects.base import Operation

_PASSED = ("content-type", "content-language", "content-disposition", "openai-processing-ms", "openai-version")
_KEPT_BACK = ("x-steady-", "set-cookie", "vary")

SERVED: dict[tuple[str, str], Operation | None] = {
    (route.method, re.sub(r"\{[\w.]+\}", "{}", route.path.removeprefix("/v1"))): route.operation
    for route in all_routes()
    if route.path.startswith("/v1/")
}
# Made from what the gateway knows, and so not the mock's.
OURS = {("GET", "/models"), ("GET", "/models/{}")}
# Takes a file alone that was uploaded as a batch's input through the gateway: the mock knows none.
OURS |= {("POST", "/batches")}
CALLS = [
    (method, stream)
    for method in methods()
    if (method.verb, method.path) in SERVED.keys() - OURS
    for stream in ([False, True] if method.streams else [False])
]


class Seen(NamedTuple):
    """An answer as a client saw it; names of headers in lower case."""

    status: int
    body: bytes
    headers: dict[str, str]


def assert_same(method: Method, direct: Seen, through: Seen) -> None:
    """Status, body and the headers that pass are the same; lists of a caller's own objects are made here."""
    assert through.status == direct.status, (direct.body[:500], through.body[:500])
    operation = SERVED[method.verb, method.path]
    if operation is not None and operation.lists is not None:
        assert set(json.loads(through.body)) >= {"object", "data", "has_more"}
        return
    assert through.body == direct.body
    assert {name: through.headers.get(name) for name in _PASSED} == {name: direct.headers.get(name) for name in _PASSED}
    assert not [name for name in through.headers if name.startswith(_KEPT_BACK)]
    assert "x-request-id" in through.headers
