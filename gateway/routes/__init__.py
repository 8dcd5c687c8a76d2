"""The routes: rows of one table.

table.py    what a row is, and how a path finds its own
openai.py   the OpenAI surface, under two prefixes
ops.py      /healthz, /readyz
"""

from gateway.routes import ops
from gateway.routes.openai import openai_routes
from gateway.routes.table import Route, Router

__all__ = ["Route", "Router", "all_routes"]


def all_routes() -> list[Route]:
    return [*openai_routes(), *ops.ROUTES]
