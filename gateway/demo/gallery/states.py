"""The states of the users' pages: answers, and what was done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gateway.demo.gallery import figures
from gateway.demo.gallery.answers import Broken, Fault, InTurn, Silence, Stream, words
from gateway.demo.gallery.fixtures import ANSWER, me, my_model

Steps = tuple[tuple[str, ...], ...]

SEND: tuple[str, ...] = ("key", "Message", "Enter")
ASK: Steps = (("see", "What would you like to know?"), ("write", "Message", "How do I restart my server?"), SEND)
NO_SESSION = Fault(401, "missing_api_key", "Give an API key.")
ENDED = Fault(401, "invalid_api_key", "This key is not valid.")
NO_RECEIPT: dict[str, Any] = {"GET /api/ai/usage/requests/*": Fault(404, "request_not_found", "There is none.")}
NO_REQUESTS = {"data": [], "hasMore": False, "lastId": None}
USER = me(scopes=["ai:use"])
CHAT, STUDIO, USAGE = "POST /v1/chat/completions", "POST /api/ai/studio", "GET /api/ai/usage"
MODELS, KEYS_ROUTE = "GET /api/ai/my-models", "GET /api/ai/keys"


class State(NamedTuple):
    """A page in a state.

    `answers` lie over the usual ones. `steps`: what `scene.js` does; the last one sees that the state is reached.
    """

    name: str
    page: str
    about: str
    steps: Steps
    answers: Mapping[str, Any] = {}
    query: str = ""
    conversations: tuple[Any, ...] = ()


def conversation(number: int, title: str, days_ago: float) -> dict[str, Any]:
    then = datetime.now(UTC).timestamp() * 1000 - days_ago * 86_400_000
    turns = [
        {"id": f"q{number}", "role": "user", "text": title},
        {"id": f"a{number}", "role": "assistant", "text": "Yes.", "model": "gpt-4o", "tokens": None, "finish": "stop"},
    ]
    known = {"id": f"c{number}", "title": title, "model": "gpt-4o", "revision": 1, "turns": turns}
    return known | {"created": then, "updated": then}


def before() -> tuple[Any, ...]:
    """Return the conversations of days before."""
    return (
        conversation(1, "Can players be told before it stops?", 0.01),
        conversation(2, "A name for a quiet server", 1.0),
        conversation(3, "Translate this into French", 4.0),
        conversation(4, "Why does the backup take so long?", 40.0),
    )


def refused(name: str, about: str, fault: Fault | Broken, seen: str, **more: Any) -> State:
    """Return a chat whose question was refused."""
    return State(f"chat-{name}", "ai-chat", about, (*ASK, ("see", seen)), NO_RECEIPT | {CHAT: fault, **more})


STATES: tuple[State, ...] = (
    State("sign-in", "session", "Nobody is signed in", (("see", "Sign in"),), {"GET /api/ai/me": NO_SESSION}),
    State(
        "sign-in-wrong",
        "session",
        "The key is not valid",
        (("write", "Your key", "sk-wrong"), ("press", "Sign in"), ("see", "This key is not valid.")),
        {"GET /api/ai/me": NO_SESSION, "POST /dashboard/session": ENDED},
    ),
    State(
        "sign-in-ticket-over",
        "session",
        "A panel's link was used already, or is too old",
        (("see", "This link was used already"),),
        {"GET /api/ai/me": NO_SESSION, "POST /dashboard/session": Fault(401, "invalid_ticket", "The ticket is over.")},
        "?ticket=over",
    ),
    State(
        "sign-in-somebody",
        "session",
        "Somebody else is signed in",
        (("see", "Somebody is signed in"),),
        {},
        "?ticket=x",
    ),
    State("not-yours", "fleet", "A page of operators", (("see", "Not yours"),), {"GET /api/ai/me": USER}),
    State(
        "feature-off",
        "ai-chat",
        "The feature is off: users' pages",
        (("see", "AI is switched off"),),
        {"GET /api/ai/me": me(features={"ai": False})},
    ),
    State(
        "more",
        "fleet",
        "On a narrow screen: the pages behind More",
        (("see", "cooling"), ("narrow", "press", "More"), ("see", "Fleet")),
    ),
    State("page-keys", "keys", "Which keys there are: ?", (("see", "nightly job"), ("key", "", "?"), ("see", "g c"))),
    State("chat-empty", "ai-chat", "The first question", (("see", "What would you like to know?"),)),
    State(
        "chat-answer",
        "ai-chat",
        "An answer with its receipt",
        (*ASK, ("see", "412 tokens"), ("find", "dialog, .counted")),
        {},
        "",
        before(),
    ),
    State("chat-waiting", "ai-chat", "Before the first word", (*ASK, ("find", ".dots")), {CHAT: Stream((), "silence")}),
    State(
        "chat-writing",
        "ai-chat",
        "Words come",
        (*ASK, ("see", "Open the console"), ("see", "Stop")),
        {CHAT: words(*ANSWER[:3], then="silence")},
    ),
    State(
        "chat-broken",
        "ai-chat",
        "The stream broke",
        (*ASK, ("see", "The answer broke off")),
        NO_RECEIPT | {CHAT: words(*ANSWER[:2], then="break")},
    ),
    State(
        "chat-no-model",
        "ai-chat",
        "Nobody granted a model",
        (("see", "No model yet"),),
        {MODELS: [], "GET /api/ai/me": USER},
    ),
    refused(
        "limit",
        "A limit is used up",
        Fault(429, "insufficient_quota", "The limit of requests is used up."),
        "You have used your 50 requests for today",
        **{MODELS: [my_model(1, {"period": "day", "requests": 50}, {"requests": 50})]},
    ),
    refused(
        "too-fast", "Too many in a minute", Fault(429, "rate_limit_exceeded", "30 requests a minute.", 21), "Too fast"
    ),
    refused(
        "cooling", "Every upstream cools", Fault(429, "upstream_rate_limited", "Every endpoint cools.", 12), "in 12 s"
    ),
    refused(
        "failed", "The upstream failed", Fault(502, "upstream_error", "Bad gateway."), "The model could not answer"
    ),
    refused("late", "No answer in time", Fault(504, "upstream_timeout", "Too late."), "No answer in time"),
    refused("busy", "The gateway is full", Fault(503, "overloaded", "Too many requests.", 2), "The gateway is busy"),
    refused("store-away", "The store is away", Fault(503, "store_unavailable", "The store is away.", 5), "Not at the"),
    refused("offline", "The gateway cannot be reached", Broken(), "You are offline"),
    refused("session-over", "The session ended while writing", ENDED, "Your session is over"),
    State(
        "chat-list",
        "ai-chat",
        "The list of conversations, on a narrow screen behind ☰",
        (("see", "What would"), ("find", ".history a"), ("press", "This conversation"), ("find", "details[open]")),
        {},
        "",
        before(),
    ),
    State(
        "studio", "ai-studio", "Settings and one model", (("see", "The answer comes here."),), {STUDIO: Fault(400, "x")}
    ),
    State(
        "studio-two",
        "ai-studio",
        "Two models, one schema",
        (
            ("write", "System prompt", "You sort what customers write."),
            ("write", "Message", "My server has been down since this morning!"),
            ("press", "Structured output"),
            ("press", "Compare two"),
            ("press", "Run"),
            ("see", "412 tokens"),
            ("see", "Not in the schema"),
        ),
        {
            STUDIO: InTurn(
                (
                    Fault(400, "invalid_request"),
                    Stream(
                        (
                            {"delta": '{"title": "Server down",'},
                            {"delta": ' "score": 9}'},
                            *[
                                {"reply": "", "model": "gpt-4o", "finishReason": "stop"}
                                | {"usage": {"prompt_tokens": 164, "completion_tokens": 248, "total_tokens": 412}},
                                "[DONE]",
                            ],
                        )
                    ),
                    Stream(({"delta": '{"title": "Outage", "score": "high"}'}, {"reply": "", "finishReason": "stop"})),
                )
            )
        },
    ),
    State(
        "studio-schema",
        "ai-studio",
        "A mistake in the schema",
        (
            ("press", "Structured output"),
            ("write", "JSON schema", '{"type": "object",\n "properties": {"a": {"type": "text"}}}'),
            ("see", "is no type"),
        ),
        {STUDIO: Fault(400, "invalid_request")},
    ),
    State(
        "studio-code",
        "ai-studio",
        "The request as code",
        (("write", "Message", "Hello!"), ("press", "Copy as code"), ("see", "This request as code")),
        {STUDIO: Fault(400, "invalid_request")},
    ),
    State(
        "studio-tier",
        "ai-studio",
        "The tier is too low",
        (("see", "It needs the tier paid"),),
        {
            STUDIO: Fault(403, "tier_required", "This needs the tier paid.", more={"required": "paid"}),
            "GET /api/ai/me": me(scopes=["ai:use"], tier="free"),
        },
    ),
    State("usage", "usage", "What was used, by model", (("see", "As a table"), ("find", ".receipt"))),
    State(
        "usage-one",
        "usage",
        "One model, its requests, a receipt",
        (("see", "Only model"), ("press", "6 minutes ago"), ("see", "Part"), ("look", ".receipt[open]")),
        {},
        "?only=1&measure=tokens",
    ),
    State(
        "usage-empty",
        "usage",
        "Nothing used yet",
        (("see", "Nothing used"),),
        {USAGE: figures.nothing, MODELS: [], "GET /api/ai/usage/requests": NO_REQUESTS},
    ),
    State(
        "usage-loading",
        "usage",
        "It takes long",
        (("find", ".skeleton"),),
        {USAGE: Silence(), MODELS: Silence(), "GET /api/ai/usage/requests": Silence()},
    ),
    State(
        "usage-limits",
        "usage",
        "Limits used up, and nearly",
        (("see", "Used up"), ("see", "As a table")),
        {
            MODELS: [
                my_model(1, {"period": "day", "requests": 50}, {"requests": 50}),
                my_model(2, {"period": "month", "tokens": 400_000}, {"tokens": 371_000}, "organisation"),
                my_model(3, {"period": "hour", "cost": 2}, {"cost": 0.31}),
            ]
        },
    ),
    State(
        "usage-partial",
        "usage",
        "More than fits",
        (("see", "There is more than fits"),),
        {USAGE: lambda query: figures.report(query) | {"hasMore": True}},
    ),
    State(
        "usage-error",
        "usage",
        "It cannot be told now",
        (("see", "Not at the moment"),),
        {USAGE: Fault(503, "store_unavailable", "The database of usage is away.", 5)},
    ),
    State(
        "usage-offline",
        "usage",
        "Offline: what was there stays",
        (("see", "As a table"), ("press", "7 d"), ("see", "You are offline")),
        {USAGE: InTurn((figures.report, Broken()))},
    ),
    State("keys", "keys", "One's own keys", (("see", "nightly job"), ("see", "pip install openai"))),
    State("keys-empty", "keys", "No key yet", (("see", "No key yet"),), {KEYS_ROUTE: [], "GET /api/ai/me": USER}),
    State("keys-new", "keys", "A new key's form", (("press", "New key"), ("see", "What it may do"))),
    State(
        "keys-made",
        "keys",
        "The key, once",
        (("press", "New key"), ("write", "Name", "phone"), ("press", "Make key"), ("see", "It is shown this once")),
    ),
    State(
        "keys-too-many",
        "keys",
        "No more keys",
        (("press", "New key"), ("write", "Name", "phone"), ("press", "Make key"), ("see", "at most 10 keys")),
        {"POST /api/ai/keys": Fault(409, "too_many_keys", "You may have at most 10 keys; revoke one first.")},
    ),
    State("keys-rotate", "keys", "Rotating a key", (("press", "Rotate laptop"), ("see", "It gets a new text"))),
    State("keys-revoke", "keys", "Revoking asks by name", (("press", "Revoke laptop"), ("see", "cannot be undone"))),
    State(
        "keys-error",
        "keys",
        "They cannot be told",
        (("see", "Not at"),),
        {KEYS_ROUTE: Fault(503, "store_unavailable", "Redis cannot be reached.", 5)},
    ),
)
