"""What the operators' routes answer in the gallery."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.demo.gallery import figures
from gateway.demo.gallery.answers import REQUEST_ID, Stream
from gateway.demo.gallery.figures import MODELS, moment

Json = dict[str, Any]


def endpoint(name: str, url: str, **more: Any) -> Json:
    return {
        "id": name,
        "url": url,
        "api_key": "set",
        "weight": 1,
        "priority": 0,
        "headers": {},
        "query": {},
        "auth_header": None,
        "provider_model": None,
        "max_in_flight": None,
        "stream_usage": True,
        "protocols": ["openai"],
        "pass_headers": [],
        "account": None,
        "objects": False,
        "websocket": False,
        "ca_file": None,
        "timeouts": {"connect": 5, "first_byte": 120, "idle": 60, "total": 600},
        "price": None,
    } | more


def model(number: int, name: str, endpoints: list[Json], **more: Any) -> Json:
    return {
        "id": number,
        "name": name,
        "config": {"modelId": None},
        "aliases": [],
        "tags": [],
        "global": False,
        "limits": None,
        "fallbacks": [],
        "operations": None,
        "price": None,
        "rotation": "round_robin",
        "max_tokens_field": "max_completion_tokens",
        "reasoning": False,
        "endpoints": endpoints,
        "source": "store",
    } | more


_OPENAI = [
    endpoint("openai-a", "https://api.openai.com/v1", headers={"x-team": "set"}),
    endpoint("openai-b", "https://eu.api.openai.com/v1", priority=1, timeouts={"connect": 2, "first_byte": 30}),
]
ADMIN_MODELS = [
    model(1, "gpt-4o", _OPENAI, tags=["vision"], fallbacks=["claude-sonnet"], price={"input": 2.5, "output": 10}),
    model(2, "claude-sonnet", [endpoint("anthropic", "https://api.anthropic.com/v1", protocols=["anthropic"])]),
    model(3, "qwen-coder", [endpoint("rack-7", "http://10.0.7.2:8000/v1", api_key=None)], source="file")
    | {"global": True, "limits": {"rpm": 60}},
]


def watched(number: int, name: str, state: str = "available", **more: Any) -> Json:
    return {
        "modelId": number,
        "modelName": MODELS[number],
        "endpointId": name,
        "url": "https://api.example.com/v1",
        "priority": 0,
        "weight": 1,
        "state": state,
        "cause": None,
        "secondsLeft": 0,
        "failures": 0,
        "inFlight": 0,
    } | more


POOL = [
    watched(1, "openai-a", "cooling", cause="rate_limited", secondsLeft=12),
    watched(1, "openai-b", inFlight=7, priority=1),
    watched(1, "azure", "cooling", cause="credentials", secondsLeft=540, failures=3, priority=2),
    watched(2, "anthropic", inFlight=3),
    watched(3, "rack-7", "full", inFlight=8),
    watched(3, "rack-8", "probing", cause="timed_out", failures=2),
]


def live(number: int, outcome: str, minutes: float, **more: Any) -> Json:
    known = {
        "type": "request",
        "id": f"{number:032x}",
        "outcome": outcome,
        "began": datetime.now(UTC).timestamp() - minutes * 60,
        "milliseconds": 900.0 + number * 317,
        "firstByteMs": 210.0,
        "user": 42,
        "key": "laptop",
        "model": "gpt-4o",
        "modelId": 1,
        "asked": "gpt-4o",
        "endpoint": "openai-b",
        "route": "/v1/chat/completions",
        "streamed": True,
        "attempts": 1,
        "status": 200,
        "code": None,
        "promptTokens": 412,
        "completionTokens": 96,
    }
    return known | more


def live_requests() -> Stream:
    failed = {"status": 502, "code": "upstream_error", "attempts": 3, "endpoint": "openai-a", "promptTokens": None}
    refused = {"status": 429, "code": "insufficient_quota", "endpoint": None, "promptTokens": None, "user": 7}
    qwen = {"model": "qwen-coder", "modelId": 3, "endpoint": "rack-7", "user": "visitor"}
    rows = [
        live(1, "ok", 2.1),
        live(2, "upstream_error", 1.7, **failed),
        live(3, "ok", 1.2, **qwen),
        live(4, "refused", 0.8, **refused),
        live(5, "cancelled", 0.5, attempts=2),
        live(6, "running", 0.1, promptTokens=None),
        live(7, "running", 0.05, **qwen, promptTokens=None),
    ]
    return Stream(({"type": "begun"}, *rows), "silence")


def grant(number: int, of: int, **limits: Any) -> Json:
    return {"id": number, "model": of, "limits": limits or None, "source": "store"}


USERS = [
    {"id": 42, "name": "Ada Lovelace", "tier": "paid", "organisations": [10], "plans": ["pro"], "source": "file"}
    | {"grants": [grant(1, 1, rpm=30) | {"source": "file"}, grant(2, 2)]},
    {"id": 7, "name": "Bob", "tier": "free", "organisations": [], "plans": [], "source": "store"}
    | {"grants": [grant(3, 3, requests=50, period="day")]},
    {"id": "visitor", "name": None, "tier": "free", "organisations": [], "plans": [], "source": "store", "grants": []}
    | {"enabled": False},
]
ORGANISATIONS = [
    {"id": number, "name": name, "grants": [grant(5, 1)], "source": "store"}
    for number, name in figures.ORGANISATIONS.items()
]
USER_KEYS = [
    {"id": "laptop", "user": 7, "scopes": ["ai:use"], "expires": None, "limits": None, "source": "store"}
    | {"name": "laptop", "last4": "q8Xz", "created": moment(90_000)},
]
COOLDOWNS = [
    {"timestamp": moment(90 + each * 1_900), "modelId": 1, "modelName": "gpt-4o", "waitMs": 20_000}
    | {"endpoint": "https://api.openai.com/v1"}
    for each in range(9)
]
AUDIT = [
    {"time": moment(34), "requestId": REQUEST_ID, "key": "owner", "user": 42, "action": "update", "kind": "link"}
    | {"id": 2, "before": {"limits": {"rpm": 10}}, "after": {"limits": {"rpm": 30}}},
    {"time": moment(190), "requestId": REQUEST_ID, "key": "panel", "user": "panel", "action": "create", "kind": "user"}
    | {"id": 7, "before": None, "after": {"name": "Bob", "tier": "free"}},
]


def explained() -> Json:
    sources: list[Json] = [
        {"source": "user", "id": 42, "name": "Ada Lovelace", "granted": False, "wins": False}
        | {"why": "no link to this model"},
        {"source": "organisation", "id": 10, "name": "Example Org", "granted": True, "wins": True}
        | {"why": "link 5", "linkId": 5, "model": 1},
        {
            "source": "plan",
            "id": "pro",
            "name": None,
            "granted": True,
            "wins": False,
            "why": "an organisation's link wins",
        },
    ]
    limit = {"counts": "organisation 10", "limit": "tokens", "most": 2_000_000, "used": 1_220_000, "window": "month"}
    pool = {"modelId": 1, "model": "gpt-4o", "rotation": "round_robin", "fallback": False, "order": ["openai-b"]}
    verdict = {
        "served": True,
        "why": "granted",
        "code": None,
        "modelId": 1,
        "model": "gpt-4o",
        "source": "organisation",
    }
    return {
        "asked": "gpt-4o",
        "user": {"id": 42, "tier": "paid", "name": "Ada Lovelace", "ageSeconds": 1.5},
        "key": None,
        "verdict": verdict,
        "sources": sources,
        "limits": [limit | {"resetsAt": moment(-60 * 24 * 3)}],
        "pools": [pool | {"endpoints": POOL[:3]}],
    }
