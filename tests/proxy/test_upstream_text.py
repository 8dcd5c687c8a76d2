"""What of an upstream's error may stand in the log."""

from __future__ import annotations

import pytest

from gateway.proxy.endpoint_client import EndpointClient
from gateway.proxy.refusals.masking import Mask
from gateway.proxy.refusals.upstream_text import SHOWN_CHARACTERS, redacted
from gateway.types import Endpoint, Secret

OUTLET = EndpointClient(
    Endpoint(
        id="a",
        url="https://someone:pass-in-the-url@upstream.test/v1",
        api_key=Secret("credential.of/the+endpoint"),
        headers={"x-token": Secret("Token in-a-header-of-ours"), "x-team": Secret("blue")},
        query={"sig": Secret("signature-in-the-query")},
    )
)

NOTHING = Mask(Endpoint(id="b", url="https://upstream.test/v1"))


@pytest.mark.parametrize(
    "secret",
    [
        "credential.of/the+endpoint",
        r"credential.of\/the\u002bendpoint",
        "in-a-header-of-ours",
        "Token in-a-header-of-ours",
        "signature-in-the-query",
        "pass-in-the-url",
        "sk-somebodys.else-0123456789",
        "Bearer eyJhbGciOi.J9.x_y",
    ],
)
def test_no_credential_is_in_it(secret: str) -> None:
    assert (
        redacted(f'{{"said": "{secret}", "team": "blue"}}'.encode(), OUTLET.mask) == '{"said": "***", "team": "blue"}'
    )


@pytest.mark.parametrize("before", range(16 * 1024 - 40, 16 * 1024 + 4))
def test_a_credential_across_the_border_of_what_is_looked_at_does_not_show_in_part(before: int) -> None:
    """Masking makes a text shorter, so that its border may come to where it is shown."""
    key = "credential.of/the+endpoint"
    masked, rest = divmod(before, len(key))
    text = redacted((key * masked + "x" * rest + key + "y" * 99).encode(), OUTLET.mask)
    assert "cred" not in text
    assert "dpoint" not in text


def test_it_is_bounded_and_any_bytes_make_text() -> None:
    assert redacted(b"a\xffb\x00", NOTHING) == "a\ufffdb\x00"
    assert redacted(b"x" * 10_000_000, NOTHING) == "x" * SHOWN_CHARACTERS + "…"
    assert redacted(b"", OUTLET.mask) == ""
