"""gateway top"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from gateway.cli.arguments import DEFAULT_CONFIG, Commands, add_command, add_json, settings_of
from gateway.cli.console import complain, print_json
from gateway.cli.top.frame import frame
from gateway.cli.top.picture import Picture

GATHER_SECONDS = 1.0  # in which the requests that run are told, those of other workers too
DRAW_SECONDS = 0.25  # at most so often
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104  # where it listens, and where to ask
_HINT = "q: quit"


def add_to(commands: Commands) -> None:
    text = "show a running gateway in the terminal: requests as they run, the pool, cooldowns, limits of the busiest"
    command = add_command(commands, "top", _run, text, "GATEWAY_KEY=sk-… gateway top --url https://ai.example.com")
    command.add_argument(
        "--url", help="the gateway's base URL (default: GATEWAY_URL, else where the file of -c says that it listens)"
    )
    command.add_argument(
        "--key",
        help="a key with usage:read, and ai:manage for pool and limits (default: GATEWAY_KEY, which no list of "
        "processes shows)",
    )
    command.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: ./%(default)s")
    command.add_argument("--once", action="store_true", help="print one picture as text and end")
    add_json(command)


def _run(arguments: argparse.Namespace) -> int:
    key, url = arguments.key or os.environ.get("GATEWAY_KEY", ""), _url(arguments)
    wrong = _what_is_wrong(arguments, key, url)
    if wrong is not None or url is None:
        complain(f"gateway: {wrong}")
        return 2
    picture = Picture(url, time.monotonic)
    if arguments.once or arguments.json:
        return asyncio.run(_once(picture, key, as_json=arguments.json))
    return asyncio.run(_live(picture, key))


def _what_is_wrong(arguments: argparse.Namespace, key: str, url: str | None) -> str | None:
    if not key:
        return "no key: set GATEWAY_KEY to one with the scopes usage:read and ai:manage."
    if not (key.isascii() and key.isprintable()):
        return "the key has characters that no key has."
    if url is None:
        return "--url must be the gateway's base URL, such as http://127.0.0.1:8080."
    if not (arguments.once or arguments.json or sys.stdout.isatty()):
        return "standard output is no terminal; --once prints one picture as text, --json as JSON."
    return None


def _url(arguments: argparse.Namespace) -> str | None:
    """Return the base URL to ask, or None. Raises ConfigError."""
    given = arguments.url or os.environ.get("GATEWAY_URL")
    if given is not None:
        return given.rstrip("/") if _is_base_url(given) else None
    if arguments.config == DEFAULT_CONFIG and not Path(arguments.config).exists():
        return "http://127.0.0.1:8080"
    server = settings_of(arguments).server
    host = _EVERYWHERE.get(server.host, f"[{server.host}]" if ":" in server.host else server.host)
    return f"http://{host}:{server.port}"


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_plain = not parts.query and "@" not in parts.netloc
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and is_plain


async def _once(picture: Picture, key: str, *, as_json: bool) -> int:
    from gateway.cli.top.feed import Feed, Refused  # aiohttp is a third of a second

    try:
        await Feed(picture, key).once(GATHER_SECONDS)
    except Refused as error:
        complain(f"gateway: {error}")
        return 1
    if as_json:
        print_json(picture.shown())
        return 0
    width = shutil.get_terminal_size((100, 24)).columns
    for line in frame(picture, width, None, colours=sys.stdout.isatty() and _wants_colours()):
        sys.stdout.write(line + "\n")
    return 0


async def _live(picture: Picture, key: str) -> int:
    from gateway.cli.top.feed import Feed
    from gateway.cli.top.screen import Screen  # of Unix alone

    loop, screen = asyncio.get_running_loop(), Screen()
    over, colours = asyncio.Event(), _wants_colours()
    due: asyncio.TimerHandle | None = None

    def draw() -> None:
        nonlocal due
        if due is not None:
            due.cancel()
        due = loop.call_later(1.0, draw)  # what runs grows older, cooldowns shorter
        width, height = screen.size
        screen.draw(frame(picture, width, height, colours=colours, hint=_HINT))

    def changed() -> None:
        nonlocal due
        if due is None or due.when() - loop.time() > DRAW_SECONDS:
            if due is not None:
                due.cancel()
            due = loop.call_later(DRAW_SECONDS, draw)

    def pressed(key: str) -> None:
        if key in ("q", "Q", "\x04"):
            over.set()

    with screen.held(pressed, over.set, draw):
        draw()
        following = asyncio.create_task(Feed(picture, key).follow(changed))
        ending = asyncio.create_task(over.wait())
        try:
            await asyncio.wait([following, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if due is not None:
                due.cancel()
            ending.cancel()
            following.cancel()
            await asyncio.gather(following, ending, return_exceptions=True)
    if following.done() and not following.cancelled() and (error := following.exception()) is not None:
        raise error
    return 0


def _wants_colours() -> bool:
    """See no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
