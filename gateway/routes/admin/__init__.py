"""The admin routes (contract §6): each row says what goes in and what comes out; `gateway.registry` does the work.

typed.py     bodies and answers by their types      models.py    the registry of models and links to them
owners.py    users, organisations, plans            keys.py      API keys
features.py  switches                               watch.py     endpoints, cooldowns, explain, audit
"""

from gateway.routes.admin import features, keys, models, owners, watch
from gateway.routes.table import Route

__all__ = ["admin_routes"]


def admin_routes() -> list[Route]:
    return [*models.ROUTES, *owners.ROUTES, *keys.ROUTES, *features.ROUTES, *watch.ROUTES]
