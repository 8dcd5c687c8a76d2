"""The HTTP/1.1 client: asyncio.Protocol, llhttp, pooled connections.

    transport = Transport(proxy=Proxy.from_url(url, no_proxy))
    exchange = await transport.exchange(origin, head, body, receiver, connect_timeout=5)
    …                                   # receiver.on_head, on_body*, then on_end or on_failure
    exchange.abort()                    # whenever the answer is not wanted any more

transport.py        a request out and its answer in: what every request takes, from top to bottom
receiver.py         a request on its way, and what receives its answer
connection_pool.py  open connections: made, kept for a while, closed
connection.py       one connection's line: paused, closed, or lost
answer.py           the bounds of an answer, and what is refused of it
sending.py          a body on its way out, piece by piece
dial.py             from a name to an open line: addresses, happy eyeballs, CONNECT, TLS
authorities.py      whose certificates it may show
addresses.py        which addresses an endpoint made at run time may have
proxy.py            whether and how to go through a proxy
request_head.py     the bytes of a request's head
passed_on.py        what of a client's head goes into it
fetch.py            one small document, whole

Requests with HEAD or CONNECT cannot be sent: their answers are framed by other rules.
"""

from __future__ import annotations

from gateway.http.client.authorities import Authorities
from gateway.http.client.connection_pool import Counts
from gateway.http.client.dial import AllowAddress, Origin
from gateway.http.client.proxy import Proxy
from gateway.http.client.receiver import Exchange, Receiver
from gateway.http.client.request_head import request_head
from gateway.http.client.sending import Upload
from gateway.http.client.transport import Transport

__all__ = [
    "AllowAddress",
    "Authorities",
    "Counts",
    "Exchange",
    "Origin",
    "Proxy",
    "Receiver",
    "Transport",
    "Upload",
    "request_head",
]
