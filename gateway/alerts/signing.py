"""The headers of Standard Webhooks (version 1 of its signatures)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from gateway.config.checks import WEBHOOK_SECRET
from gateway.types import Secret


def signed_headers(event_id: str, body: bytes, secrets: Sequence[Secret], now: float) -> list[tuple[str, str]]:
    """Sign one try, whose time is its own.

    One signature for each secret, so that a receiver may hold either.
    """
    timestamp = str(int(now))
    signed = b"%b.%b.%b" % (event_id.encode(), timestamp.encode(), body)
    signatures = " ".join(_signature(secret, signed) for secret in secrets)
    return [("webhook-id", event_id), ("webhook-timestamp", timestamp), ("webhook-signature", signatures)]


def _signature(secret: Secret, signed: bytes) -> str:
    key = base64.b64decode(secret.reveal().removeprefix(WEBHOOK_SECRET))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
