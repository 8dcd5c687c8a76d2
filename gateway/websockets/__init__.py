"""WebSockets: agents' /v1/responses, and /v1/realtime (contract §13).

routes.py             the rows; what serves them is loaded with the first
handshakes.py         start here: the two handshakes, answered or refused as HTTP
sockets.py            all open sockets: their keys, pings, silence, and their end in a drain
session.py            one client's socket, and what the requests on it share
responses_session.py  /v1/responses: its first `create` decides between the two ways
responses_relay.py    one upstream socket, frame by frame
bridge/               no upstream socket: each `create` is relayed as a stream
realtime_session.py   /v1/realtime, frame by frame
request.py            one response on a relayed socket: its call, account, lease and meter
waiting.py            its wait for an endpoint, and that of a socket that opens
socket_objects.py     ids that messages name and events bring
upstream_choice.py    which endpoint: take, connect, ask, judge the first event
upstream_socket.py    one WebSocket to an endpoint
frames.py             messages: what is read of them, and our own
"""

from gateway.websockets.routes import SocketPaths, socket_routes

__all__ = ["SocketPaths", "socket_routes"]
