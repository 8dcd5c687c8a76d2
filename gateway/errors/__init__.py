"""Every error that the gateway raises on purpose, drawn once.

GatewayError                     an answer to the client: status, type, code
├── ClientFault                  the request cannot be served as it is
│   ├── MissingKey               401 missing_api_key
│   ├── InvalidKey               401 invalid_api_key
│   ├── InsufficientScope        403 insufficient_scope
│   ├── ModelNotAccessible       403 model_not_accessible
│   ├── NoModelGranted           403 no_model_granted
│   ├── ModelNotFound            404 model_not_found
│   ├── ModelRequired            400 model_required
│   ├── ObjectNotFound           404 object_not_found
│   ├── ObjectsApart             400 objects_apart
│   ├── RouteNotFound            404 not_found
│   ├── MethodNotAllowed         405 method_not_allowed
│   ├── ClientTooSlow            408 request_timeout
│   ├── BodyTooLarge             413 request_too_large
│   ├── HeadTooLarge             431 headers_too_large
│   ├── UpgradeNotSupported      426 upgrade_not_supported
│   ├── InvalidHttp              400 invalid_http
│   ├── InvalidJson              400 invalid_json
│   ├── InvalidMultipart         400 invalid_multipart
│   ├── InvalidBatch             400 invalid_batch
│   ├── InvalidRequest           400 invalid_request
│   ├── FieldNotAllowed          400 field_not_allowed
│   ├── PreviousResponseNotFound  400 previous_response_not_found
│   └── NotTranslatable          400 not_translatable
├── UpstreamFault                no endpoint gave an answer
│   ├── UpstreamRateLimited      429 upstream_rate_limited
│   ├── UpstreamCredentialsRejected  502 upstream_credentials_rejected
│   ├── UpstreamFailed           502 upstream_error
│   ├── UpstreamTimedOut         504 upstream_timeout
│   └── StreamIncomplete         in-band only: stream_incomplete
└── GatewayFault                 it is us
    ├── Overloaded               503 overloaded
    ├── ObjectUnavailable        503 object_unavailable
    ├── LoopDetected             508 loop_detected
    ├── ShuttingDown             503 shutting_down
    ├── FeatureDisabled          503, with a body of its own
    ├── StoreUnavailable         503 store_unavailable
    ├── LedgerUnavailable        503 ledger_unavailable
    └── InternalError            500 internal_error

TransportError                   one attempt against one endpoint failed; never leaves the relay
├── ConnectFailed                refused, no such host, TLS refused
├── ConnectTimedOut
├── FirstByteTimedOut            no first event (or no whole answer) in time
├── ConnectionCut                reset or closed before the answer's end
├── IdleTimedOut                 a live stream fell silent
└── InvalidResponse              not HTTP, or past the bounds

ConfigError                      gateway.yaml cannot be used; holds every problem found
"""

from __future__ import annotations

from gateway.errors.unseen import *  # noqa: F403

NO_RETRY = ("x-should-retry", "false")


