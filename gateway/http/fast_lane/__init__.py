"""The fast lane: frame and answer requests without aiohttp.

It serves the relayed routes and probes; a request for anything else is passed, read and judged, to the application
server (`http.app_server`), whose answer goes out on the same connection. Both may take turns on it.

answering.py      what a request takes of its client's connection, from its bytes to those of its answer
connection.py     the connection's beginning and end, and its turns with the application server
reading.py        bytes that repeat no head before: requests, each for the lane or for the application
writing.py        a stream's pieces as bytes, and the client that reads slowly or not at all
heads.py          heads from bytes: judged by llhttp within bounds of ours; a repeated one is known by its bytes
passage.py        the share of the application server
patience.py       how long a head, and the next request, are waited for
lane_server.py    what a connection takes from the server that made it
incoming_body.py  a body as it arrives: counted, or in chunks
"""

from gateway.http.fast_lane.answering import answer_bytes
from gateway.http.fast_lane.connection import LaneConnection

__all__ = ["LaneConnection", "answer_bytes"]
