"""Redis' password is rotated in the file that `store.url` names: new connections take it, without a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from agree.agree_kit import running_redis
from kit import KEYS, FakeUpstream, GatewayProcess, as_openai, config
from kit.books import until
from kit.stage import endpoint, model
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.redis.address import Dialer

OLD, NEW = "old-password-0123456789", "new-password-0123456789"


async def test_a_gateway_goes_on_with_a_rotated_password(tmp_path: Path) -> None:
    """An ACL user's: its connections are killed, the old password is refused; the store is well again by itself."""
    upstream = await FakeUpstream.start(as_openai())
    (tmp_path / "redis").mkdir()
    (tmp_path / "password").write_text(f"{OLD}\n")
    try:
        with running_redis(tmp_path / "redis") as server:
            async with Redis.from_url(server.url) as admin:
                await admin.execute_command("ACL", "SETUSER", "gw", "on", f">{OLD}", "~*", "&*", "+@all")
                url = server.url.replace("://", "://gw:${file:password}@")
                whole = config([model("m", [endpoint(upstream, "m")])], store={"kind": "redis", "url": url})
                async with GatewayProcess.start(whole, tmp_path) as gateway:

                    async def is_well() -> bool:
                        reply = await gateway.get("/api/ai/keys", key=KEYS["user"])
                        return reply.status == 200

                    async def is_unwell() -> bool:
                        return not await is_well()

                    await until(is_well)
                    await admin.execute_command("ACL", "SETUSER", "gw", "resetpass", f">{NEW}")
                    await admin.execute_command("CLIENT", "KILL", "USER", "gw")
                    await until(is_unwell)
                    (tmp_path / "password").write_text(f"{NEW}\n")
                    await until(is_well)
                    await admin.execute_command("CLIENT", "KILL", "USER", "gw")
                    await until(is_well)
                    assert "store.url changed" in gateway.output()
                    assert "next start" not in gateway.output()
                    assert OLD not in gateway.output()
                    assert NEW not in gateway.output()
    finally:
        await upstream.close()


LEADS_ELSEWHERE = [
    "redis://gw:other@elsewhere:1/0",
    "rediss://gw:other@127.0.0.1:1/0",
    "redis://gw:other@127.0.0.1:1/7",
    "nonsense",
]


@pytest.mark.parametrize("now", LEADS_ELSEWHERE)
async def test_what_leads_elsewhere_waits_for_the_next_start(now: str, tmp_path: Path) -> None:
    """The login that was taken last holds on."""
    with running_redis(tmp_path) as server:
        async with Redis.from_url(server.url) as admin:
            await admin.execute_command("ACL", "SETUSER", "gw", "on", f">{OLD}", "~*", "&*", "+@all")
            urls = [server.url.replace("://", f"://gw:{OLD}@")]
            dialer = Dialer(urls[0], latest=lambda: urls[-1])
            opened = [await dialer.open()]
            await admin.execute_command("ACL", "SETUSER", "gw", "resetpass", f">{NEW}")
            with pytest.raises(RedisError):
                await dialer.open()
            urls.append(urls[0].replace(OLD, NEW))
            opened.append(await dialer.open())
            urls.append(now)
            opened.append(await dialer.open())
            for connection in opened:
                await connection.disconnect(nowait=True)
