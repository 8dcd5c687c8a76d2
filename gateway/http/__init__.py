"""HTTP/1.1 both ways.

In: `fast_lane` for relayed routes, `app_server` (aiohttp) for all others. Out: `client`. What they share: server-sent
events, content codings, framing rules, the bound on memory.
"""
