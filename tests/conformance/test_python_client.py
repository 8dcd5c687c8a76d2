"""Whatever the official Python library asks for on a route that is served: through the gateway as directly.

The calls are made from the library's own methods and OpenAI's published specification, which the mock behind them holds
requests to: what the gateway spoiled on the way up would be refused, what it spoiled on the way down would differ.
"""

from __future__ import annotations

import asyncio
import json
import re
import warnings
from typing import Any, NamedTuple

import openai
import pytest
from conformance.library import Method, methods

from gateway.api import all_routes
from gateway.dialects.base import Operation

_PASSED = ("content-type", "content-language", "content-disposition", "openai-processing-ms", "openai-version")
_BODYLESS = ("x-steady-", "set-cookie", "vary")

SERVED: dict[tuple[str, str], Operation | None] = {
    (route.method, re.sub(r"\{[\w.]+\}", "{}", route.path.removeprefix("/v1"))): route.operation
    for route in all_routes()
    if route.path.startswith("/v1/")
}
# Made from what the gateway knows, and so not the mock's: the models, and lists of a caller's own objects.
OURS = {("GET", "/models"), ("GET", "/models/{}")}
CALLS = [
    (method, stream)
    for method in methods()
    if (method.verb, method.path) in SERVED.keys() - OURS
    for stream in ([False, True] if method.streams else [False])
]


class Seen(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


def call(client: openai.OpenAI, method: Method, *, stream: bool) -> Seen:
    """Make the call, and give the answer as it came, be it a refusal."""
    arguments = method.arguments() | ({"stream": True} if stream else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            response: Any = method.of(client)(**arguments).http_response
        except openai.APIStatusError as refusal:
            response = refusal.response
    return Seen(response.status_code, response.read(), {name.lower(): text for name, text in response.headers.items()})


def test_the_library_was_read() -> None:
    """A release that is written otherwise must not leave us with nothing to test."""
    assert len(methods()) > 150
    assert len(CALLS) >= 15


@pytest.mark.parametrize(("method", "stream"), CALLS, ids=lambda each: each.name if isinstance(each, Method) else None)
async def test_a_call_is_answered_through_the_gateway_as_directly(
    direct: openai.OpenAI, through: openai.OpenAI, method: Method, stream: bool
) -> None:
    expected = await asyncio.to_thread(call, direct, method, stream=stream)
    seen = await asyncio.to_thread(call, through, method, stream=stream)
    assert seen.status == expected.status, (expected.body[:500], seen.body[:500])
    operation = SERVED[method.verb, method.path]
    if operation is not None and operation.lists is not None:
        assert set(json.loads(seen.body)) >= {"object", "data", "has_more"}
        return
    assert seen.body == expected.body
    assert {name: seen.headers.get(name) for name in _PASSED} == {name: expected.headers.get(name) for name in _PASSED}
    assert not [name for name in seen.headers if name.startswith(_BODYLESS)]
    assert "x-request-id" in seen.headers
