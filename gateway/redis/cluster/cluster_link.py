"""A link to a Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress

from structlog.typing import FilteringBoundLogger

from gateway.redis.cluster.node_addresses import AnyAddress, NodeAddress, SlotAddress
from gateway.redis.cluster.topology import Node, Topology, slot_of
from gateway.redis.connection import START_SECONDS
from gateway.redis.link import RedisLink
from gateway.redis.pipelining import TIMEOUT_SECONDS, Call
from gateway.redis.refusals import Redirection, RedisUnavailable, Reply, is_refusal, redirection
from gateway.redis.script import Part, Script, packed_command
from gateway.redis.subscription import Subscription

_AT_ONCE = 200  # commands in one turn, below what fits a batch
_MOST_PROBE_NAMES = 4096  # that are tried to find one whose slot a node has
_ASKING = packed_command(("ASKING",))


def tag_of(prefix: str) -> str:
    """The prefix of tagged keys: `{gw}:` for `gw:`.

    One that has a tag already stays as it is.
    """
    _, opened, rest = prefix.partition("{")
    if opened and "}" in rest[1:]:
        return prefix
    return "{" + (prefix.rstrip(":") or "gw") + "}:"


class ClusterLink:
    """Send each command to the primary that has its key.

    `prefix`: what keys begin with. What is asked of a primary that is away fails at once, as of one server; the others
    go on.
    """

    is_spread = True

    def __init__(self, topology: Topology, log: FilteringBoundLogger, prefix: str) -> None:
        self.address = topology
        self._topology = topology
        self._log = log
        self._tag = tag_of(prefix)
        self._lanes: dict[Node, RedisLink] = {}
        self._probe_names: dict[Node, str] = {}
        self._probe_prefix: str | None = None
        self._users = 0
        self._whole = asyncio.Event()
        self._moves: set[asyncio.Task[None]] = set()
        self._on_up: list[Callable[[], None]] = [self._note]
        self._on_down: list[Callable[[], None]] = [self._note]
        self.tagged = self._hooked(RedisLink(SlotAddress(topology, slot_of(self._tag.encode())), log))
        topology.on_change(self._follow)
        topology.hasten_unless(lambda: all(lane.is_up for lane in self._all()))

    def __repr__(self) -> str:
        return f"<ClusterLink to {self.address}: {len(self._lanes)} primaries, {'up' if self.is_up else 'down'}>"

    @property
    def is_up(self) -> bool:
        return any(lane.is_up for lane in self._lanes.values())

    @property
    def fault(self) -> str | None:
        found = (f"{lane.address}: {lane.fault}" for lane in self._all() if lane.fault is not None)
        return self._topology.fault or next(found, None)

    @property
    def refused(self) -> str | None:
        found = (f"{lane.address} {lane.refused}" for lane in self._all() if lane.refused is not None)
        return next(found, None)

    def tagged_prefix(self, prefix: str) -> str:
        return tag_of(prefix)

    def probe(self, prefix: str) -> None:
        self._probe_prefix = prefix
        self.tagged.probe(self._tag)
        for node, lane in self._lanes.items():
            self._probe_lane(node, lane)

    def on_up(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a primary has come up."""
        self._on_up.append(listener)

    def on_down(self, listener: Callable[[], None]) -> None:
        self._on_down.append(listener)

    async def wait_up(self) -> None:
        """Wait until all primaries are up."""
        await self._whole.wait()

    async def start(self) -> None:
        """Connect; where that fails, go on trying in the background."""
        self._users += 1
        if self._users == 1:
            self._topology.start()
            with suppress(TimeoutError):
                async with asyncio.timeout(START_SECONDS):
                    await self._topology.looked()
            await asyncio.gather(self.tagged.start(), *self._moves, return_exceptions=True)

    async def stop(self) -> None:
        self._users -= 1
        if self._users > 0:
            return
        await self._topology.stop()
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*self._moves, return_exceptions=True)
        await asyncio.gather(self.tagged.stop(), *(lane.stop() for lane in lanes.values()))

    def subscription(
        self, channels: Mapping[str, Callable[[bytes], None]], on_begin: Callable[[], None]
    ) -> Subscription:
        """Return a subscription on a connection of its own."""
        return Subscription(AnyAddress(self._topology), self._log, channels, on_begin)

    # -- asking

    async def call(self, *command: Part) -> Reply:
        """Send a command. Raises RedisUnavailable within 250 ms.

        Its first argument is its key, but for what has none.
        """
        key = None if command[0] in ("PUBLISH", "PING") else command[1]
        return await self._called(str(command[0]), packed_command(command), None, key)

    async def call_script(self, script: Script, keys: Sequence[Part], *arguments: Part) -> Reply:
        """Run a script. Raises as `call` does."""
        return await self._called("EVALSHA", script.packed(keys, arguments), script, keys[0] if keys else None)

    def send(self, *command: Part) -> None:
        """Send a command without a reply. Lost where its primary is away."""
        lane = self._lane_of(None if command[0] == "PUBLISH" else command[1])
        if lane is not None:
            lane.send(*command)

    async def texts(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read texts, as RedisLink does, each where it is."""
        found: list[bytes | None] = []
        for start in range(0, len(keys), _AT_ONCE):
            replies = await asyncio.gather(*(self.call("MGET", key) for key in keys[start : start + _AT_ONCE]))
            found += [reply[0] for reply in replies]
        return found

    async def scan(self, beginning: str) -> AsyncIterator[list[bytes]]:
        """Yield keys of all primaries; one may come twice.

        Raises as `call` does, and where primaries change meanwhile.
        """
        lanes = dict(self._lanes)
        for lane in lanes.values():
            async for keys in lane.scan(beginning):
                yield keys
        if lanes != self._lanes or not self._topology.map.is_whole:
            raise RedisUnavailable(sent=True)

    async def _called(self, name: str, packed: bytes, script: Script | None, key: Part | None) -> Reply:
        lane = self._lane_of(key)
        if lane is None:
            self._topology.look_again()
            raise RedisUnavailable(sent=False)
        began = asyncio.get_running_loop().time()
        reply = await lane.ask(packed, script)
        if not is_refusal(reply):
            return reply
        way = redirection(reply)
        if way is None:
            lane.refusals.note(name, packed, reply)
            raise RedisUnavailable(sent=True)
        return await self._redirected(way, packed, script, began)

    async def _redirected(self, way: Redirection, packed: bytes, script: Script | None, began: float) -> Reply:
        """Follow a redirection, once, where there is time for it."""
        if not way.once:
            self._topology.look_again()
        lane = self._lanes.get(Node(way.host, way.port))
        if lane is None or asyncio.get_running_loop().time() - began > TIMEOUT_SECONDS / 2:
            raise RedisUnavailable(sent=False)
        if way.once:
            lane.issue(Call(_ASKING, None))
            packed, script = script.with_source(packed) if script is not None else packed, None
        reply = await lane.ask(packed, script, began)
        if is_refusal(reply):
            raise RedisUnavailable(sent=False)
        return reply

    def _lane_of(self, key: Part | None) -> RedisLink | None:
        """Return the connection for a key; without one, any."""
        if key is None:
            return next((lane for lane in self._all() if lane.is_up), None)
        node = self._topology.map.owner(slot_of(key if isinstance(key, bytes) else str(key).encode("utf-8", "replace")))
        return self._lanes.get(node) if node is not None else None

    def _all(self) -> Iterator[RedisLink]:
        yield self.tagged
        yield from self._lanes.values()

    # -- following

    def _follow(self) -> None:
        """Open and close connections as primaries come and go."""
        nodes = self._topology.map.nodes
        for node in self._lanes.keys() - nodes:
            self._probe_names.pop(node, None)
            self._move(self._lanes.pop(node).stop())
        for node in nodes - self._lanes.keys():
            lane = self._lanes[node] = self._hooked(RedisLink(NodeAddress(self._topology, node), self._log))
            self._move(lane.start())
        for node, lane in self._lanes.items():
            self._probe_lane(node, lane)
        self._note()

    def _move(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)

    def _hooked(self, lane: RedisLink) -> RedisLink:
        was_up = False

        def up() -> None:
            nonlocal was_up
            was_up = True
            for listener in self._on_up:
                listener()

        def down() -> None:
            nonlocal was_up
            has_fallen_silent, was_up = was_up and lane.is_silent, False
            if has_fallen_silent:
                for other in self._all():
                    other.hurry()
            for listener in self._on_down:
                listener()

        lane.on_up(up)
        lane.on_down(down)
        return lane

    def _probe_lane(self, node: Node, lane: RedisLink) -> None:
        """Probe by a key that this primary has."""
        prefix = self._probe_prefix
        name = self._probe_names.get(node)
        if prefix is None or (name is not None and self._is_at(node, name)):
            return
        names = (f"{prefix}probe:{number}" for number in range(_MOST_PROBE_NAMES))
        found = next((each for each in names if self._is_at(node, each)), None)
        if found is not None:
            self._probe_names[node] = found
            lane.probe_by(found, found)

    def _is_at(self, node: Node, key: str) -> bool:
        return self._topology.map.owner(slot_of(key.encode())) == node

    def _note(self) -> None:
        """Note whether all primaries are up."""
        if self._topology.fault is None and all(lane.is_up for lane in self._all()):
            self._whole.set()
        else:
            self._whole.clear()
