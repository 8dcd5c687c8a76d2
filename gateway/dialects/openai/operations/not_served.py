"""What official libraries ask for and the gateway does not serve.

With the reason.

A path that is in no row is refused all the same; this is for whoever wonders why, and for the test that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NOT_SERVED: Final[Mapping[str, str]] = {
    "/organization": "the provider's administration: it belongs to the operators",
    "/projects": "the provider's administration: it belongs to the operators",
    "/webhook_endpoints": "webhooks of the provider's project would tell of everybody's objects",
    "/webhook_event_types": "webhooks of the provider's project would tell of everybody's objects",
    "/safety": "the provider's case files on the operators' account",
    "/assistants": "retired by its provider",
    "/threads": "retired by its provider",
    "/chatkit": "its sessions are credentials, which would let a client past the gateway",
    "/agents": "an agent's sessions run models that the gateway could neither grant nor count",
    "/vaults": "they keep credentials of others",
    "/decisions": "it runs models that the gateway could neither grant nor count",
    "/audio/voices": "voices belong to the account, not to a caller",
    "/audio/voice_consents": "voices belong to the account, not to a caller",
    "/content_provenance_checks": "no family of the surface",
    "/live": "live sessions, which run past the gateway",
    "/realtime/calls": "WebRTC and telephone calls, which run past the gateway",
    "/realtime/client_secrets": "ephemeral credentials, which would let a client past the gateway",
    "/realtime/translations/client_secrets": "ephemeral credentials, which would let a client past the gateway",
    "/realtime/sessions": "ephemeral credentials, which would let a client past the gateway",
    "/realtime/transcription_sessions": "ephemeral credentials, which would let a client past the gateway",
    "DELETE /models": "models belong to everybody",
}


def why_not_served(method: str, path: str) -> str | None:
    """Return why a path below the base URL is not served."""
    for begin, reason in NOT_SERVED.items():
        verb, _, stem = begin.rpartition(" ")
        if (not verb or verb == method) and (path == stem or path.startswith(f"{stem}/")):
            return reason
    return None
