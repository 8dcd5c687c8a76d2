"""Objects (contract §12): what upstreams keep, asked of whoever keeps it.

kept_routes.py  rows that need no model, or merely name one
object_asks.py  where the objects of a request live, and what its answers bring
"""
