"""Write records to Redis, with the set of models and notices."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from gateway.redis.link import Link
from gateway.redis.script import Script
from gateway.store.base import Kind

# One atomic step: compare (if asked to), write, keep the set of models, tell everyone. A document is sent with `=`
# before it, so that an empty one is told from none. What has another type than text counts as no document. A time to
# live that the panel gave a key is kept. Returns {done, what was there before}.
_WRITE = Script(
    """
local before = redis.pcall('GET', KEYS[1])
if type(before) == 'table' then before = false end
if ARGV[1] == 'if' and (before and '=' .. before or '') ~= ARGV[2] then return {0, before} end
if ARGV[3] == '' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], string.sub(ARGV[3], 2), 'KEEPTTL') end
if KEYS[2] then redis.call(ARGV[3] == '' and 'SREM' or 'SADD', KEYS[2], ARGV[4]) end
redis.call('PUBLISH', ARGV[5], ARGV[6])
return {1, before}
"""
)


class Written(NamedTuple):
    """A record as it shall be: `=` and the document, or empty.

    `expected`: in the same form, what must be there now, where it `is_conditional`.
    """

    kind: Kind
    id: str
    expected: bytes
    document: bytes
    is_conditional: bool


class RecordWriter:
    """Write records; raises RedisUnavailable.

    In a Cluster a model's record and the set of ids may be on two servers, which no step spans.
    """

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._prefix = prefix
        self._ids = f"{prefix}models"
        self._channel = f"{prefix}changed"

    async def write(self, record: Written) -> tuple[bool, bytes | None]:
        """Return whether it was written, and what was there before."""
        key = f"{self._prefix}{record.kind}:{record.id}"
        if record.kind != "model":
            return await self._run([key], record)
        return await (self._write_apart(key, record) if self._link.is_spread else self._run([key, self._ids], record))

    async def _write_apart(self, key: str, record: Written) -> tuple[bool, bytes | None]:
        """Write a model in several steps.

        Whatever happens between them: a record that is there has its id in the set. An id without one is harmless.
        """
        call = self._link.call
        if record.document and not record.expected:
            await call("SADD", self._ids, record.id)
        wrote, before = await self._run([key], record)
        if not wrote:
            return False, before
        if not record.document:
            await call("SREM", self._ids, record.id)
        # Somebody else may have deleted it, or made it, at the same time.
        is_there = record.document or await call("EXISTS", key)
        if is_there and await call("SADD", self._ids, record.id):
            await call("PUBLISH", self._channel, _notice(record))
        return True, before

    async def _run(self, keys: list[str], record: Written) -> tuple[bool, bytes | None]:
        condition = "if" if record.is_conditional else "always"
        arguments = (condition, record.expected, record.document, record.id, self._channel, _notice(record))
        done, before = await self._link.call_script(_WRITE, keys, *arguments)
        return bool(done), before

    def __repr__(self) -> str:
        return f"<RecordWriter over {self._link!r}>"


def _notice(record: Written) -> bytes:
    return orjson.dumps({"kind": record.kind, "id": record.id})
