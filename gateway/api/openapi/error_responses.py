"""A route's error responses, read off the error tree.

So codes are never copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from gateway import errors
from gateway.admin_records.record_bodies import LinkChange
from gateway.api.router import Route, error_shape, is_ai_path
from gateway.dialects.anthropic import error_type
from gateway.dialects.base import Operation
from gateway.dialects.openai.operations import FORM
from gateway.errors import (
    AiUnavailable,
    AlreadyThere,
    DefinedInFile,
    EndpointNotAllowed,
    QuotaUsedUp,
    RateLimited,
    RecordNotFound,
    TierRequired,
)

Json = dict[str, Any]
Fault = type[errors.GatewayError]

REQUEST_ID: Json = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
_RETRY_AFTER: Json = {"retry-after": {"$ref": "#/components/headers/RetryAfter"}}
_SHOULD_RETRY: Json = {"x-should-retry": {"$ref": "#/components/headers/ShouldRetry"}}

_BODY: tuple[Fault, ...] = (errors.BodyTooLarge, errors.ClientTooSlow)
_KEYED: tuple[Fault, ...] = (
    errors.InvalidRequest,
    errors.MissingKey,
    errors.InvalidKey,
    errors.InsufficientScope,
    errors.IpNotAllowed,
    errors.Overloaded,
    errors.ShuttingDown,
    errors.StoreUnavailable,
)
_MODEL: tuple[Fault, ...] = (errors.ModelNotFound, errors.ModelNotAccessible)
_ADMITTED: tuple[Fault, ...] = (RateLimited, QuotaUsedUp, errors.LedgerUnavailable)
_RELAYED: tuple[Fault, ...] = (
    errors.InvalidJson,
    errors.FieldNotAllowed,
    errors.UpstreamRateLimited,
    errors.UpstreamCredentialsRejected,
    errors.UpstreamFailed,
    errors.UpstreamTimedOut,
)
# Raised before there is a route: any request may get them, and always in OpenAI's shape.
_UNPARSABLE: tuple[Fault, ...] = (errors.InvalidHttp, errors.HeadTooLarge, errors.ClientTooSlow)

_AS_UPSTREAM = ("400", "403", "404", "409", "413", "422")
_ANYTHING: Json = {"description": "Whatever the upstream says."}
_FEATURES = "/api/admin/features/"
_COOLDOWN = "/cooldown"


def refusals(route: Route) -> Json:
    """The `responses` of a row that are no good answers, by status."""
    by_status: dict[int, list[Fault]] = defaultdict(list)
    for fault in dict.fromkeys([*_faults(route), *_UNPARSABLE]):
        by_status[fault.status].append(fault)
    responses = {str(status): _response(route, faults) for status, faults in sorted(by_status.items())}
    return responses | (_upstreams_own(responses) if route.operation is not None else {})


def _faults(route: Route) -> Iterator[Fault]:
    yield errors.InternalError
    if is_ai_path(route.path):
        yield errors.FeatureDisabled
    if route.path == "/metrics":
        yield from (errors.MissingKey, errors.InvalidKey, errors.InsufficientScope, errors.StoreUnavailable)
    if route.scope is None:
        return
    yield from _KEYED
    if route.method in ("POST", "PUT", "PATCH"):
        yield from _BODY
    if route.operation is not None:
        yield from _RELAYED + _ADMITTED
        yield from _operation_faults(route.operation)
        if route.operation.model != "none" and "/proxy/" not in route.path:
            yield errors.NoModelGranted
    elif route.path.startswith("/api/admin/"):
        yield from _admin_faults(route)
    else:
        yield from _own_faults(route)


def _operation_faults(operation: Operation) -> Iterator[Fault]:
    """What a model, a translation or objects can be refused for."""
    if operation.model != "none":
        yield from _MODEL
    if operation.model == "runs":
        yield errors.ModelRequired
    if operation.body == FORM:
        yield errors.InvalidMultipart
    if operation.method == "POST" and operation.path in ("/files", "/uploads", "/batches"):
        yield errors.InvalidBatch
    if operation.translation is not None:
        yield errors.NotTranslatable
    if operation.segments or operation.pins or operation.content_pins:
        yield from (errors.ObjectNotFound, errors.ObjectsApart, errors.ObjectUnavailable)
    if operation.family != "core":
        yield from (errors.RouteNotFound, errors.ModelRequired, errors.ModelNotFound, errors.ModelNotAccessible)


def _own_faults(route: Route) -> Iterator[Fault]:
    """The panel's routes, usage, and what the OpenAI surface answers by itself."""
    if route.path.startswith("/api/ai/keys"):
        yield from _key_faults(route)
        return
    if route.path.endswith("/models/{id...}"):
        yield from _MODEL
    if route.body is not None:
        yield from _MODEL + _ADMITTED
        yield from (errors.InvalidRequest, AiUnavailable)
    if route.path.endswith("/anthropic/v1/models"):
        yield errors.InvalidRequest
    if "/usage" in route.path:
        yield errors.InvalidRequest
    if route.path.endswith("/requests/{id}"):
        yield errors.ReceiptNotFound
    if route.path.endswith("/studio"):
        yield TierRequired


