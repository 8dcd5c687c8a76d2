"""The states of the operators' pages."""

from __future__ import annotations

from gateway.demo.gallery import figures
from gateway.demo.gallery.answers import Broken, Fault, Silence
from gateway.demo.gallery.fixtures import me
from gateway.demo.gallery.states import State

_AWAY = Fault(503, "store_unavailable", "Redis cannot be reached.", 5)

DESK_STATES: tuple[State, ...] = (
    State("models", "models", "Every model", (("see", "qwen-coder"),)),
    State("models-empty", "models", "No model yet", (("see", "Make the first"),), {"GET /api/admin/ai/models": []}),
    State(
        "models-new", "models", "A new model", (("see", "qwen-coder"), ("press", "New model"), ("see", "Credential"))
    ),
    State("models-edit", "models", "A model of the store", (("press", "gpt-4o"), ("see", "There is one; it is never"))),
    State("models-file", "models", "A model of the file", (("press", "qwen-coder"), ("see", "Defined in"))),
    State(
        "models-refused",
        "models",
        "The gateway refuses a change",
        (("press", "gpt-4o"), ("press", "Save"), ("see", "may not be used")),
        {"PUT /api/admin/ai/models/*": Fault(400, "endpoint_not_allowed", "The address 10.0.0.1 may not be used.")},
    ),
    State("models-error", "models", "They cannot be told", (("see", "Not at"),), {"GET /api/admin/ai/models": _AWAY}),
    State("users", "users", "Every user", (("see", "Ada Lovelace"),)),
    State("users-empty", "users", "No user yet", (("see", "No user yet"),), {"GET /api/admin/users": []}),
    State("users-panel", "users", "A user with links and keys", (("press", "Bob"), ("see", "Link"), ("see", "q8Xz"))),
    State("organisations", "users", "Organisations", (("see", "Contoso"),), {}, "?of=organisations"),
    State("features", "users", "Feature switches", (("see", "models answer nobody"),), {}, "?of=features"),
    State("fleet", "fleet", "The pool, and requests as they run", (("see", "cooling"), ("see", "upstream error"))),
    State(
        "fleet-explain",
        "fleet",
        "Why a request would be served as it is",
        (
            ("write", "Who", "42"),
            ("write", "Modelempty", "gpt-4o"),
            ("press", "Explain"),
            ("see", "would get gpt-4o"),
            ("look", ".sentence"),
        ),
    ),
    State("fleet-empty", "fleet", "No model yet", (("see", "Make a model"),), {"GET /api/admin/ai/endpoints": []}),
    State(
        "fleet-offline",
        "fleet",
        "The gateway cannot be reached",
        (("see", "You are offline"), ("see", "trying again")),
        {
            "GET /api/admin/ai/endpoints": Broken(),
            "GET /api/admin/ai/requests": Broken(),
            "GET /api/admin/audit": Broken(),
        },
    ),
    State(
        "fleet-loading",
        "fleet",
        "It takes long",
        (("find", ".skeleton"),),
        {"GET /api/admin/ai/endpoints": Silence(), "GET /api/admin/audit": Silence()},
    ),
    State(
        "soc",
        "soc",
        "Everybody's usage",
        (("see", "Most by user"), ("see", "Ada Lovelace 42"), ("see", "Contoso 11")),
        {},
        "?days=90",
    ),
    State("soc-user", "soc", "One user's usage", (("see", "As a table"),), {}, "?user=42&by=endpoint&measure=requests"),
    State(
        "soc-empty",
        "soc",
        "Nothing used",
        (("see", "Nothing used"), ("see", "No upstream has asked us to wait")),
        {"GET /api/soc/usage": figures.nothing, "GET /api/admin/ai/cooldowns": []},
    ),
    State(
        "soc-reader",
        "soc",
        "A reader of usage who manages nothing",
        (("see", "Most by user"),),
        {"GET /api/ai/me": me(scopes=["ai:use", "usage:read"])},
    ),
)
