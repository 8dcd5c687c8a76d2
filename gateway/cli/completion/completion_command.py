"""gateway completion"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from gateway.cli.arguments import Commands, add_command
from gateway.cli.completion.command_tree import CommandParser, commands_of
from gateway.cli.completion.shell_scripts import SHELLS


def add_to(commands: Commands, parser: CommandParser) -> None:
    """`parser`: that of the whole command line."""
    text = "print a script that completes commands and options in a shell"
    example = 'eval "$(gateway completion bash)"'
    command = add_command(commands, "completion", partial(_run, parser), text, example)
    command.add_argument("shell", choices=list(SHELLS), help="whose script")


def _run(parser: CommandParser, arguments: argparse.Namespace) -> int:
    sys.stdout.write(SHELLS[arguments.shell](list(commands_of(parser, "gateway"))))
    return 0
