"""Parameters and examples that types do not describe."""

from __future__ import annotations

from typing import Any, get_args

from gateway.admin_records.record_bodies import (
    FeatureBody,
    KeyBody,
    LinkChange,
    ModelBody,
    OrganisationLink,
    OwnerBody,
    OwnKeyBody,
    OwnKeyChange,
    PlanLink,
    RotationBody,
    UserBody,
    UserLink,
)
from gateway.admin_records.redaction import FeatureShown, LinkMade
from gateway.api.admin.ticket_routes import TicketBody, TicketMade
from gateway.api.panel import ChatAnswer, ChatBody, ModelView, MyModel, StudioAnswer, StudioBody
from gateway.dialects.base import ListRules
from gateway.observability.live_requests import LiveOutcome
from gateway.usage import Group, Order
from gateway.usage.views import UsageAnswer

Json = dict[str, Any]

_GROUPS: Json = {
    "type": "array",
    "items": {"type": "string", "enum": list(get_args(Group))},
    "minItems": 1,
    "maxItems": 2,
    "uniqueItems": True,
    "default": ["day"],
}
_DAY: Json = {"type": "string", "format": "date"}
_LIMIT: Json = {"type": "integer", "minimum": 1, "maximum": 1000}


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


_DAYS = [
    _query("from", _DAY, "First day, in UTC; without it the first of the last day's month."),
    _query("to", _DAY, "Last day, in UTC, counted as well; without it today."),
]
_PAGES = [
    _query("after", {"type": "string"}, "What `x-next-after` of the page before said."),
    _query("limit", _LIMIT, "Records of the store on a page; on the first come those of gateway.yaml besides."),
]
_ABOUT = [
    _query("key", {"type": "string"}, "A key's id. Either this or `user` is needed."),
    _query("user", {"type": "string"}, "A user's id."),
    _query("model", {"type": "string"}, "A model's id, name or alias; without it the assigned one."),
]

PAGED = ("/api/admin/users", "/api/admin/organisations", "/api/admin/plans", "/api/admin/keys")
ACTING: Json = {"$ref": "#/components/parameters/ActingFor"}

_QUERIES: dict[str, list[Json]] = {
    **dict.fromkeys(PAGED, _PAGES),
    "/api/admin/audit": [_query("limit", _LIMIT | {"default": 100}, "Entries at most.")],
    "/api/admin/explain": _ABOUT,
    "/api/ai/anthropic/v1/models": [
        _query("limit", _LIMIT | {"default": 20}, "Models on a page."),
        _query("after_id", {"type": "string"}, "The last id of the page before."),
        _query("before_id", {"type": "string"}, "The first id of the page behind; not with `after_id`."),
    ],
    "/api/admin/ai/requests": [
        _query("model", {"type": "string"}, "Of this model alone: its id or name."),
        _query("user", {"type": "string"}, "Of this user alone."),
        _query("outcome", {"type": "string", "enum": list(get_args(LiveOutcome))}, "With this outcome alone."),
    ],
}
_RECEIPTS: list[Json] = [
    _query("model", {"type": "string"}, "Of this model alone: its id or name."),
    _query("key", {"type": "string"}, "Of this key alone."),
    _query("user", {"type": "string"}, "Another's, for keys with `usage:read`."),
    _query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "How many, 20 by default."),
    _query("after", {"type": "string"}, "The last id of the page before."),
]
_ROWS: list[Json] = [
    _query("group", _GROUPS, "What the rows tell apart: one or two, with a comma in between.")
    | {"style": "form", "explode": False},
    _query("order", {"type": "string", "enum": list(get_args(Order))}, "The most of it first."),
    _query(
        "limit", {"type": "integer", "minimum": 1, "maximum": 10_000}, "Rows at most; everybody's: 1,000 by default."
    ),
    _query("after", {"type": "string"}, "The `lastId` of the page before."),
]
_PATH_EXAMPLES: Json = {
    "/api/admin/features/": "beta",
    "/api/ai/proxy/": "1",
    "/v1/models/": "gpt-4o",
    "/api/admin/keys/": "laptop",
    "/api/admin/plans/": "pro",
}

_LIMITS: Json = {"rpm": 30, "requests": 1000, "period": "day"}
_ENDPOINT: Json = {"id": "a", "url": "https://api.openai.com/v1", "apiKey": "sk-…"}