def _key_faults(route: Route) -> Iterator[Fault]:
    """What a change of one's own keys can be refused for."""
    if route.method != "GET":
        yield from (errors.InvalidRequest, errors.TooManyKeys)
    if "{" in route.path:
        yield from (RecordNotFound, errors.DefinedInFile)


def _admin_faults(route: Route) -> Iterator[Fault]:
    changes, names_record = route.method != "GET", "{" in route.path
    if route.path.startswith(_FEATURES):
        yield errors.InvalidRequest
        return
    if changes or not names_record:
        yield errors.InvalidRequest
    if names_record or route.path.endswith("/explain"):
        yield RecordNotFound
    if changes:
        yield from _change_faults(route)


def _change_faults(route: Route) -> Iterator[Fault]:
    if route.body is LinkChange:
        yield errors.ModelNotFound
    if not route.path.endswith(_COOLDOWN):
        yield from (DefinedInFile, AlreadyThere)
    if "/ai/models" in route.path:
        yield EndpointNotAllowed


# -- how they look


def _response(route: Route, faults: list[Fault]) -> Json:
    """Faults of one status."""
    shapes = list(_shapes(route, faults))
    headers = dict(REQUEST_ID)
    for fault in faults:
        headers |= _headers(fault)
    return {
        "description": " · ".join(f"`{fault.code}`" for fault in faults),
        "headers": headers,
        "content": {"application/json": {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}},
    }


def _shapes(route: Route, faults: list[Fault]) -> Iterator[Json]:
    if errors.FeatureDisabled in faults:
        yield {"$ref": "#/components/schemas/FeatureDisabledBody"}
    usual = [fault for fault in faults if fault is not errors.FeatureDisabled]
    shape = error_shape(route.path)
    if shape == "openai":
        yield _openai(usual)
        return
    if shape == "anthropic":
        yield _anthropic(usual)
        if unparsable := [fault for fault in usual if fault in _UNPARSABLE]:
            yield _openai(unparsable)
        return
    own = set(_faults(route))
    flat = [fault for fault in usual if fault in own]
    unparsable = [fault for fault in usual if fault in _UNPARSABLE]
    if flat:
        yield _flat(flat)
    if unparsable:
        yield _openai(unparsable)


def _flat(faults: Iterable[Fault]) -> Json:
    fields: Json = {"error": {"enum": sorted({fault.code for fault in faults})}, "message": {"type": "string"}}
    if TierRequired in faults:
        fields["required"] = {"type": "string", "description": "Of `tier_required`: the tier that it takes."}
    if AiUnavailable in faults:
        fields["reply"] = {"type": "string", "description": "What a chat window may show in the answer's place."}
    return {"type": "object", "required": ["error", "message"], "properties": fields, "additionalProperties": False}


def _openai(faults: Iterable[Fault]) -> Json:
    inner = {
        "message": {"type": "string"},
        "type": {"enum": sorted({fault.type for fault in faults})},
        "param": {"type": ["string", "null"]},
        "code": {"enum": sorted({fault.code for fault in faults})},
    }
    error = {"type": "object", "required": list(inner), "properties": inner}
    return {"type": "object", "required": ["error"], "properties": {"error": error}, "additionalProperties": False}


def _anthropic(faults: Iterable[Fault]) -> Json:
    inner = {
        "type": {"enum": sorted({error_type(fault.status) for fault in faults})},
        "message": {"type": "string"},
        "code": {"enum": sorted({fault.code for fault in faults})},
        "param": {"type": "string"},
    }
    error = {"type": "object", "required": ["type", "message", "code"], "properties": inner}
    whole = {"type": {"const": "error"}, "error": error, "request_id": {"type": ["string", "null"]}}
    return {"type": "object", "required": list(whole), "properties": whole, "additionalProperties": False}


def _headers(fault: Fault) -> Json:
    """Return the headers of the error's own class.

    Those of limits are made where they are raised.
    """
    names = {name for name, _ in fault.headers}
    named = _RETRY_AFTER if "retry-after" in names or fault.status == 429 else {}
    if "x-should-retry" in names or fault is QuotaUsedUp:
        named = {**named, **_SHOULD_RETRY}
    if "www-authenticate" in names:
        named = {**named, "www-authenticate": {"schema": {"type": "string"}}}
    return named


def _upstreams_own(responses: Json) -> Json:
    """Describe a relayed refusal, whose body is the upstream's.

    Nothing can be promised of it.
    """
    relayed: Json = {}
    for status in _AS_UPSTREAM:
        ours = responses.get(status)
        schema = ours["content"]["application/json"]["schema"] if ours else None
        description = f"{ours['description']} · or as the upstream says" if ours else "As the upstream says"
        free = {"anyOf": [schema, _ANYTHING]} if schema else _ANYTHING
        relayed[status] = {
            "description": description,
            "headers": REQUEST_ID,
            "content": {"application/json": {"schema": free}, "*/*": {}},
        }
    content = {"application/json": {"schema": _ANYTHING}, "*/*": {}}
    other = {"description": "As the upstream says", "headers": REQUEST_ID, "content": content}
    return relayed | {"4XX": other}
