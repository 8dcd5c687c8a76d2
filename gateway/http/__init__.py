"""HTTP/1.1 both ways.

In: `fast_lane` for relayed routes and probes, `app_server` (aiohttp) for all others. Out: `client`. What they share:

server.py            the server: a protocol for each connection, one bound for both
message.py           a request as every route sees it, and the client's side of it
reply.py             what a handler returns: whole, or streamed
body_reader.py       a body read whole, within its bounds
framing.py           heads that could be read two ways, refused
bounds.py            what clients are bounded by
connection_limit.py  how many may be connected
memory_budget.py     the bound on memory
write_watch.py       clients that take nothing
content_coding.py    compressed bodies
sse.py               server-sent events
via.py               loops through gateways
"""
