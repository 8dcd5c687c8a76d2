"""gateway explain"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import urlencode

from gateway.admin_records.editor import stored
from gateway.admin_records.explain import Explainer, Explanation, explanation_text
from gateway.assembly import layered_store
from gateway.cli.arguments import Commands, add_command, add_config, add_json, settings_of
from gateway.cli.console import complain, print_json, print_line
from gateway.cli.snapshot import Snapshot
from gateway.cli.stored_records import quiet_log, reading
from gateway.config import Settings
from gateway.errors import RecordNotFound, StoreUnavailable
from gateway.limits import Demand, MemoryLimiter, Used
from gateway.pool import Pool
from gateway.store.base import RecordStore, hash_of_key
from gateway.store.cached import CachedRecords
from gateway.types import ApiKey, Model, id_text


def add_to(commands: Commands) -> None:
    text = "tell why a request would be served as it is: who grants what, which limits hold"
    command = add_command(commands, "explain", _run, text, "gateway explain --user 42 --model gpt-4o")
    add_config(command)
    who = command.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="ID", help="of this user")
    who.add_argument("--key", metavar="ID", help="of the key with this id (not the key itself)")
    command.add_argument("--model", metavar="NAME", help="id, name or alias (default: the assigned model)")
    add_json(command)


def _run(arguments: argparse.Namespace) -> int:
    explained = asyncio.run(_explained(arguments, settings_of(arguments)))
    # Pools of this command's own making say nothing of how endpoints are doing.
    pools, explained.pools = explained.pools, []
    if arguments.json:
        print_json(explained)
        complain(_what_is_missing(arguments))
        return 0
    print_line(explanation_text(explained))
    for pool in pools:
        endpoints = ", ".join(f"{each.endpointId} {each.url}" for each in pool.endpoints)
        print_line(f"pool of {'the fallback ' * pool.fallback}{pool.model}, by {pool.rotation}: {endpoints}")
    print_line(_what_is_missing(arguments))
    return 0


def _what_is_missing(arguments: argparse.Namespace) -> str:
    named = {"key": arguments.key, "user": arguments.user, "model": arguments.model}
    query = urlencode({name: value for name, value in named.items() if value is not None})
    return (
        "How much of the limits is used and how the endpoints are doing, the running gateway knows: "
        f"ask GET /api/admin/explain?{query}"
    )


async def _explained(arguments: argparse.Namespace, settings: Settings) -> Explanation:
    """Explain from the file and the store, or the file alone.

    Where the store cannot be read.
    """
    try:
        async with reading(settings) as records:
            return await _explanation(arguments, settings, records)
    except StoreUnavailable as error:
        complain(f"{error.message} What follows is from {settings.source} alone.")
    return await _explanation(arguments, settings, Snapshot())


async def _explanation(arguments: argparse.Namespace, settings: Settings, records: RecordStore) -> Explanation:
    explainer = Explainer(
        settings,
        layered_store(settings, CachedRecords(records, quiet_log())),
        _LimiterElsewhere(_unknown_totals),
        _pool_at_rest,
        asyncio.get_running_loop().time,
        lambda: datetime.now(UTC),
    )
    if arguments.key is None:
        return await explainer.explain(user_id=explainer.store.user_id(arguments.user), key=None, asked=arguments.model)
    key = await _key(arguments.key, settings, records)
    return await explainer.explain(user_id=key.user, key=key, asked=arguments.model)


async def _key(key_id: str, settings: Settings, records: RecordStore) -> ApiKey:
    for key in settings.keys:
        if id_text(key.id) == key_id:
            return key
    sha256 = await hash_of_key(records, key_id)
    found = None if sha256 is None else stored("key", sha256, await records.get("key", sha256))
    if not isinstance(found, ApiKey):
        raise RecordNotFound(f"No key has the id `{key_id}`; `gateway keys list` shows those that there are.")
    return found


def _pool_at_rest(model: Model) -> Pool:
    return Pool(model, random.Random())


class _LimiterElsewhere(MemoryLimiter):
    """A limiter whose counts only running gateways know."""

    async def standing(self, demands: Sequence[Demand], now: float) -> NoReturn:
        raise StoreUnavailable("Only a running gateway can tell what is used.")


async def _unknown_totals(scope: str, since: float) -> Used:
    raise StoreUnavailable("Only a running gateway can tell what is used.")
