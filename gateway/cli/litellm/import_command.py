"""gateway import litellm"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.arguments import Commands, add_command, with_example
from gateway.cli.console import complain
from gateway.cli.start_commands import write_new
from gateway.config import parse_settings
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.cli.litellm.conversion import Converted

_EXAMPLE = "gateway import litellm config.yaml > gateway.yaml && gateway check"
_TEXT = (
    "print a gateway.yaml from a LiteLLM proxy's config.yaml; on standard error, and as comments at its head, what has "
    "no counterpart, with its line and what to do instead"
)


def add_to(commands: Commands) -> None:
    text = "make a gateway.yaml from another gateway's configuration"
    command = with_example(commands.add_parser("import", help=text, description=text), _EXAMPLE)
    kinds = command.add_subparsers(title="configurations of", required=True, metavar="KIND")
    litellm = add_command(kinds, "litellm", _run, _TEXT, _EXAMPLE)
    litellm.add_argument("file", metavar="FILE", help="LiteLLM's config.yaml")
    litellm.add_argument("-o", "--output", metavar="FILE", help="write this file, mode 0600 (default: standard output)")


def _run(arguments: argparse.Namespace) -> int:
    # Who serves does not load what only this needs.
    from gateway.cli.litellm.conversion import converted
    from gateway.cli.litellm.their_file import read_their_file
    from gateway.cli.litellm.yaml_text import yaml_text

    found = converted(read_their_file(Path(arguments.file)))
    for note in found.notes:
        complain(str(note))
    if not found.sections["models"]:
        complain(f"gateway: {arguments.file} has no model that could be taken over; nothing was written.")
        return 1
    text = yaml_text(found.sections, list(_head(arguments.file, found)))
    _judge(text)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        write_new(Path(arguments.output), text)
    _sum_up(found)
    return 0


def _head(name: str, found: Converted) -> Iterator[str]:
    yield f"Made from {Path(name).name} by `gateway import litellm`; `gateway check` judges it."
    yield "LiteLLM listens on 0.0.0.0:4000, the gateway on 127.0.0.1:8080: `server: {host: 0.0.0.0, port: 4000}`."
    if found.variables:
        yield f"Variables that must be set: {', '.join(found.variables)}."
    if found.notes:
        yield ""
        yield "Without a counterpart, or to be looked at:"
        yield from (f"  {note}" for note in found.notes)


def _sum_up(found: Converted) -> None:
    models = found.sections["models"]
    endpoints = sum(len(model["endpoints"]) for model in models)
    complain(f"gateway: taken over: {len(models)} models, {endpoints} endpoints. The rest is named above.")
    if found.variables:
        complain(f"gateway: set before `gateway check`: {', '.join(found.variables)}")


class _AnyVariable(Mapping[str, str]):
    """An environment in which every variable is set, to something plausible."""

    def __getitem__(self, name: str) -> str:
        return "https://placeholder.example" if _is_address(name) else "x" * 32

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _is_address(name: str) -> bool:
    return any(word in name.upper() for word in ("BASE", "URL", "ENDPOINT", "HOST"))


def _judge(text: str) -> None:
    """Raise ConfigError for a gateway.yaml that would not serve."""
    try:
        parse_settings(text, "gateway.yaml", _AnyVariable(), Path.cwd())
    except ConfigError as error:
        raise ConfigError([f"what was made of it cannot be used: {problem}" for problem in error.problems]) from None
