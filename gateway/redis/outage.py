"""Log once that Redis is away, and once that it is back."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger


class Outage:
    """The log's lines about one server's connections."""

    def __init__(self, address: object, log: FilteringBoundLogger) -> None:
        self._address = address
        self._log = log
        self._away: set[str] = set()

    def begins(self, connection: str, because: str) -> None:
        if not self._away:
            self._log.warning("redis is away", connection=connection, address=str(self._address), because=because)
        self._away.add(connection)

    def ends(self, connection: str) -> None:
        """Also of a connection that has not been away."""
        if connection in self._away:
            self._away.remove(connection)
            if not self._away:
                self._log.info("redis is back", address=str(self._address))
