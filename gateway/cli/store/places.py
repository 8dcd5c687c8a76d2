"""The places that FROM and TO name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from gateway.assembly import record_store
from gateway.cli.arguments import settings_of
from gateway.cli.stored_records import quiet_log
from gateway.config import Settings, parse_settings
from gateway.config.problems import Refused
from gateway.config.settings import StoreSettings
from gateway.config.sources.redis_urls import redis_url
from gateway.config.yaml.expand import Expander
from gateway.errors import ConfigError, StoreUnavailable
from gateway.objects.journaled import JournaledIndex
from gateway.objects.object_journal import ObjectJournal
from gateway.objects.sqlite import SqliteObjects
from gateway.transfer.embedded_depot import Access, EmbeddedDepot
from gateway.transfer.entries import Depot
from gateway.transfer.left_behind import key_hashes
from gateway.types import Secret

CONNECT_SECONDS = 10.0
WORDS = (
    "a directory with an embedded store; a Redis URL; or `embedded`, `redis` or `configured` for what -c says. "
    "In a URL ${VAR} and ${file:PATH} are expanded by the gateway, within '…', so that no password shows in `ps`"
)
_NO_FILE = "tiers: [free]\n"


class Place(NamedTuple):
    """One end, as it was written, not yet opened."""

    settings: Settings  # whose `store` is this place

    @property
    def is_embedded(self) -> bool:
        return self.settings.store.kind == "embedded"

    @property
    def directory(self) -> Path:
        return Path(self.settings.store.path)

    def is_same(self, other: Place) -> bool:
        mine, theirs = self.settings.store, other.settings.store
        if self.is_embedded or other.is_embedded:
            return self.is_embedded == other.is_embedded and self.directory.resolve() == other.directory.resolve()
        return (mine.url, mine.prefix) == (theirs.url, theirs.prefix)


def base_settings(arguments: argparse.Namespace, *, is_needed: bool) -> Settings:
    """Read the file of -c. Raises ConfigError.

    Defaults where there is none and none is needed.
    """
    if not is_needed and not os.path.lexists(arguments.config):
        return parse_settings(_NO_FILE, "the defaults", {}, Path.cwd())
    return settings_of(arguments)


def needs_file(text: str) -> bool:
    return text in ("embedded", "redis", "configured")


def place_of(text: str, prefix: str | None, settings: Settings) -> Place:
    """Read a place. Raises ConfigError, never with a URL in it."""
    store = settings.store
    if text in ("embedded", "redis"):
        store = msgspec.structs.replace(store, kind=text)
    elif "://" in text:
        store = msgspec.structs.replace(store, kind="redis", url=_url(text))
    elif text != "configured":
        store = StoreSettings(kind="embedded", path=text)
    if prefix is not None:
        store = msgspec.structs.replace(store, prefix=prefix)
    return Place(msgspec.structs.replace(settings, store=store))


def _url(text: str) -> Secret:
    try:
        return Secret(redis_url(Expander(os.environ, Path.cwd()).expand(text)))
    except Refused as refused:
        raise ConfigError([f"the Redis URL: {refused}"]) from None


async def opened(place: Place, access: Access) -> Depot:
    """Open one end. Raises StoreUnavailable and ConfigError."""
    if place.is_embedded:
        depot = EmbeddedDepot(place.directory, access)
        if access != "beside":
            await _hand_over(place.directory, place.settings.surface.object_days)
        return depot
    return await _opened_redis(place)


async def _opened_redis(place: Place) -> Depot:
    from gateway.store.redis import RedisStore  # only who uses it pays for loading redis-py
    from gateway.transfer.redis_depot import RedisDepot

    store = cast(RedisStore, record_store(place.settings, quiet_log()))
    depot = RedisDepot(store, place.settings.store.prefix)
    await store.start()
    try:
        await depot.connected(CONNECT_SECONDS)
    except BaseException:
        await store.close()
        raise
    return depot


async def _hand_over(directory: Path, object_days: int) -> None:
    """Hand over what a killed gateway left in its journal.

    The store's lock is held: no other process writes there.
    """
    journal = directory / "objects"
    if not journal.is_dir():
        return
    log = quiet_log()
    backend = SqliteObjects(directory, log, object_days=lambda: object_days)
    index = JournaledIndex(backend, ObjectJournal(journal), log, on_taken=_nothing)
    try:
        await index.start()
    finally:
        await index.close()


def _nothing() -> None:
    """An id that is another's stays the first owner's."""


def left_in_journal(place: Place) -> str | None:
    """Say where objects wait that a Redis has not been given yet."""
    directory = Path(f"{place.settings.usage.journal}-objects")
    if place.is_embedded or not directory.is_dir():
        return None
    if not any(each.stat().st_size for each in directory.iterdir() if each.is_file()):
        return None
    return f"{directory} holds objects that Redis was not given yet: start and stop a gateway on it first."


async def left_in_redis(settings: Settings) -> str | None:
    """Name keys left in a Redis, and what to run.

    None where `store.url` is not written, or cannot be asked.
    """
    from gateway.transfer.redis_depot import RedisDepot

    if settings.store.kind == "redis" or settings.store.url == StoreSettings().url:
        return None
    try:
        depot = await opened(place_of("redis", None, settings), "beside")
    except (StoreUnavailable, ConfigError):
        return None
    try:
        known = set(key_hashes(Path(settings.store.path)))
        found = await depot.keys_but(known) if isinstance(depot, RedisDepot) else 0
    finally:
        await depot.close()
    if not found:
        return None
    return (
        f"store.kind is embedded, but {found:,} key{'s' if found > 1 else ''} made at run time "
        f"{'are' if found > 1 else 'is'} in {depot.name}, and not here; "
        f"`gateway store copy redis embedded -c {settings.source}` copies what is there"
    )
