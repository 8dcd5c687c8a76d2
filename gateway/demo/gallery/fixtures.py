"""What the routes answer in the gallery where a state says nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gateway.demo.gallery import figures
from gateway.demo.gallery.answers import REQUEST_ID, Stream, words
from gateway.demo.gallery.figures import MODELS, moment

Json = dict[str, Any]

FILE = "/etc/ecli-gateway/gateway.yaml"
ANSWER = (
    "Worlds are saved *before* the process ends, ",
    "so restarting is **safe**:\n\n",
    "1. Open the console on the machine\n   - as the user that runs the server\n2. Run this:\n\n",
    "```bash\nsudo systemctl restart minecraft\njournalctl -u minecraft -f\n```\n\n",
    "| setting | default | what it does |\n|:--|--:|:--|\n| `RestartSec` | 5 s | waits before it starts again |\n",
    "| `TimeoutStopSec` | 90 s | how long saving may take |\n",
)


def me(**changed: Any) -> Json:
    return {
        "user": 42,
        "name": "Ada Lovelace",
        "tier": "paid",
        "scopes": ["ai:use", "ai:manage", "usage:read"],
        "features": {"ai": True},
        "currency": "USD",
    } | changed


def my_model(number: int, limits: Json | None = None, used: Json | None = None, source: str = "user") -> Json:
    nothing = {"requests": 0, "tokens": 0, "cost": 0}
    model = {"id": number, "name": MODELS[number], "aliases": [], "tags": [], "operations": None}
    link = None if source == "global" else number
    return {"model": model, "limits": limits, "used": nothing | (used or {}), "source": source, "linkId": link}


MY_MODELS = [
    my_model(1, {"period": "month", "tokens": 2_000_000}, {"tokens": 1_220_000}),
    my_model(2, {"period": "day", "requests": 50}, {"requests": 46}, "plan"),
    my_model(3, {"period": "month", "cost": 50}, {"cost": 11.2}, "organisation"),
]


def key(name: str, last4: str, **more: Any) -> Json:
    return {
        "id": f"key-{name}",
        "name": name,
        "last4": last4,
        "scopes": ["ai:use"],
        "models": None,
        "limits": None,
        "ips": [],
        "expires": None,
        "created": moment(90_000),
        "lastUsed": None,
        "source": "store",
    } | more


KEYS = [
    key("laptop", "q8Xz", lastUsed=moment(4)),
    key("nightly job", "3fT0", models=["3"], limits={"requests": 500, "period": "day"}, lastUsed=moment(700)),
    key("old phone", "Zk1a", expires=moment(3_000), ips=["203.0.113.0/24"], lastUsed=moment(60_000)),
    key("chat", "9dWe", source="file", scopes=["ai:use", "ai:manage", "usage:read"], lastUsed=moment(0.5)),
]
MADE_KEY = key("phone", "Hh2m") | {"key": "sk-ecli-EXAMPLE-of-a-key-that-opens-nothing-Hh2m"}


def receipt(number: int, minutes: float, **more: Any) -> Json:
    prompt, completion = 820 + number * 37, 140 + number * 11
    cost, out = round(prompt * 2.5 / 1e6, 6), round(completion * 10 / 1e6, 6)
    return {
        "id": REQUEST_ID if number == 0 else f"{REQUEST_ID[:-2]}{number:02x}",
        "clientRequestId": None,
        "time": moment(minutes),
        "user": 42,
        "organisation": None,
        "key": "laptop",
        "model": 1,
        "name": "gpt-4o",
        "endpoint": "openai-b",
        "route": "/v1/chat/completions",
        "streamed": True,
        "status": 200,
        "outcome": "ok",
        "usageSource": "upstream",
        "serviceTier": None,
        "tokens": {
            "prompt": prompt,
            "completion": completion,
            "total": prompt + completion,
            "cached": 512,
            "reasoning": 0,
            "kinds": {"input": prompt - 512, "cached_input": 512, "output": completion},
        },
        "cost": round(cost + out, 6),
        "parts": {"input": cost, "output": out},
        "currency": "USD",
        "price": {"input": 2.5, "output": 10},
        "firstByteMs": 420.0,
        "durationMs": 3140.0,
        "attempts": [
            {"model": "gpt-4o", "endpoint": "openai-a", "reason": "rate_limited", "status": 429, "ms": 88.0},
            {"model": "gpt-4o", "endpoint": "openai-b", "reason": None, "status": 200, "ms": 3052.0},
        ],
    } | more


def receipts(_: Any = None) -> Json:
    failed = {"status": 502, "outcome": "upstream_error", "cost": 0, "parts": {}, "endpoint": "openai-a"}
    rows = [receipt(each, 6 + each * 41, **(failed if each == 3 else {})) for each in range(8)]
    return {"data": rows, "hasMore": True, "lastId": rows[-1]["id"]}


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


def in_file(**lines: int) -> Json:
    return {"file": FILE, "lines": lines}


def usual() -> dict[str, Any]:
    """Return the answers by "METHOD /path"; a path that ends in * stands for all that begin so."""
    report: Callable[[Any], Json] = figures.report
    return {
        "GET /api/ai/me": me(),
        "GET /api/ai/my-models": MY_MODELS,
        "GET /api/ai/keys": KEYS,
        "POST /api/ai/keys": MADE_KEY,
        "POST /api/ai/keys/*": MADE_KEY,
        "GET /api/ai/usage": report,
        "GET /api/ai/usage/requests": receipts,
        "GET /api/ai/usage/requests/*": receipt(0, 1),
        "POST /v1/chat/completions": words(*ANSWER),
        "GET /api/soc/usage": report,
        "GET /api/soc/usage/*": report,
        "GET /api/admin/ai/models": ADMIN_MODELS,
        "GET /api/admin/ai/endpoints": POOL,
        "GET /api/admin/ai/cooldowns": COOLDOWNS,
        "GET /api/admin/ai/requests": live_requests(),
        "GET /api/admin/file/*": in_file(**{"3": 14, "42": 31}),
        "GET /api/admin/users": USERS,
        "GET /api/admin/organisations": ORGANISATIONS,
        "GET /api/admin/plans": [{"id": "pro", "name": "Pro", "grants": [grant(9, 1)], "source": "file"}],
        "GET /api/admin/keys": USER_KEYS,
        "GET /api/admin/features/*": {"name": "ai", "enabled": True},
        "GET /api/admin/audit": AUDIT,
        "GET /api/admin/explain": explained(),
    }
