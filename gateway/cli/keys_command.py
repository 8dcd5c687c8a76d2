"""gateway keys new, list and revoke"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import secrets
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from gateway.access.authenticate import key_sha256
from gateway.admin_records import keys
from gateway.admin_records.editor import Actor, Desk
from gateway.admin_records.record_bodies import KeyBody
from gateway.admin_records.redaction import KeyMade, KeyShown
from gateway.assembly import layered_store
from gateway.cli.arguments import Commands, add_command, add_config, add_json, moment, settings_of, with_example
from gateway.cli.console import complain, print_json, print_line
from gateway.cli.snapshot import Snapshot
from gateway.cli.stored_records import quiet_log, reading, writing
from gateway.config import Settings, key_yaml_line
from gateway.errors import RecordNotFound, StoreUnavailable
from gateway.store.base import RecordStore, hash_of_key
from gateway.store.cached import CachedRecords
from gateway.types import SCOPES, has_expired, id_from_text, id_text

_KEYS_AT_A_TIME = 500


def add_to(commands: Commands) -> None:
    text = "make, list and revoke API keys"
    command = with_example(commands.add_parser("keys", help=text, description=text), "gateway keys new --user 42")
    actions = command.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_new(actions)
    text = "list the keys of gateway.yaml and of the run-time store"
    listing = add_command(actions, "list", _run_list, text, "gateway keys list -c gateway.yaml")
    add_config(listing)
    add_json(listing)
    text = "take away a key of the run-time store, for every gateway at once"
    revoking = add_command(actions, "revoke", _run_revoke, text, "gateway keys revoke laptop")
    revoking.add_argument("id", metavar="ID", help="the key's id, as `gateway keys list` shows it")
    add_config(revoking)


def _add_new(actions: Commands) -> None:
    example = "gateway keys new --user 42 --scope ai:use --expires 2027-01-01"
    new = add_command(actions, "new", _run_new, "print a new key and its YAML line", example)
    new.add_argument("--user", required=True, metavar="ID", help="the user to whom the key belongs")
    new.add_argument("--id", help="a name for the key, as in `laptop` (default: one is made)")
    new.add_argument("--scope", action="append", choices=SCOPES, help="may be given several times (default: ai:use)")
    new.add_argument(
        "--expires", type=moment, metavar="DATE", help="ISO date; without a zone it is UTC (default: never)"
    )
    new.add_argument(
        "--store", action="store_true", help="put it into the run-time store of -c, instead of printing a line"
    )
    add_config(new)


# -- new


def _run_new(arguments: argparse.Namespace) -> int:
    if arguments.store:
        return _run_new_in_store(arguments)
    key = f"sk-ecli-{secrets.token_urlsafe(32)}"
    key_id = arguments.id or f"key-{secrets.token_hex(4)}"
    scopes = arguments.scope or ["ai:use"]
    user = int(arguments.user) if arguments.user.isdecimal() else arguments.user
    print_line(f"key:  {key}")
    print_line("      It is not stored anywhere: give it to its user now. The line below holds only its hash.")
    print_line("")
    print_line("Under `keys:` in gateway.yaml:")
    print_line(key_yaml_line(key_id, user, key_sha256(key), scopes, arguments.expires))
    return 0


def _run_new_in_store(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    body = KeyBody(
        user=id_from_text(arguments.user),
        scopes=tuple(arguments.scope or ["ai:use"]),
        expires=None if arguments.expires is None else arguments.expires.isoformat(),
    )
    if arguments.id is not None:
        body.id = arguments.id
    try:
        made = asyncio.run(_mint(settings, body))
    except StoreUnavailable as error:
        return _refer_to_gateway(settings, error, "make the key", ("-X", "POST", "--json", _json(body)), "")
    print_line(f"key:  {made.key}")
    print_line("      It is stored nowhere, only its hash is: give it to its user now.")
    print_line(f"id:   {id_text(made.id)}, in the run-time store; it works from now on.")
    return 0


async def _mint(settings: Settings, body: KeyBody) -> KeyMade:
    async with writing(settings) as records:
        return await keys.mint(_desk(settings, records), body, None)


# -- list


def _run_list(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    fault: StoreUnavailable | None = None
    try:
        found = asyncio.run(_listed(settings))
    except StoreUnavailable as error:
        found, fault = asyncio.run(_all_of(_desk(settings, Snapshot()))), error
    if arguments.json:
        print_json(found)
    else:
        _print_table(settings, found)
    if fault is not None:
        complain(f"gateway: {fault.message} Only the keys of {settings.source} are listed.")
    return 0 if fault is None else 1


async def _listed(settings: Settings) -> list[KeyShown]:
    async with reading(settings) as records:
        return await _all_of(_desk(settings, records))


async def _all_of(desk: Desk) -> list[KeyShown]:
    found, after = await keys.listed(desk, None, _KEYS_AT_A_TIME)
    while after is not None:
        more, after = await keys.listed(desk, after, _KEYS_AT_A_TIME)
        found += more
    return found


def _print_table(settings: Settings, found: Sequence[KeyShown]) -> None:
    if not found:
        print_line("There are no keys; `gateway keys new --user ID` makes one.")
        return
    rows = [("ID", "USER", "SCOPES", "EXPIRES", "SOURCE")]
    rows += [
        (id_text(key.id), id_text(key.user), " ".join(key.scopes) or "none", _expiry(key), _source(settings, key))
        for key in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _expiry(key: KeyShown) -> str:
    if not key.enabled:
        return "switched off"
    if key.expires is None:
        return "never"
    is_past = has_expired(datetime.fromisoformat(key.expires), datetime.now(UTC))
    return f"{key.expires}{' (past)' if is_past else ''}"


def _source(settings: Settings, key: KeyShown) -> str:
    where = settings.lines.where("key", id_text(key.id))
    return where if key.source == "file" and where is not None else key.source


# -- revoke


def _run_revoke(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    where = settings.lines.where("key", arguments.id)
    if where is not None:
        complain(
            f"gateway: {where} defines the key `{arguments.id}`: delete it there. "
            "A running gateway takes up the changed file by itself."
        )
        return 1
    try:
        asyncio.run(_revoke(settings, arguments.id))
    except StoreUnavailable as error:
        return _refer_to_gateway(
            settings, error, "revoke the key", ("-X", "DELETE"), f"/{quote(arguments.id, safe='')}"
        )
    print_line(f"The key `{arguments.id}` is revoked.")
    return 0


async def _revoke(settings: Settings, key_id: str) -> None:
    async with reading(settings) as records:
        if await hash_of_key(records, key_id) is None:
            raise RecordNotFound(f"No key has the id `{key_id}`; `gateway keys list` shows those that there are.")
    async with writing(settings) as records:
        await keys.revoke(_desk(settings, records), key_id)


# -- what they share


def _refer_to_gateway(
    settings: Settings, error: StoreUnavailable, aim: str, options: tuple[str, ...], path: str
) -> int:
    """Refer to the running gateway, which holds the embedded store.

    It alone can change it.
    """
    complain(f"gateway: {error.message}")
    if settings.store.kind == "embedded":
        server = settings.server
        url = f"http://{server.host}:{server.port}/api/admin/keys{path}"
        command = shlex.join(["curl", *options, "-H", "Authorization: Bearer KEY", url])
        complain(f"While a gateway runs on it, {aim} there, with a key that has the scope `ai:manage`:\n  {command}")
    return 1


def _json(body: KeyBody) -> str:
    return msgspec.json.encode(body).decode()


def _desk(settings: Settings, records: RecordStore) -> Desk:
    log = quiet_log()
    actor = Actor("command line", _login(), f"command-{secrets.token_hex(8)}")
    store = layered_store(settings, CachedRecords(records, log))
    return Desk(actor, settings, store, records, lambda: datetime.now(UTC), log)


def _login() -> str:
    """Return the user who runs the command, for the audit.

    Containers may have no name for their user.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
