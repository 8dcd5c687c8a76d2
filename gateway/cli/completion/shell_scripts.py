"""A completion script for each shell.

Made from the commands alone: nothing is run while one types.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.cli.completion.command_tree import Command, Option

# Each walks the words before the cursor to the command that they name, then offers what belongs there.
_BASH = """\
# Completion of `gateway` in bash: eval "$(gateway completion bash)", or this text in
# ~/.local/share/bash-completion/completions/gateway
_gateway() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=gateway words= number
  COMPREPLY=()
  for ((number = 1; number < COMP_CWORD; number++)); do
    case "$command ${COMP_WORDS[number]}" in
      @paths@) command="$command ${COMP_WORDS[number]}" ;;
    esac
  done
  case "$command $before" in
@values@
  esac
  case $command in
@words@
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _gateway gateway
"""

_ZSH = """\
#compdef gateway
# Completion of `gateway` in zsh: eval "$(gateway completion zsh)", or this text as _gateway in a directory of $fpath
_gateway() {
  local before=${words[CURRENT-1]} command=gateway number
  local -a offered
  for ((number = 2; number < CURRENT; number++)); do
    case "$command ${words[number]}" in
      (@paths@) command="$command ${words[number]}" ;;
    esac
  done
  case "$command $before" in
@values@
  esac
  case $command in
@words@
  esac
  _describe 'gateway' offered
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _gateway "$@"; else compdef _gateway gateway; fi
"""

_FISH = """\
# Completion of `gateway` in fish: gateway completion fish | source, or this text in
# ~/.config/fish/completions/gateway.fish
function __gateway_at
    set -l command gateway
    for word in (commandline -opc)[2..-1]
        if contains -- "$command $word" @paths@
            set command "$command $word"
        end
    end
    test "$command" = "$argv[1]"
end
complete -c gateway -f
"""


def bash(commands: Sequence[Command]) -> str:
    values, words = [], []
    for command in commands:
        for option in command.options:
            if option.takes_value:
                offered = f'COMPREPLY=($(compgen -W {_quoted(" ".join(option.values))} -- "$current")); '
                values.append(f"    {_asked(command, option)}) {offered if option.values else ''}return ;;")
        names = [*(word for word, _ in command.words), *(name for option in command.options for name in option.names)]
        only_options = "[[ $current == -* ]] || return; " if command.takes_files else ""
        words.append(f"    {_quoted(command.path)}) {only_options}words={_quoted(' '.join(names))} ;;")
    return _filled(_BASH, _alternatives(commands), values, words)


def zsh(commands: Sequence[Command]) -> str:
    values, words = [], []
    for command in commands:
        for option in command.options:
            if option.takes_value:
                offered = f"compadd -- {' '.join(map(_quoted, option.values))}" if option.values else "_files"
                values.append(f"    ({_asked(command, option)}) {offered}; return ;;")
        described = [*command.words, *((name, option.help) for option in command.options for name in option.names)]
        offered = " ".join(_quoted(_described(name, text)) for name, text in described)
        files = "_files; " if command.takes_files else ""
        words.append(f"    ({_quoted(command.path)}) {files}offered=({offered}) ;;")
    return _filled(_ZSH, _alternatives(commands), values, words)


def fish(commands: Sequence[Command]) -> str:
    lines = []
    for command in commands:
        at = f"complete -c gateway -n {_quoted('__gateway_at ' + _fish(command.path))}"
        lines += [f"{at} -a {_fish(word)} -d {_fish(text)}" for word, text in command.words]
        lines += [f"{at} -F"] if command.takes_files else []
        lines += [f"{at} {_fish_option(option)}" for option in command.options]
    paths = " ".join(_fish(command.path) for command in commands)
    return _FISH.replace("@paths@", paths) + "\n".join(lines) + "\n"


SHELLS: Mapping[str, Callable[[Sequence[Command]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _filled(text: str, paths: str, values: Iterable[str], words: Iterable[str]) -> str:
    return text.replace("@paths@", paths).replace("@values@", "\n".join(values)).replace("@words@", "\n".join(words))


def _alternatives(commands: Sequence[Command]) -> str:
    return "|".join(_quoted(command.path) for command in commands[1:])


def _asked(command: Command, option: Option) -> str:
    """What stands before the cursor where an option's value is typed."""
    return "|".join(_quoted(f"{command.path} {name}") for name in option.names)


def _described(name: str, text: str) -> str:
    """A word and what it does, as zsh's _describe takes them."""
    return name.replace(":", "\\:") + (f":{text}" if text else "")


def _fish_option(option: Option) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    value = ""
    if option.takes_value:
        value = f" -x -a {_fish(' '.join(option.values))}" if option.values else " -r -F"
    return " ".join(names) + value + f" -d {_fish(option.help)}"


def _quoted(text: str) -> str:
    return shlex.quote(text)


def _fish(text: str) -> str:
    """Quote for fish, where a backslash escapes within '…'."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
