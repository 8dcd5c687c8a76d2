"""gateway alerts test"""

from __future__ import annotations

import argparse
import asyncio
import os
import time

from gateway.alerts.event import event
from gateway.alerts.sender import Receiver, send
from gateway.api.ops.alerting import salt_of
from gateway.assembly import proxy_of
from gateway.cli.arguments import Commands, add_command, add_config, settings_of, with_example
from gateway.cli.console import complain, print_line
from gateway.config import Settings
from gateway.http.client import Transport

_EXAMPLE = "gateway alerts test -c gateway.yaml"


def add_to(commands: Commands) -> None:
    text = "try the receivers of alerts"
    command = with_example(commands.add_parser("alerts", help=text, description=text), _EXAMPLE)
    actions = command.add_subparsers(title="actions", required=True, metavar="ACTION")
    text = "send an event of type `test` to each receiver of gateway.yaml, once, and print what came back"
    add_config(add_command(actions, "test", _run_test, text, _EXAMPLE))


def _run_test(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if not settings.alerts:
        complain(f"gateway: {settings.source} has no `alerts`; docs/alerts.md shows how they are written.")
        return 1
    failed = asyncio.run(_test(settings))
    return 1 if failed else 0


async def _test(settings: Settings) -> int:
    """Return how many did not take it."""
    transport = Transport(proxy=proxy_of(settings))
    try:
        failed = 0
        for place, configured in enumerate(settings.alerts):
            receiver, now = Receiver.of(configured), time.time()
            made = event(salt_of(settings), f"test:{os.urandom(8).hex()}", "test", now, {})
            outcome = await send(transport, receiver, made.id, made.body, now)
            word = "ok  " if outcome.is_delivered else "FAIL"
            print_line(f"{word}  alerts[{place}], {receiver.shown}: {outcome.words}, {made.id}")
            failed += not outcome.is_delivered
        return failed
    finally:
        await transport.close()
