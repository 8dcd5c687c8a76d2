"""The routes: rows of one table.

router.py            what a row is, and how a path finds its own
middleware.py        around every route: request id, feature flag, caller, errors, the access line
head_reading.py      what a head says; kept while a connection repeats it
runtime.py           everything that follows from one configuration; a request keeps the one it began with
intake.py            bodies of JSON: bounded in size, time, values and memory
openai_routes.py     the OpenAI surface, under two prefixes; its answers, as OpenAI's clients read them
kept/                what upstreams keep: files, stored responses, vector stores
messages_routes.py   Anthropic's protocol, under two prefixes, and its answers
panel_routes.py      chat, studio, discovery, the relay with the model in the URL; panel/: their protocol
admin/               records, keys, features; endpoints, explain, audit; tickets for a panel's users
signed_in.py         a session's cookie as a credential; what keeps other sites out
own_routes.py        what callers may know and keep of themselves: `me`, their keys
usage_routes.py      what was used, as JSON and CSV
receipt_routes.py    single requests: tokens by kind, cost by part, attempts
ops/                 /healthz, /readyz, /metrics
openapi/             /openapi.json, made from all of these
"""

from gateway.api import ops, receipt_routes
from gateway.api import own_routes as own
from gateway.api import panel_routes as panel
from gateway.api import usage_routes as usage
from gateway.api.admin import admin_routes, ticket_routes
from gateway.api.kept.kept_routes import kept_routes
from gateway.api.messages_routes import messages_routes, rows_by_version
from gateway.api.openai_routes import openai_routes
from gateway.api.openapi import openapi_route
from gateway.api.router import Route, Router

__all__ = ["Route", "Router", "all_routes", "rows_by_version"]


def all_routes() -> list[Route]:
    rows = [
        *openai_routes(),
        *kept_routes(),
        *messages_routes(),
        *panel.ROUTES,
        *own.ROUTES,
        *ticket_routes.ROUTES,
        *usage.ROUTES,
        *receipt_routes.ROUTES,
        *admin_routes(),
        *ops.ROUTES,
    ]
    return [*rows, openapi_route(rows)]
