"""gateway init, gateway example: how a configuration begins"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import gateway
from gateway.access.authenticate import key_sha256
from gateway.cli.arguments import DEFAULT_CONFIG, Commands, add_command, add_config
from gateway.cli.console import complain, print_line
from gateway.config import key_yaml_line, parse_settings
from gateway.config.private_files import FILE_MODE

EXAMPLE = "gateway.yaml.example"
_CREDENTIAL = "upstream.key"
_USUAL_URL = "https://api.openai.com/v1"
_ENDED = "the answers have ended; nothing was written"

_TEXT = """\
# Written by `gateway init`. `gateway example` shows every key there is; `gateway check` judges this file.
models:
  - id: 1
    name: {model}
    global: true                 # anyone with a key may use it
    endpoints:
      - id: first
        url: {url}
{credential}\
users:
  - id: me
keys:
{key}
"""


def add_to(commands: Commands) -> None:
    text = "ask three questions and write a gateway.yaml that serves"
    init = add_command(commands, "init", _run_init, text, "gateway init && gateway serve")
    init.add_argument("--url", help="the upstream's base URL, instead of being asked")
    init.add_argument("--model", metavar="NAME", help="the model's name there and here, instead of being asked")
    credential = init.add_mutually_exclusive_group()
    credential.add_argument("--key-variable", metavar="NAME", help="the environment variable with the credential")
    credential.add_argument("--key-file", metavar="FILE", help="the file with the credential, beside gateway.yaml")
    credential.add_argument("--no-key", action="store_true", help="the upstream wants no credential")
    add_config(init)
    text = "print a gateway.yaml with every key, its default and what it does"
    add_command(commands, "example", _run_example, text, f"gateway example > {DEFAULT_CONFIG}")


# -- example


def _run_example(_: argparse.Namespace) -> int:
    sys.stdout.write(example_path().read_text("utf-8"))
    return 0


def example_path() -> Path:
    """Return the example in the wheel, or that of a checkout."""
    package = Path(gateway.__file__).parent
    inside = package / EXAMPLE
    return inside if inside.exists() else package.parent / EXAMPLE


# -- init


def _run_init(arguments: argparse.Namespace) -> int:
    file = Path(arguments.config)
    if os.path.lexists(file):
        complain(f"gateway: {file} is there already, and is left as it is.")
        return 1
    try:
        url = arguments.url or _asked(f"The upstream's base URL [{_USUAL_URL}]: ") or _USUAL_URL
        model = arguments.model or _required("The model's name, as the upstream calls it: ")
        reference, secret = _credential(arguments)
    except EOFError:
        complain(f"gateway: {_ENDED}.")
        return 1
    key = f"sk-ecli-{secrets.token_urlsafe(32)}"
    line = key_yaml_line("first", "me", key_sha256(key), ["ai:use"], None)
    credential = f"        api_key: {_quoted(reference)}\n" if reference else ""
    text = _TEXT.format(model=_literal(model), url=_literal(url), credential=credential, key=line)
    kept = file.parent / _CREDENTIAL
    _judge(text.replace(credential, "") if secret else text, file)
    if secret:
        write_new(kept, secret + "\n")
    write_new(file, text)
    _print_next(file, kept if secret else None, key, model)
    return 0


def _credential(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the credential's line, and what is kept beside it."""
    if arguments.no_key:
        return "", ""
    if arguments.key_variable:
        return f"${{{arguments.key_variable}}}", ""
    if arguments.key_file:
        return f"${{file:{arguments.key_file}}}", ""
    question = "The upstream's API key (not shown; empty if it wants none): "
    secret = getpass.getpass(question).strip() if sys.stdin.isatty() else _asked(question)
    return (f"${{file:{_CREDENTIAL}}}", secret) if secret else ("", "")


def _judge(text: str, file: Path) -> None:
    """Raise ConfigError before anything is written."""
    parse_settings(text, str(file), os.environ, file.absolute().parent)


def _asked(question: str) -> str:
    """Ask on stderr. Raises EOFError where there is no answer."""
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        sys.stderr.write("\n")
        raise EOFError
    return answer.strip()


def _required(question: str) -> str:
    while not (answer := _asked(question)):
        pass
    return answer


def _literal(text: str) -> str:
    return _quoted(text.replace("${", "$${"))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # which YAML reads alike


def write_new(path: Path, text: str) -> None:
    """Write a file that its owner alone may read. Raises FileExistsError."""
    opener: Callable[[str, int], int] = lambda name, flags: os.open(name, flags, FILE_MODE)  # noqa: E731
    with open(path, "x", encoding="utf-8", opener=opener) as written:
        written.write(text)


def _print_next(file: Path, kept: Path | None, key: str, model: str) -> None:
    print_line(f"{file} is written" + (f", the upstream's key is in {kept}." if kept is not None else "."))
    print_line("")
    print_line(f"key:  {key}")
    print_line("      It is stored nowhere, only its hash is: keep it now.")
    option = "" if str(file) == DEFAULT_CONFIG else f" -c {file}"
    print_line("")
    print_line(f"  gateway serve{option}")
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello?"}]})
    print_line(f"  curl http://127.0.0.1:8080/v1/chat/completions -H 'Authorization: Bearer {key}' \\")
    print_line(f"    -H 'Content-Type: application/json' -d '{body}'")
