"""Made-up usage of the last days, always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

Row = dict[str, Any]
MODELS = {1: "gpt-4o", 2: "claude-sonnet", 3: "qwen-coder", 4: "whisper"}
ENDPOINTS = {1: "openai-a", 2: "anthropic", 3: "rack-7", 4: "openai-b"}
KEYS = ("laptop", "nightly-job", "chat")
USERS: dict[Any, str] = {42: "Ada Lovelace", 7: "Bob", "visitor": "visitor", 1815: "Grace Hopper", 12: "Linus"}
ORGANISATIONS = {10: "Example Org", 11: "Contoso"}
_PER_MODEL = (70, 31, 17, 5)


def day(ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=ago)).date().isoformat()


def moment(minutes_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def amounts(seed: int, scale: int) -> Row:
    """Amounts that look used: some days more, week-ends less."""
    requests = max(1, scale * (30 + seed * seed * 7 % 41) // 50)
    prompt, completion = requests * (310 + seed * 13 % 90), requests * (95 + seed * 29 % 40)
    return {
        "requests": requests,
        "tokens": prompt + completion,
        "promptTokens": prompt,
        "completionTokens": completion,
        "cachedTokens": prompt * (30 + seed * 11 % 25) // 100,
        "cost": round((prompt * 2.5 + completion * 10) / 1e6, 6),
    }


def totals(rows: Iterable[Row]) -> Row:
    sums = dict.fromkeys(("requests", "tokens", "promptTokens", "completionTokens", "cachedTokens", "cost"), 0)
    for row in rows:
        for field in sums:
            sums[field] += row[field]
    sums["cost"] = round(sums["cost"], 6)
    return sums


def _dimension(group: str) -> list[Row]:
    match group:
        case "model":
            return [{"model": number, "name": name} for number, name in MODELS.items()]
        case "endpoint":
            return [{"model": each, "name": name, "endpoint": ENDPOINTS[each]} for each, name in MODELS.items()]
        case "key":
            return [{"key": key} for key in KEYS]
        case "user":
            return [{"user": each} for each in USERS]
        case _:
            return [{"organisation": each} for each in (*ORGANISATIONS, None)]


def report(query: Any, *, days: int = 90, beside: Row | None = None) -> Row:
    """Answer a usage route: rows by `group`, totals of all."""
    groups = [each for each in query.get("group", "").split(",") if each]
    by = next((each for each in groups if each != "day"), None)
    parts = _dimension(by) if by else [{}]
    ago = range(min(days, 1 + _days(query)))
    rows = []
    for place, part in enumerate(parts):
        scale = _PER_MODEL[place % len(_PER_MODEL)]
        per_day = [amounts(number * 3 + place * 5, _of(number, scale)) for number in ago]
        if "day" in groups:
            rows += [{"day": day(number), **part, **each} for number, each in zip(ago, per_day, strict=True)]
        else:
            rows.append(part | totals(per_day))
    if order := query.get("order"):
        rows.sort(key=lambda row: row[order], reverse=True)
    sums = totals(rows)
    return (
        (beside or {})
        | {"from": query.get("from", day(29)), "to": query.get("to", day(0))}
        | {
            "totals": sums,
            "rows": rows,
            "hasMore": False,
            "lastId": None,
        }
    )


def _of(number: int, scale: int) -> int:
    weekday = (datetime.now(UTC) - timedelta(days=number)).weekday()
    return scale if weekday < 5 else scale // 4 + 1


def _days(query: Any) -> int:
    try:
        first, last = (datetime.fromisoformat(query[name]) for name in ("from", "to"))
    except (KeyError, ValueError):
        return 29
    return max(0, (last - first).days)


def nothing(query: Any) -> Row:
    """Answer a usage route where nothing was used."""
    empty = totals([])
    return {"from": query.get("from", day(29)), "to": query.get("to", day(0)), "totals": empty, "rows": []} | {
        "hasMore": False,
        "lastId": None,
    }


Reporter = Callable[[Any], Row]
