"""Where the connections of a Cluster's link lead."""

from __future__ import annotations

import asyncio
import random

from redis.exceptions import RedisError

from gateway.redis.address import Connection, place_of
from gateway.redis.cluster.topology import Node, Topology
from gateway.redis.refusals import Refusal, is_demoted


class NodeAddress:
    """One node, for as long as it is a primary."""

    def __init__(self, topology: Topology, node: Node) -> None:
        self._topology = topology
        self._node = node

    async def connect(self) -> Connection:
        return await self._topology.dialer.open(*self._node)

    async def watch(self, connection: Connection) -> None:
        """Wait for ever: the link drops former primaries."""
        await asyncio.Event().wait()

    def is_misplaced(self, refusal: Refusal) -> bool:
        """Look where things are, and go on with what is still here."""
        if is_demoted(refusal):
            self._topology.look_again()
        return False

    def __str__(self) -> str:
        return str(self._node)


class SlotAddress:
    """The primary of one slot, whichever that is."""

    def __init__(self, topology: Topology, slot: int) -> None:
        self._topology = topology
        self._slot = slot

    async def connect(self) -> Connection:
        """Connect to it. Raises RedisError, OSError or TimeoutError."""
        node = self._topology.map.owner(self._slot)
        if node is None:
            await self._topology.looked()
            node = self._topology.map.owner(self._slot)
        if node is None:
            raise RedisError(self._topology.fault or "no primary has the slot")
        try:
            return await self._topology.dialer.open(*node)
        except BaseException:
            self._topology.look_again()
            raise

    async def watch(self, connection: Connection) -> None:
        """Return once another primary has the slot."""
        moved = asyncio.Event()
        place = Node(*place_of(connection))

        def look() -> None:
            if self._topology.map.owner(self._slot) != place:
                moved.set()

        self._topology.on_change(look)
        try:
            look()
            await moved.wait()
        finally:
            self._topology.off_change(look)

    def is_misplaced(self, refusal: Refusal) -> bool:
        if is_demoted(refusal):
            self._topology.look_again()
            return True
        return False

    def __str__(self) -> str:
        return f"{self._topology}, slot {self._slot}"


class AnyAddress:
    """Any primary: what is published at one reaches all."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    async def connect(self) -> Connection:
        """Connect to one. Raises RedisError, OSError or TimeoutError."""
        if not self._topology.map.nodes:
            await self._topology.looked()
        nodes = list(self._topology.map.nodes)
        if not nodes:
            raise RedisError(self._topology.fault or "no primary is known")
        return await self._topology.dialer.open(*random.choice(nodes))

    async def watch(self, connection: Connection) -> None:
        """Return once it is no primary, and may be cut off."""
        gone = asyncio.Event()
        place = Node(*place_of(connection))

        def look() -> None:
            if place not in self._topology.map.nodes:
                gone.set()

        self._topology.on_change(look)
        try:
            look()
            await gone.wait()
        finally:
            self._topology.off_change(look)

    def is_misplaced(self, refusal: Refusal) -> bool:
        return False

    def __str__(self) -> str:
        return str(self._topology)
