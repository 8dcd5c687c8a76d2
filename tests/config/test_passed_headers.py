"""Which of a client's headers an operator may let up to an endpoint."""

from __future__ import annotations

import pytest

from gateway.config.checks import passed_header
from gateway.config.problems import Refused


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "x-api-key",
        "API-Key",
        "proxy-authorization",
        "x-goog-api-key",
        "ocp-apim-subscription-key",
        "x-auth-token",
        "x-amz-security-token",
        "x_api_key",
        "client-secret",
        "cookie",
        "Set-Cookie",
        "x-gateway-user",
        "x-gateway-model",
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "accept-encoding",
        "expect",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
        "forwarded",
        "x-forwarded-for",
        "X-Forwarded-Host",
        "x-forwarded-anything",
        "x-real-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "via",
        "sec-websocket-protocol",
        "idempotency-key",
    ],
)
def test_what_is_never_passed_on_cannot_be_named(name: str) -> None:
    """Credentials, cookies, what is of one hop or of the way, and what the gateway sets itself."""
    with pytest.raises(Refused, match="never passed on"):
        passed_header(name)


@pytest.mark.parametrize(
    "name", ["X-Session-Id", "accept-language", "user-agent", "openai-organization", "x-token-count"]
)
def test_any_other_may_be_named_in_either_case(name: str) -> None:
    assert passed_header(name) == name.lower()
