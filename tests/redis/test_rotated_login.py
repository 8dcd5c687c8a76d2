"""What a Dialer takes of an address that has changed: a new login for new connections, and nothing else.

A whole gateway whose login is rotated: test_forms_over_http.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from agree.agree_kit import running_redis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.redis.address import Dialer

OLD, NEW = "old-password-0123456789", "new-password-0123456789"


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
