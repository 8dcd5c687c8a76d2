"""Whatever the official Python library asks for on a route that is served: through the gateway as directly.

The calls are made from the library's own methods and OpenAI's published specification, which the mock behind them holds
requests to: what the gateway spoiled on the way up would be refused, what it spoiled on the way down would differ.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import openai
import pytest
from conformance.library import Method, methods
from conformance.served import CALLS, Seen, assert_same


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
    assert_same(method, expected, seen)
