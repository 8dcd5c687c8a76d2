"""Which primary of a Cluster has which slots."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from gateway.config.sources.redis_urls import RedisUrl
from gateway.redis.address import Connection, Dialer, Latest, part_of
from gateway.redis.connection import AWAY
from gateway.redis.refusals import Reply, is_refusal, read_reply, shown_error

ASK_SECONDS = 0.5  # in which a node has to answer
LOOK_SECONDS, HASTY_LOOK_SECONDS = 2.0, 0.1  # between two looks: while all is well, and while something is not
_EPOCH = re.compile(r"cluster_current_epoch:(\d+)")
_MOST_ASKED = 3  # nodes, one after the other, each time


class Node(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class SlotMap:
    """The primary of each slot, by the word of one node.

    `epoch`: of the Cluster, as far as that node knows; it grows with each failover.
    """

    def __init__(self, ranges: Sequence[tuple[int, int, Node]], epoch: int = 0) -> None:
        self.epoch = epoch
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, node in ranges:
            self._owners[first : last + 1] = [node] * (last + 1 - first)
        self.nodes = frozenset(node for _, _, node in ranges)
        self.is_whole = None not in self._owners

    def is_same(self, other: SlotMap) -> bool:
        return self._owners == other._owners

    def owner(self, slot: int) -> Node | None:
        return self._owners[slot]


def slot_of(key: bytes) -> int:
    return key_slot(key)


class Topology:
    """Look up slots, again and again: while all is well, seldom.

    `on_change` listeners are called after each change.
    """

    def __init__(self, url: RedisUrl, ca_file: str | None = None, latest: Latest | None = None) -> None:
        """Raise ConfigError for what redis-py does not know."""
        self.dialer = Dialer(url.single, ca_file, part_of(latest, "single"))
        self.map = SlotMap(())
        self.fault: str | None = "not connected yet"
        self._seeds = [Node(*place) for place in url.places]
        self._on_change: list[Callable[[], None]] = []
        self._is_well: Callable[[], bool] = bool
        self._wake = asyncio.Event()
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def on_change(self, listener: Callable[[], None]) -> None:
        self._on_change.append(listener)

    def off_change(self, listener: Callable[[], None]) -> None:
        self._on_change.remove(listener)

    def hasten_unless(self, is_well: Callable[[], bool]) -> None:
        """Look often while this is false."""
        self._is_well = is_well

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def look_again(self) -> None:
        """Something may have moved."""
        self._wake.set()

    async def looked(self) -> None:
        """Wait for the next look, be it in vain."""
        self._looked.clear()
        self._wake.set()
        await self._looked.wait()

    async def _run(self) -> None:
        while True:
            await self._look()
            self._looked.set()
            with suppress(TimeoutError):
                is_well = self.fault is None and self._is_well()
                async with asyncio.timeout(LOOK_SECONDS if is_well else HASTY_LOOK_SECONDS):
                    await self._wake.wait()
                await asyncio.sleep(HASTY_LOOK_SECONDS)  # many who ask for it are one look
            self._wake.clear()

    async def _look(self) -> None:
        """Ask some nodes, those that are known before the URL's.

        One that is cut off from the others knows an older epoch: it counts where all do.
        """
        known = list(self.map.nodes)
        random.shuffle(known)
        reasons: dict[str, None] = {}
        behind: list[SlotMap] = []
        for node in [*known[:_MOST_ASKED], *self._seeds]:
            try:
                found = await self._ask(node)
            except AWAY as error:
                reasons[shown_error(error)] = None
                continue
            if found.epoch >= self.map.epoch:
                self._take(found)
                return
            behind.append(found)
        if behind:
            self._take(max(behind, key=lambda each: each.epoch))
        else:
            self.fault = "; ".join(reasons) or "no node has a slot"

    def _take(self, found: SlotMap) -> None:
        before, self.map = self.map, found
        self.fault = None if found.is_whole else "slots that no primary has"
        if not before.is_same(found):
            for listener in list(self._on_change):
                listener()

    async def _ask(self, node: Node) -> SlotMap:
        """Raise RedisError, OSError or TimeoutError."""
        async with asyncio.timeout(ASK_SECONDS):
            connection = await self.dialer.open(*node)
            try:
                return await asked_slots(connection, node)
            finally:
                with suppress(*AWAY):
                    await connection.disconnect(nowait=True)

    def __str__(self) -> str:
        return "Cluster " + ",".join(map(str, self._seeds))


async def asked_slots(connection: Connection, node: Node) -> SlotMap:
    """Ask a node for the slots. Raises RedisError."""
    await connection.send_command("CLUSTER", "SLOTS")
    reply = await read_reply(connection)
    if is_refusal(reply):
        raise RedisError(shown_error(reply))
    await connection.send_command("CLUSTER", "INFO")
    epoch = _EPOCH.search(str(await read_reply(connection)))
    return SlotMap(_ranges(reply, node), int(epoch[1]) if epoch else 0)


def _ranges(reply: Reply, asked: Node) -> list[tuple[int, int, Node]]:
    """Read ranges; a node without a host is the one asked."""
    found: list[tuple[int, int, Node]] = []
    for first, last, primary, *_ in reply:
        host = primary[0].decode() if primary[0] else asked.host
        if host != "?":  # it does not know it either
            found.append((first, last, Node(host, primary[1])))
    return found
