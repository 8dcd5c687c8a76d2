"""Relay an admitted request through a pool of upstream endpoints.

ask.py          what is asked of it: routes, and a request that may be relayed
story.py        one request: pick an endpoint, try it, on failure the next, then stream or answer
responder.py    what the client gets: an answer, a stream or an error, and the end of the books
attempt.py      one try against one endpoint: gathers a whole answer or watches over a stream
opening.py      its first bytes: what they are, and whether a stream has begun
deadline.py     the time by which something has to come
holding.py      what is held of an answer before it goes out
live.py         a stream that has begun: what of it passes, and whether it is whole
judging.py      what an upstream's answer means: for the request, and for the endpoint
failures.py     what stood in the way, and the error that it comes to
refused.py      what of an upstream's refusal the client may see
masking.py      secrets of an endpoint, unreadable in whatever spelling
heartbeat.py    signs of life before a stream's first event
outlet.py       one endpoint's side of the wire: request heads, which of its headers pass
overheard.py    what an upstream said when it failed, for the log
own_headers.py  what answers say of the gateway
upstreams.py    the pools and outlets of all models, made when first needed, kept across reloads
seen.py         what was seen of an answer, for the books, which accounts.py keeps
"""
