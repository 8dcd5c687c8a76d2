"""The commands and their options, from the parser that reads them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple


class CommandParser(argparse.ArgumentParser):
    """A parser that knows its arguments; its subcommands' are alike."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments: list[argparse.Action] = []  # argparse has no public list of them
        super().__init__(*arguments, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        self.arguments.append(action)
        return action

    def add_mutually_exclusive_group(self, **options: Any) -> Any:
        return _Group(super().add_mutually_exclusive_group(**options), self.arguments)

    def add_subparsers(self, **options: Any) -> Any:
        action = super().add_subparsers(**options)
        self.arguments.append(action)
        return action


class _Group:
    """A group whose arguments are its parser's."""

    def __init__(self, group: Any, arguments: list[argparse.Action]) -> None:
        self._group = group
        self._arguments = arguments

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        action: argparse.Action = self._group.add_argument(*names, **options)
        self._arguments.append(action)
        return action


class Option(NamedTuple):
    """An option.

    `values`: what it takes; none where that is a file or any text.
    """

    names: tuple[str, ...]
    help: str
    takes_value: bool
    values: tuple[str, ...]


class Command(NamedTuple):
    """A command by its words, `gateway keys new`.

    `words`: subcommands, or the choices of its first argument, with what they do.
    """

    path: str
    words: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    takes_files: bool


def commands_of(parser: CommandParser, path: str) -> Iterator[Command]:
    """Yield a command and all below it."""
    words: list[tuple[str, str]] = []
    options: list[Option] = []
    below: list[tuple[str, CommandParser]] = []
    takes_files = False
    for action in parser.arguments:
        if action.option_strings:
            options.append(_option(action))
        elif isinstance(action.choices, dict):
            below += [(name, child) for name, child in action.choices.items() if isinstance(child, CommandParser)]
            words += [(name, _sentence(child.description)) for name, child in below]
        elif action.choices:
            words += [(str(each), "") for each in action.choices]
        else:
            takes_files = True
    yield Command(path, tuple(words), tuple(options), takes_files)
    for name, child in below:
        yield from commands_of(child, f"{path} {name}")


def _option(action: argparse.Action) -> Option:
    values = tuple(map(str, action.choices or ()))
    return Option(tuple(action.option_strings), _sentence(action.help), action.nargs != 0, values)


def _sentence(text: str | None) -> str:
    """Return the beginning of a help text, to stand beside a word."""
    first = (text or "").replace("\n", " ").split(". ")[0].partition("; ")[0].partition(" (default")[0]
    return first.replace("%(default)s", "").strip()
