"""The index hangs on what every request has, and lives as long as its process."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import msgspec
import pytest
from objects_kit import DAY, record
from store.grants_kit import Log, RedisServer

from gateway.app import configured, running
from gateway.config import Settings, parse_settings

MODEL = "models: [{id: 1, name: m, endpoints: [{id: a, url: 'http://127.0.0.1:1/v1'}]}]\n"


@pytest.fixture(params=["embedded", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    store = "{kind: embedded}"
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("shared_redis")
        store = f"{{kind: redis, url: '{server.url}', prefix: '{uuid.uuid4().hex}:'}}"
    return parse_settings(f"{MODEL}store: {store}\n", "gateway.yaml", {}, tmp_path)


async def test_every_process_has_the_index_and_what_it_remembers_outlives_it(settings: Settings, log: Log) -> None:
    async with running(settings, log.logger) as current:
        await current.runtime.objects.remember([record("file-1")])
    async with running(settings, log.logger) as current:
        assert set(await current.runtime.objects.find(["file-1", "file-2"])) == {"file-1"}
    embedded = Path(settings.store.path) / "objects"
    journal = embedded if settings.store.kind == "embedded" else Path(f"{settings.usage.journal}-objects")
    assert list(journal.iterdir()) == []
    assert os.listdir(settings.usage.journal) == []


async def test_the_accounts_are_those_of_the_catalogue_in_use(settings: Settings, log: Log) -> None:
    async with running(settings, log.logger) as current:
        runtime = current.runtime
        models = (await runtime.store.catalogue()).models
        accounts = runtime.accounts.of(models)
        assert accounts.find(accounts.label(models[0], models[0].endpoints[0])) is not None
        assert runtime.accounts.of((await runtime.store.catalogue()).models) is accounts


async def test_how_long_objects_are_remembered_is_what_the_file_says_now(
    shared_redis: RedisServer, tmp_path: Path, log: Log
) -> None:
    prefix = f"{uuid.uuid4().hex}:"
    text = f"{MODEL}store: {{kind: redis, url: '{shared_redis.url}', prefix: '{prefix}'}}\n"
    before = parse_settings(text, "gateway.yaml", {}, tmp_path)
    async with running(before, log.logger) as current:
        runtime = current.runtime
        surface = msgspec.structs.replace(before.surface, object_days=20)
        current.runtime = configured(runtime, msgspec.structs.replace(before, surface=surface))
        await current.runtime.objects.remember([record("file-1"), record("resp-1", kind="response")])
        with shared_redis.client() as client:
            assert [round(client.ttl(f"{prefix}object:{each}") / DAY) for each in ("file-1", "resp-1")] == [20, 35]