EXAMPLES: dict[type, Json] = {
    ChatBody: {"message": "And in winter?", "history": [{"role": "user", "content": "Where is it warm in summer?"}]},
    StudioBody: {"message": "A haiku about gateways.", "maxTokens": 60, "temperature": 0.7},
    ModelBody: {"name": "gpt-4o-mini", "config": {"modelId": "gpt-4o-mini-2024-07-18"}, "endpoints": [_ENDPOINT]},
    UserBody: {"name": "Ada", "tier": "paid", "organisations": [10], "plans": ["pro"]},
    OwnerBody: {"name": "Example Org", "grants": []},
    UserLink: {"userId": 42, "limits": _LIMITS},
    OrganisationLink: {"orgId": 10, "limits": _LIMITS},
    PlanLink: {"planId": "pro"},
    LinkChange: {"limits": _LIMITS, "modelId": 1},
    OwnKeyBody: {"name": "laptop", "expires": "2027-01-01"},
    OwnKeyChange: {"name": "phone"},
    TicketBody: {"scopes": ["usage:read"]},
    RotationBody: {"grace_seconds": 3600},
    KeyBody: {"user": 42, "scopes": ["ai:use"], "expires": "2027-01-01"},
    FeatureBody: {"enabled": True},
}

_SHOWN: Json = {"id": 1, "name": "gpt-4o", "aliases": [], "tags": ["chat"], "operations": None}
_AMOUNTS: Json = {
    "requests": 12,
    "tokens": 3400,
    "promptTokens": 1400,
    "completionTokens": 2000,
    "cost": 0.0235,
    "cachedTokens": 900,
}

ANSWERS: dict[Any, Any] = {
    TicketMade: {
        "ticket": "O0cz…",
        "url": "https://ai.example.com/dashboard/session?ticket=O0cz…",
        "expires": 1795898282,
    },
    ChatAnswer: {"reply": "Hello! How can I help?"},
    StudioAnswer: {
        "reply": "Words pass the gateway.",
        "model": "gpt-4o",
        "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
        "finishReason": "stop",
    },
    list[ModelView]: [_SHOWN],
    list[MyModel]: [
        {
            "model": _SHOWN,
            "limits": {"period": "day", "rpm": 30, "requests": 1000},
            "used": {"requests": 12, "tokens": 3400, "cost": 0.0235},
            "source": "user",
            "linkId": 7,
        }
    ],
    UsageAnswer: {
        "user": 42,
        "from": "2027-01-01",
        "to": "2027-01-31",
        "totals": _AMOUNTS,
        "rows": [{"day": "2027-01-05"} | _AMOUNTS],
    },
    LinkMade: {"success": True, "link": {"id": 7, "modelId": 1, "limits": _LIMITS}},
    FeatureShown: {"name": "beta", "enabled": True},
}


def query_of(method: str, path: str) -> list[Json]:
    """The query parameters of a row."""
    if method != "GET":
        return []
    if path.endswith("/export.csv"):
        return _DAYS
    if "/usage/requests" in path:
        return [] if path.endswith("}") else [*_DAYS, *_RECEIPTS]
    if "/usage" in path:
        return [*_DAYS, *_ROWS]
    return _QUERIES.get(path, [])


def query_of_list(rules: ListRules) -> list[Json]:
    """The query parameters of a list of objects."""
    order: Json = {"type": "string", "enum": ["asc", "desc"], "default": "desc" if rules.newest_first else "asc"}
    limit: Json = {"type": "integer", "minimum": 1, "maximum": rules.most, "default": rules.usual}
    return [
        _query("limit", limit, "Objects on a page; what is beyond the bounds is taken for the nearest."),
        _query("order", order, "By creation."),
        _query("after", {"type": "string"}, "The id of the last object of the page before."),
        _query("before", {"type": "string"}, "The id of the first object of the page after."),
        *(_query(name, {"type": "string"}, "What its own must be.") for name in rules.filters if name != "metadata"),
    ]


def path_example(path: str) -> str:
    """A likely value for a parameter of this path."""
    return next((str(example) for prefix, example in _PATH_EXAMPLES.items() if prefix in path), "42")
