"""Every route by aiohttp's server, through its public API alone.

It is loaded with the first request that it has to serve (`http.server`): this package itself loads nothing of it.

application.py   the aiohttp application: one way in for all routes
exchange.py      one request: our answer as aiohttp's response
leaving_http.py  the answer that leaves HTTP, for WebSockets
"""

from gateway.http.app_server.leaving_http import Upgrade

__all__ = ["Upgrade"]
