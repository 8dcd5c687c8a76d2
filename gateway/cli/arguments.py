"""What commands share of their arguments."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from gateway.config import Settings, load_settings
from gateway.config.yaml import scalars
from gateway.errors import ConfigError

DEFAULT_CONFIG = "gateway.yaml"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]


def add_command(commands: Commands, name: str, run: Run, text: str, example: str) -> argparse.ArgumentParser:
    """Add a command carried out by `run`.

    `example` is a line for the shell.
    """
    command = with_example(commands.add_parser(name, help=text, description=text), example)
    command.set_defaults(run=run)
    return command


def with_example(command: argparse.ArgumentParser, example: str) -> argparse.ArgumentParser:
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = f"example:\n  {example}"
    return command


def add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: ./%(default)s")


def add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON instead of text")


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The file that `-c` names. Raises ConfigError."""
    refuse_missing(Path(arguments.config))
    return load_settings(Path(arguments.config), os.environ)


def refuse_missing(path: Path) -> None:
    """Raise ConfigError for a missing file, with what to run."""
    if not os.path.lexists(path):
        raise ConfigError(
            [
                f"{path}:1: cannot be read: there is no such file. `gateway init` writes one that serves, "
                "`gateway example` prints one with every key, `-c FILE` names another."
            ]
        )


def moment(text: str) -> datetime:
    """Parse an ISO date or time, in UTC by default.

    As gateway.yaml has them.
    """
    found = scalars.moment(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO date, as 2027-01-31 or 2027-01-31T12:00:00Z")
    return found
