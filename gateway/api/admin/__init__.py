"""The admin routes (contract §6), one row each.

Each row has the types that go in and come out; `gateway.admin_records` does the work.

typed.py           bodies and answers by their types
model_routes.py    the registry of models, and links to them
owner_routes.py    users, organisations, plans
key_routes.py      API keys
feature_routes.py  switches
watch_routes.py    endpoints, cooldowns, explain, audit
live_routes.py     requests as they run
ticket_routes.py   tickets, with which a panel's users sign in at the pages
"""

from gateway.api.admin import feature_routes as features
from gateway.api.admin import key_routes as keys
from gateway.api.admin import live_routes as live
from gateway.api.admin import model_routes as models
from gateway.api.admin import owner_routes as owners
from gateway.api.admin import watch_routes as watch
from gateway.api.router import Route

__all__ = ["admin_routes"]


def admin_routes() -> list[Route]:
    return [*models.ROUTES, *owners.ROUTES, *keys.ROUTES, *features.ROUTES, *watch.ROUTES, *live.ROUTES]
