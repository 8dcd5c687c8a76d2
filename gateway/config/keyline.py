"""The line of `keys:` that `gateway keys new` prints for pasting."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime

from gateway.config.yaml.scalars import plain_kind
from gateway.types import SCOPES, Id, utc_text

_SURELY_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)


def key_yaml_line(key_id: Id, user: Id, sha256: str, scopes: Iterable[str], expires: datetime | None) -> str:
    """Return a key's line for gateway.yaml, for pasting.

    `  - {id: …, user: …, hash: "sha256:…", scopes: […]}`, which reads back as the same record.

    `sha256` is the bare hex digest; `expires`, if any, carries a time zone.
    """
    pairs = [
        f"id: {_value(key_id)}",
        f"user: {_value(user)}",
        f'hash: "sha256:{sha256}"',
        f"scopes: [{_scope_list(scopes)}]",
    ]
    if expires is not None:
        pairs.append(f"expires: {utc_text(expires, exact=True)}")
    return f"  - {{{', '.join(pairs)}}}"


def _value(value: Id) -> str:
    if isinstance(value, int):
        return str(value)
    if _SURELY_PLAIN.fullmatch(value) and plain_kind(value) == "text":
        return value
    return json.dumps(value, ensure_ascii=False).replace("${", "$${")


def _scope_list(scopes: Iterable[str]) -> str:
    given = set(scopes)
    return ", ".join(scope for scope in SCOPES if scope in given)
