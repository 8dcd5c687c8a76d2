"""The one way in: aiohttp's server, taught the gateway's manners.

aiohttp parses the requests. What is ours here is what a relay needs beyond that: a head that is not parsed again where
a client repeats it, a request without what nobody asks for, an answer whose head and body are written at once, a stream
whose events go straight to the client's transport, the client's time-outs, and the difference between a client that has
gone (FIN or RST) and one that is merely done sending.

    Server ── makes ──> Connection (one a client) ── hands a Request over for ──> Answer | EventStream

server.py      the server, which makes the connections and closes them
connection.py  one request after another on each of them, the time-outs, the parser's errors
head.py        heads, and how one is known again
replies.py     requests, the two kinds of answer, and how they are written
bodies.py      request bodies, bounded in size and time
"""

from gateway.http.server_old.bodies import Large, read_body
from gateway.http.server_old.connection import Connection
from gateway.http.server_old.replies import Answer, EventStream, Headers, Reply, Request, head_bytes
from gateway.http.server_old.server import Server

__all__ = [
    "Answer",
    "Connection",
    "EventStream",
    "Headers",
    "Large",
    "Reply",
    "Request",
    "Server",
    "head_bytes",
    "read_body",
]