class GatewayError(Exception):
    """An error that becomes an OpenAI-shaped answer.

    `{"error": {"message", "type", "param", "code"}}`
    """

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(
        self, message: str, *, param: str | None = None, headers: tuple[tuple[str, str], ...] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if headers is not None:
            self.headers = headers


class ClientFault(GatewayError):
    type = "invalid_request_error"


class MissingKey(ClientFault):
    status, code = 401, "missing_api_key"
    headers = (("www-authenticate", "Bearer"),)


class InvalidKey(ClientFault):
    status, code = 401, "invalid_api_key"
    headers = (("www-authenticate", "Bearer"),)


class InsufficientScope(ClientFault):
    status, type, code = 403, "permission_error", "insufficient_scope"


class InvalidTicket(ClientFault):
    status, code = 401, "invalid_ticket"


class CrossSite(ClientFault):
    status, type, code = 403, "permission_error", "cross_site"


class IpNotAllowed(ClientFault):
    status, type, code = 403, "permission_error", "ip_not_allowed"


class TooManyKeys(ClientFault):
    status, type, code = 409, "invalid_request_error", "too_many_keys"


class ModelNotAccessible(ClientFault):
    status, type, code = 403, "permission_error", "model_not_accessible"


class NoModelGranted(ClientFault):
    status, type, code = 403, "permission_error", "no_model_granted"


class ModelNotFound(ClientFault):
    status, code = 404, "model_not_found"


class ModelRequired(ClientFault):
    status, code = 400, "model_required"


class ObjectNotFound(ClientFault):
    """An object is unknown, or another caller's: one and the same answer."""

    status, code = 404, "object_not_found"


class ObjectsApart(ClientFault):
    """No endpoint of the request's model has all of its objects."""

    status, code = 400, "objects_apart"


class RouteNotFound(ClientFault):
    status, code = 404, "not_found"


class MethodNotAllowed(ClientFault):
    status, code = 405, "method_not_allowed"


class ClientTooSlow(ClientFault):
    status, code = 408, "request_timeout"


class BodyTooLarge(ClientFault):
    status, code = 413, "request_too_large"


class HeadTooLarge(ClientFault):
    status, code = 431, "headers_too_large"


class UpgradeNotSupported(ClientFault):
    status, code = 426, "upgrade_not_supported"
    headers = (("upgrade", "websocket"), ("connection", "upgrade"))  # RFC 9110 wants both


class InvalidHttp(ClientFault):
    status, code = 400, "invalid_http"


class InvalidJson(ClientFault):
    status, code = 400, "invalid_json"


class InvalidMultipart(ClientFault):
    status, code = 400, "invalid_multipart"


class InvalidBatch(ClientFault):
    status, code = 400, "invalid_batch"


class InvalidRequest(ClientFault):
    status, code = 400, "invalid_request"


class FieldNotAllowed(ClientFault):
    status, code = 400, "field_not_allowed"


class PreviousResponseNotFound(ClientFault):
    status, code = 400, "previous_response_not_found"


class NotTranslatable(ClientFault):
    status, code = 400, "not_translatable"


class RateLimited(ClientFault):
    """A limit has no room now; `retry-after`: 1 to 60 seconds."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class QuotaUsedUp(ClientFault):
    """Settled usage has used up a total until it resets."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"


class TierRequired(ClientFault):
    status, type, code = 403, "permission_error", "tier_required"

    def __init__(self, required: str) -> None:
        super().__init__(f"This needs the tier `{required}` or a higher one.")
        self.required = required


class EndpointNotAllowed(ClientFault):
    status, code = 400, "endpoint_not_allowed"


class RecordNotFound(ClientFault):
    status, code = 404, "not_found"


class ReceiptNotFound(ClientFault):
    status, code = 404, "receipt_not_found"


class DefinedInFile(ClientFault):
    status, code = 409, "defined_in_file"


class AlreadyThere(ClientFault):
    status, code = 409, "already_exists"


class UpstreamFault(GatewayError):
    type = "server_error"


class UpstreamRateLimited(UpstreamFault):
    status, type, code = 429, "rate_limit_error", "upstream_rate_limited"


class UpstreamCredentialsRejected(UpstreamFault):
    status, code = 502, "upstream_credentials_rejected"
    headers = (NO_RETRY,)


class UpstreamFailed(UpstreamFault):
    status, code = 502, "upstream_error"


class UpstreamTimedOut(UpstreamFault):
    status, code = 504, "upstream_timeout"
    headers = (NO_RETRY,)


class StreamIncomplete(UpstreamFault):
    status, code = 502, "stream_incomplete"


class AiUnavailable(UpstreamFault):
    """No answer of a model that could be shown."""

    status, code = 502, "ai_unavailable"


class GatewayFault(GatewayError):
    type = "server_error"


class Overloaded(GatewayFault):
    status, code = 503, "overloaded"
    headers = (("retry-after", "1"),)


class ObjectUnavailable(GatewayFault):
    """Every endpoint of an object's account is away.

    `headers` has `retry-after`.
    """

    status, code = 503, "object_unavailable"
    headers = (("retry-after", "1"),)


class LoopDetected(GatewayFault):
    """A model's endpoint leads back to this gateway."""

    status, code = 508, "loop_detected"
    headers = (NO_RETRY,)


class ShuttingDown(GatewayFault):
    status, code = 503, "shutting_down"
    headers = (("retry-after", "1"), ("connection", "close"))

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down; ask again, another one will answer.")


class FeatureDisabled(GatewayFault):
    """Answered with the body `{"error":"feature_disabled"}`, which panels look for."""

    status, code = 503, "feature_disabled"
    headers = (NO_RETRY,)


class StoreUnavailable(GatewayFault):
    """The run-time store cannot be reached, and no cache helps."""

    status, code = 503, "store_unavailable"
    headers = (("retry-after", "1"),)


class LedgerUnavailable(GatewayFault):
    """The journal cannot be written, so no request is admitted."""

    status, code = 503, "ledger_unavailable"
    headers = (("retry-after", "1"),)


class InternalError(GatewayFault):
    status, code = 500, "internal_error"
