"""What is refused before it is a request has Anthropic's shape on Anthropic's paths, and the panel's on its own."""

from __future__ import annotations

import pytest
from kit import KEYS, Stage
from kit.wire import Wire

MALFORMED = {
    "two lengths": (
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        400,
        "invalid_http",
        "invalid_request_error",
    ),
    "a head too large": (f"x: {'a' * 9000}\r\n\r\n", 431, "headers_too_large", "invalid_request_error"),
    "a head that stops": ("x: y\r\n", 408, "request_timeout", "invalid_request_error"),
}


async def refused(stage: Stage, path: str, rest: str) -> tuple[int, dict[str, str], dict[str, object]]:
    async with Wire.open(stage.port) as wire:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEYS['user']}\r\n"
        await wire.send((head + rest).encode())
        reply = await wire.reply()
        return reply.status, dict(reply.headers), reply.json()


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages/count_tokens?beta=true", "/api/ai/anthropic/v1/messages"]
)
@pytest.mark.parametrize("malformed", MALFORMED)
async def test_a_fault_of_the_head_has_the_shape_of_its_path(stage: Stage, path: str, malformed: str) -> None:
    rest, status, code, kind = MALFORMED[malformed]
    found, headers, body = await refused(stage, path, rest)
    error = body["error"]
    assert isinstance(error, dict)
    assert (found, body["type"], error["type"], error["code"]) == (status, "error", kind, code)
    assert headers["request-id"] == headers["x-request-id"] == body["request_id"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/chat/completions", lambda body: body["error"]["code"]),
        ("/api/admin/keys", lambda body: body["error"]),
        ("/api/ai/chat", lambda body: body["error"]),
    ],
)
async def test_others_have_theirs(stage: Stage, path: str, code: object) -> None:
    _, _, body = await refused(stage, path, MALFORMED["two lengths"][0])
    assert callable(code)
    assert code(body) == "invalid_http"
