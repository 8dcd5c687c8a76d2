"""What fate and operators do while the load runs: each a small thing, at times that the dice choose."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from torture.book import Book
from torture.gateways import Gateway
from torture.house import GRANTED, House

_BROKEN_FILE = "models:\n  - {id: 1, nmae: mistyped}\n"
_USER = "stranger"  # whose key is in the file, and whose grants are not


class Troubles:
    """`done` counts each kind of trouble."""

    def __init__(self, house: House, book: Book) -> None:
        self.house = house
        self.book = book
        self.done: Counter[str] = Counter()
        self._began = asyncio.get_running_loop().time()

    async def run(self, over: asyncio.Event) -> None:
        """Until it is over, by which time everything that was taken away is back."""
        every: list[tuple[str, float, Callable[[], Awaitable[None]]]] = [
            ("file changed", 7.0, self._file_changed),
            ("file broken and mended", 11.0, self._file_broken),
            ("SIGHUP", 5.0, self._hangup),
            ("cooldowns reset", 0.7, self._cooldowns_reset),
            ("grant made and taken away", 3.0, self._grant_comes_and_goes),
            *self._kills(),
        ]
        if self.house.redis is not None:
            every.append(("Redis away", self._seconds_between(15), self._redis_leaves))
        async with asyncio.TaskGroup() as troubles:
            for name, seconds, trouble in every:
                troubles.create_task(self._again_and_again(name, seconds, trouble, over))

    def _kills(self) -> list[tuple[str, float, Callable[[], Awaitable[None]]]]:
        """A process alone: it is the gateway. Two workers: one beside the other. A fleet: everything in turn."""
        if self.house.options.is_fleet:
            return [
                ("kill -9 of a worker", self._seconds_between(20), self._kill_worker),
                ("kill -9 of a gateway", self._seconds_between(15), self._kill_gateway),
                ("database away", self._seconds_between(15), self._database_leaves),
            ]
        kill = self._kill_worker if self.house.options.workers > 1 else self._kill_gateway
        return [("kill -9", self._seconds_between(20), kill)]

    def _seconds_between(self, times: int) -> float:
        """The rare ones: so many times in a run, yet not without a pause."""
        return max(3.0, self.house.options.kills_until / times)

    async def _again_and_again(
        self, name: str, seconds: float, trouble: Callable[[], Awaitable[None]], over: asyncio.Event
    ) -> None:
        while not await _set_within(over, seconds * (0.5 + self.house.dice.random())):
            if name.startswith("kill -9") and self._age() > self.house.options.kills_until:
                return
            await self.house.up()
            try:
                async with asyncio.timeout(100):
                    await trouble()
            except (ConnectionError, asyncio.IncompleteReadError):
                continue  # a gateway that was killed meanwhile; a client would ask again
            except (TimeoutError, AssertionError) as error:
                self.book.wrong(f"{name}: not done: {error!r}")
            self.done[name] += 1

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def _file_changed(self) -> None:
        self.house.write_config(self._some_gateway())

    async def _file_broken(self) -> None:
        gateway = self._some_gateway()
        async with gateway.good_file:
            self.house.write_config(gateway, _BROKEN_FILE)
            await asyncio.sleep(0.5)
            self.house.write_config(gateway)

    async def _hangup(self) -> None:
        self._some_gateway().hang_up()

    async def _cooldowns_reset(self) -> None:
        reply = await self.house.call("GET", "/api/admin/ai/endpoints")
        if self._is_answer(reply.status):
            for each in reply.json():
                if each["secondsLeft"] > 0:
                    target = f"/api/admin/ai/endpoints/{each['modelId']}/{each['endpointId']}/cooldown"
                    self._is_answer((await self.house.call("DELETE", target)).status)

    async def _grant_comes_and_goes(self) -> None:
        about = f"/api/admin/ai/models/id-{GRANTED}"
        self._is_answer((await self.house.call("POST", f"{about}/link-user", {"userId": _USER})).status)
        await asyncio.sleep(1)
        self._is_answer((await self.house.call("DELETE", f"{about}/unlink-user/{_USER}")).status, 404)

    async def _kill_worker(self) -> None:
        await self._some_gateway().kill_worker()

    async def _kill_gateway(self) -> None:
        await self._some_gateway().kill()

    async def _database_leaves(self) -> None:
        await self.house.database_leaves(0.5 + 4 * self.house.dice.random())

    async def _redis_leaves(self) -> None:
        await self.house.redis_leaves(0.5 + 2 * self.house.dice.random())

    def _some_gateway(self) -> Gateway:
        return self.house.any_gateway(self.house.dice)

    def _is_answer(self, status: int, *others: int) -> bool:
        """Whether it was done. 503 may be said while Redis is away, 404 of what Redis forgot."""
        excused = {503} if self.house.redis is not None else set()
        if status not in {200, 201, 204, *others} | excused:
            self.book.wrong(f"an admin route answered {status}")
        return 200 <= status < 300


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
