"""The text of an upstream's error, for operators in the log.

Never for users.
"""

from __future__ import annotations

import re

from gateway.http.content_coding import unpacked
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import EndpointClient
from gateway.proxy.refusals.masking import Mask

SHOWN_CHARACTERS = 4_000
_LOOKED_AT_BYTES = 16 * 1024
# Keys that are not ours to know: somebody else's, or one that this endpoint had before.
_LIKE_A_KEY = re.compile(rb"(?i)\b(?:sk|pk|rk)-[\w.-]{12,}|\bbearer +[^\s\"'\\]{8,}")


def upstream_text(endpoint_client: EndpointClient, attempt: Attempt) -> str | None:
    """Return the upstream's error text, masked and bounded, or None.

    What came of an answer that was cut off is left out: it may be what a user is to read, and no one else.
    """
    body = attempt.error_text or (attempt.body if attempt.status >= 400 else b"")
    if body and not attempt.error_text and (encoding := attempt.head.encoding):
        body = unpacked(body, encoding)
    return redacted(body, endpoint_client.mask) if body else None


def redacted(body: bytes, mask: Mask) -> str:
    looked_at = mask.over(body[:_LOOKED_AT_BYTES])
    text = _LIKE_A_KEY.sub(b"***", looked_at).decode("utf-8", "replace")
    if len(body) > _LOOKED_AT_BYTES:
        # A credential that stands across the border was not known as one; JSON may take six bytes for a character.
        text = text[: -6 * max(64, mask.longest)]
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
