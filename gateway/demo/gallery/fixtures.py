"""What the gallery's routes answer, unless a state says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.demo.gallery import figures
from gateway.demo.gallery.answers import REQUEST_ID, Fault, words
from gateway.demo.gallery.desk_fixtures import (
    ADMIN_MODELS,
    AUDIT,
    COOLDOWNS,
    ORGANISATIONS,
    POOL,
    USER_KEYS,
    USERS,
    explained,
    grant,
    live_requests,
)
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


def in_file(**lines: int) -> Json:
    return {"file": FILE, "lines": lines}


def usual() -> dict[str, Any]:
    """Return the answers by "METHOD /path"; a last * stands for anything."""
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
        "GET /api/admin/users/42": USERS[0],
        "GET /api/admin/users/7": USERS[1],
        "GET /api/admin/users/*": Fault(404, "not_found", "There is no such user."),
        "GET /api/admin/organisations/10": ORGANISATIONS[0],
        "GET /api/admin/organisations/11": ORGANISATIONS[1],
        "GET /api/admin/plans": [{"id": "pro", "name": "Pro", "grants": [grant(9, 1)], "source": "file"}],
        "GET /api/admin/keys": USER_KEYS,
        "GET /api/admin/features/*": {"name": "ai", "enabled": True},
        "GET /api/admin/audit": AUDIT,
        "GET /api/admin/explain": explained(),
    }
