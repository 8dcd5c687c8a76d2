"""The routes: rows of one table.

table.py    what a row is, and how a path finds its own
openai.py   the OpenAI surface, under two prefixes
panel.py    chat, studio, discovery, the relay with the model in the URL
admin/      records, keys, features; endpoints, explain, audit
ops.py      /healthz, /readyz
metrics.py  /metrics
usage.py    what was used, as JSON and CSV
openapi/    /openapi.json, made from all of these
"""

from gateway.api import metrics, ops
from gateway.api import panel_routes as panel
from gateway.api import usage_routes as usage
from gateway.api.admin import admin_routes
from gateway.api.openai_routes import openai_routes
from gateway.api.openapi import openapi_route
from gateway.api.router import Route, Router

__all__ = ["Route", "Router", "all_routes"]


def all_routes() -> list[Route]:
    rows = [*openai_routes(), *panel.ROUTES, *usage.ROUTES, *admin_routes(), *ops.ROUTES, *metrics.ROUTES]
    return [*rows, openapi_route(rows)]
