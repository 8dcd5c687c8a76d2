"""Where a conversation's turns go under `cache_affinity`: eight endpoints, four workers, a Redis of their own.

A command of its own: `python -m bench.affinity [--json]`.

Conversations say a turn after the other, each on a connection of its own, so that any worker may get it; their
`prompt_cache_key` names them. Two loads: one conversation at a time, and many at once, where an endpoint that has more
than 1.25 of its share in flight is passed over. What the choice costs is CPU time in this process: by the beginning of
the messages, which is the dearest way, less what turning round among the same endpoints costs.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import orjson

from bench import targets
from bench.processes import Process, free_port, running
from bench.targets import Place, Target
from bench.upstream import WHOLE_ANSWER
from bench.wire import MODEL, PROVIDER_MODEL, body_bytes, make_request
from gateway.dialects.affinity import affinity_of
from gateway.pool.rotation import Tier
from gateway.pool.state import Slot
from gateway.types import ApiKey, Caller, Endpoint, User

ENDPOINTS, WORKERS = 8, 4
TURNS = 5
SECONDS_OF_AN_ANSWER = 0.02
START_SECONDS = 30
CHOICES, ROUNDS = 20_000, 5
QUESTION = orjson.loads(body_bytes("chat"))
KEY = "sk-affinity-0123456789abcdefghi"


class Affinity(msgspec.Struct, frozen=True):
    """`together_percent`: of the turns, those at the endpoint that had most of their conversation."""

    at_once: int
    conversations: int
    together_percent: float
    skew: float  # the busiest endpoint's turns to the mean
    choice_us: float
    wrong: int  # answers other than 200


class _Endpoints:
    """Eight listeners; who was asked by which session."""

    def __init__(self) -> None:
        self.turns: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.seconds_of_an_answer = 0.0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[list[int]]:
        servers = [
            await asyncio.start_server(partial(self._answer, number), "127.0.0.1", 0) for number in range(ENDPOINTS)
        ]
        try:
            yield [server.sockets[0].getsockname()[1] for server in servers]
        finally:
            for server in servers:
                server.close()

    async def _answer(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                body = orjson.loads(await reader.readexactly(int(fields[b"content-length"])))
                self.turns[body["prompt_cache_key"]][number] += 1
                await asyncio.sleep(self.seconds_of_an_answer)
                writer.write(WHOLE_ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()


def _target(redis_port: int, ports: list[int], place: Place) -> Target:
    listed = "".join(f'      - {{id: e{port}, url: "http://127.0.0.1:{port}/v1"}}\n' for port in ports)
    file = place.folder / "gateway.yaml"
    file.write_text(f"""\
server: {{host: 127.0.0.1, port: {place.port}, workers: {WORKERS}}}
store: {{kind: redis, url: redis://127.0.0.1:{redis_port}/0}}
models:
  - id: 1
    name: {MODEL}
    provider_model: {PROVIDER_MODEL}
    global: true
    rotation: cache_affinity
    endpoints:
{listed}users:
  - {{id: 1}}
keys:
  - {{id: a, user: 1, hash: "sha256:{targets.sha256(KEY)}"}}
""")
    return Target("gateway", "", "", [sys.executable, "-m", "gateway", "serve", "-c", str(file)])


async def measure(folder: Path, conversations: int, at_once: int) -> AsyncIterator[Affinity]:
    """One conversation at a time, then so many."""
    endpoints, choice = _Endpoints(), choice_us()
    async with endpoints.listening() as ports:
        with ExitStack() as stack:
            port = await asyncio.to_thread(_start, stack, folder, ports)
            for number in (1, at_once):
                endpoints.turns.clear()
                endpoints.seconds_of_an_answer = SECONDS_OF_AN_ANSWER if number > 1 else 0
                wrong = await _talk(port, conversations, number)
                yield _found(endpoints, number, choice, wrong)


def _start(stack: ExitStack, folder: Path, ports: list[int]) -> int:
    """The port of a gateway that answers."""
    redis_port, port = free_port(), free_port()
    redis = targets.redis(redis_port, folder)
    process = stack.enter_context(running(_process(redis, folder)))
    process.wait_until_it_listens(redis_port, START_SECONDS)
    gateway = stack.enter_context(running(_process(_target(redis_port, ports, Place(folder, port, 0, KEY)), folder)))
    gateway.wait_until_it_listens(port, START_SECONDS)
    return port


def _process(target: Target, folder: Path) -> Process:
    log = folder / f"{target.name}.log"
    return Process(target.name, target.command, log, cwd=targets.REPOSITORY, environment=target.environment)


async def _talk(port: int, conversations: int, at_once: int) -> int:
    """How many answers were not as they should be."""
    waiting = asyncio.Semaphore(at_once)

    async def converse(number: int) -> int:
        async with waiting:
            return sum([await _turn(port, f"{at_once}-{number}") != 200 for _ in range(TURNS)])

    return sum(await asyncio.gather(*map(converse, range(conversations))))


async def _turn(port: int, session: str) -> int:
    body = orjson.dumps(QUESTION | {"prompt_cache_key": session})
    request = make_request(port, body, {}).with_key(KEY.encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ", 2)[1])


def _found(endpoints: _Endpoints, at_once: int, choice: float, wrong: int) -> Affinity:
    together = sum(max(each.values()) for each in endpoints.turns.values())
    asked = sum(endpoints.turns.values(), Counter[int]())
    return Affinity(
        at_once=at_once,
        conversations=len(endpoints.turns),
        together_percent=together / max(1, asked.total()) * 100,
        skew=max(asked.values(), default=0) * ENDPOINTS / max(1, asked.total()),
        choice_us=choice,
        wrong=wrong,
    )


def choice_us() -> float:
    """CPU microseconds that the choice of a conversation's endpoint adds to a request."""
    slots = [Slot(Endpoint(id=f"e{number}", url=f"http://e{number}.test/v1"), number) for number in range(ENDPOINTS)]
    caller = Caller(key=ApiKey(id="a", user=1, sha256=""), user=User(id=1, tier="free"))
    affine, around = Tier(slots, "cache_affinity").rotation, Tier(slots, "round_robin").rotation
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(CHOICES):
            affine.choose(slots, affinity_of(QUESTION, None, caller, 1))
        between = time.thread_time()
        for _ in range(CHOICES):
            around.choose(slots, None)
        rounds.append((between - began - (time.thread_time() - between)) / CHOICES * 1e6)
    return statistics.median(rounds)


async def _tell(conversations: int, at_once: int, *, as_json: bool) -> None:
    found = []
    with tempfile.TemporaryDirectory() as directory:
        async for each in measure(Path(directory), conversations, at_once):
            found.append(each)
            print(each, file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=800)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    asyncio.run(_tell(options.conversations, options.at_once, as_json=options.json))


if __name__ == "__main__":
    main()
