"""Parse a command line, run its command, map errors to exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gateway import __version__
from gateway.cli import check, top, usage
from gateway.cli import explain_command as explain
from gateway.cli import keys_command as keys
from gateway.cli import serve_command as serve
from gateway.cli import start_commands as start
from gateway.cli.arguments import with_example
from gateway.cli.completion import completion_command as completion
from gateway.cli.completion.command_tree import CommandParser
from gateway.cli.console import abandon_stdout, complain, hold_standard_files
from gateway.cli.litellm import import_command as importing
from gateway.cli.store import store_command as store
from gateway.cli.trials import alerts_command as alerts
from gateway.errors import ConfigError, GatewayError, JournalUnavailable, LedgerUnusable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    hold_standard_files()
    arguments = command_parser().parse_args(argv)
    try:
        code = int(arguments.run(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except ConfigError as error:
        complain(str(error))
        problems = len(error.problems)
        complain(f"{problems} problem{'s' if problems != 1 else ''}; nothing was done.")
    except GatewayError as error:
        complain(f"gateway: {error.message}")
    except (LedgerUnusable, JournalUnavailable) as error:
        complain(f"gateway: {error}")
    except BrokenPipeError:
        abandon_stdout()
    except OSError as error:
        about = f"{error.filename}: " if isinstance(error.filename, str) and error.strerror else ""
        complain(f"gateway: {about}{error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    return 1


def command_parser() -> CommandParser:
    parser = CommandParser(prog="gateway", description="An OpenAI-compatible reverse-proxy gateway.")
    with_example(parser, "gateway demo")
    parser.add_argument("--version", action="version", version=f"ecli-gateway {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (serve, start, check, explain, keys, usage, store, importing, alerts, top):
        module.add_to(commands)
    completion.add_to(commands, parser)
    return parser
