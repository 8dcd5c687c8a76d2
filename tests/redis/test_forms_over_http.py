"""Each form of Redis beneath a whole gateway: objects that upstreams keep, a login that is rotated in its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from agree.agree_kit import running_upstream
from kept.kept_kit import started
from kit import KEYS, GatewayProcess, config
from kit.books import until
from kit.redis_nodes import Cluster, Node, Trio, needs_redis
from kit.stage import endpoint, model

OLD, NEW = "old-password-0123456789", "new-password-0123456789"


class Servers(NamedTuple):
    """`url`: with this login in it, whose user is `gw` at every one of `nodes`."""

    url: str
    nodes: list[Node]

    def each_does(self, *command: str) -> None:
        for node in self.nodes:
            node.do(*command)


@pytest.fixture(scope="module", params=["single", "sentinel", "cluster"])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    needs_redis()
    directory, login = tmp_path_factory.mktemp(request.param), "gw:${file:password}@"
    if request.param == "cluster":
        with Cluster.open(directory) as six:
            yield Servers(six.url(login=login), six.nodes)
    elif request.param == "sentinel":
        with Trio.open(directory) as trio:
            yield Servers(trio.url(login=login), trio.servers)
    else:
        node = Node(directory)
        yield Servers(f"redis://{login}127.0.0.1:{node.port}/0", [node])
        node.kill()


@pytest.fixture
def store(servers: Servers, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "password").write_text(f"{OLD}\n")
    servers.each_does("ACL", "SETUSER", "gw", "on", "resetpass", f">{OLD}", "~*", "&*", "+@all")
    return {"kind": "redis", "url": servers.url}


@pytest.mark.parametrize("servers", ["sentinel", "cluster"], indirect=True)
async def test_objects_that_upstreams_keep(store: dict[str, str], tmp_path: Path) -> None:
    """Made, chained, listed and deleted by their owner, and by nobody else, on either of two workers."""
    async with started(tmp_path, store=store, server={"workers": 2}) as kept:
        mine: list[str] = []
        homes: set[str] = set()
        for _ in range(4):
            made = await kept.ask(
                "POST",
                "/responses",
                {"model": "pair", "input": "Hi"} | ({"previous_response_id": mine[-1]} if mine else {}),
            )
            assert made.status == 200, made.body
            mine.append(made.json()["id"])
            homes.add(mine[-1].split("_")[1])
        assert len(homes) == 1, "a chain stays where it began"
        for _ in range(4):  # another connection may reach the other worker
            assert (await kept.ask("GET", f"/responses/{mine[0]}")).json()["id"] == mine[0]
            foreign = await kept.ask("GET", f"/responses/{mine[0]}", key="stranger")
            assert (foreign.status, foreign.error()["code"]) == (404, "object_not_found")
        chat = {"model": "pair", "messages": [{"role": "user", "content": "Hi"}], "store": True}
        stored = [(await kept.ask("POST", "/chat/completions", chat)).json()["id"] for _ in range(3)]
        page = (await kept.ask("GET", "/chat/completions?order=desc&limit=2")).json()
        assert ([each["id"] for each in page["data"]], page["has_more"]) == (stored[:0:-1], True)
        assert (await kept.ask("GET", "/chat/completions", key="stranger")).json()["data"] == []
        assert (await kept.ask("DELETE", f"/responses/{mine[0]}", key="stranger")).status == 404
        assert (await kept.ask("DELETE", f"/responses/{mine[0]}")).status == 200
        for _ in range(4):
            assert (await kept.ask("GET", f"/responses/{mine[0]}")).status == 404


async def test_a_rotated_login_in_the_file_of_store_url(
    store: dict[str, str], servers: Servers, tmp_path: Path
) -> None:
    """All connections are ended and the old password is refused: with the new one in its file it goes on."""
    async with running_upstream() as upstream:
        whole = config([model("m", [endpoint(upstream, "m")])], store=store)
        async with GatewayProcess.start(whole, tmp_path) as gateway:

            async def is_well() -> bool:
                return (await gateway.get("/api/ai/keys", key=KEYS["user"])).status == 200

            async def is_unwell() -> bool:
                return not await is_well()

            await until(is_well)
            servers.each_does("ACL", "SETUSER", "gw", "resetpass", f">{NEW}")
            servers.each_does("CLIENT", "KILL", "USER", "gw")
            await until(is_unwell)
            (tmp_path / "password").write_text(f"{NEW}\n")
            await until(is_well)
            servers.each_does("CLIENT", "KILL", "USER", "gw")
            await until(is_well)
            assert "store.url changed" in gateway.output()
            assert "next start" not in gateway.output()
            assert OLD not in gateway.output()
            assert NEW not in gateway.output()
