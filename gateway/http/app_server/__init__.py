"""Every route by aiohttp's server, through its public API alone.

application.py  the aiohttp application: one way in for all routes
exchange.py     one request: aiohttp's in, ours out, and the answer the other way round
"""

from gateway.http.app_server.application import ApplicationServer

__all__ = ["ApplicationServer"]
