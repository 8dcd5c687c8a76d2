"""The end of a gateway whose successor serves already: no request is refused, and the last ones move over.

Each request on a connection that was kept alive is served, and answered with `connection: close`. A connection on
which nothing comes is closed after a moment. What HTTP/1.1 leaves open is a request that is on its way at the very
moment of that closing: clients see it fail before any answer, as they do when a keep-alive time-out strikes, and may
send it again. Nothing that has reached this machine is closed upon.
"""

from __future__ import annotations

import asyncio
import select

from gateway.http.server_old import Connection, Server

# Long enough for a busy client's next request, which moves it over; short, because with the embedded store new
# connections wait for it.
IDLE_SECONDS = 1.0
LOOK_SECONDS = 0.05


async def retire(server: Server, stop: asyncio.Event, seconds: float) -> None:
    """Returns when every connection has ended, `seconds` are over, or `stop` is set."""
    server.retiring = True
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    idle_since: dict[Connection, float] = {}
    while server.connections and not stop.is_set() and (now := loop.time()) < deadline:
        idle = [one for one in server.connections if isinstance(one, Connection) and one.is_idle]
        idle_since = {connection: idle_since.get(connection, now) for connection in idle}
        _close([one for one, since in idle_since.items() if now - since >= IDLE_SECONDS])
        await asyncio.sleep(LOOK_SECONDS)


def _close(connections: list[Connection]) -> None:
    """Closes those for which the kernel holds no bytes that the loop has not been told of yet."""
    by_descriptor = {one.transport.get_extra_info("socket").fileno(): one for one in connections if one.transport}
    poll = select.poll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    pending = {descriptor for descriptor, _ in poll.poll(0)}
    for descriptor, connection in by_descriptor.items():
        if descriptor not in pending:
            connection.force_close()
