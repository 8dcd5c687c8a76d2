"""Choose what of a client's head goes up (contract §4).

Read once for each head: clients that keep their connection repeat it. Credentials stay here whatever they are called: a
value that holds the key by which the client is known is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from urllib.parse import quote, unquote_plus

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.dialects.openai.choosing import fold

# Query fields that would choose a model or show a key. Azure's clients send api-version, which is the endpoint's own.
_KEPT_FIELDS = frozenset(("model", "modelid", "deployment", "key", "api_key", "api-version", "access_token"))
_KEY_FIELD = "idempotency-key"
_ONE_VALUE = frozenset((_KEY_FIELD, "x-client-request-id"))
_ANY_TYPE = ("accept", b"accept: */*\r\n")
# Anthropic's protocol wants its version, and has had one.
_VERSION = ("anthropic-version", b"anthropic-version: 2023-06-01\r\n")
_OF_A_PROTOCOL = ("anthropic-", "openai-")
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())

Line = tuple[str, bytes]  # a header's name, and the whole of its line


class QueryField(msgspec.Struct, frozen=True, gc=False):
    """A field of the query.

    `text` is as it was sent, `name` decoded and folded.

    `stems`: what readers of other schools may take for its name (`provider` of `provider[order]`, either of `a=1;b=2`).
    """

    name: str
    stems: tuple[str, ...]
    text: str


class PassedOn(msgspec.Struct, frozen=True):
    """What of one head goes up.

    `fields` are the header lines of the route's own headers, `lines` the same one by one.
    """

    fields: bytes = _ANY_TYPE[1]
    lines: tuple[Line, ...] = (_ANY_TYPE,)
    idempotency_key: str | None = None
    query: tuple[QueryField, ...] = ()
    is_plain: bool = True  # its target has no query, and it has no idempotency key
    headers: CIMultiDictProxy[str] = _NO_HEADERS
    kept: frozenset[str] = frozenset()  # headers of one hop alone
    credential: str | None = None

    def of_request(self, user: str, route: str, refused: tuple[str, ...]) -> PassedOn:
        """Return it for one user's request.

        Without query fields of refused names.
        """
        passed = self
        if self.query and refused:
            names = frozenset(map(fold, refused))
            query = tuple([each for each in self.query if names.isdisjoint(each.stems)])
            passed = msgspec.structs.replace(passed, query=query)
        if self.idempotency_key is not None:
            line = _hashed_key(user, route, self.idempotency_key)
            passed = msgspec.structs.replace(passed, lines=(*self.lines, (_KEY_FIELD, line)), fields=self.fields + line)
        return passed

    def lines_with(self, more: Iterable[str], without: Container[str]) -> bytes:
        """Return the header lines with `more` of the client's.

        `without`: names of those that stay here.
        """
        lines = [line for name, line in self.lines if name not in without]
        known = {name for name, _ in self.lines}
        for name in more:
            if name not in known and name not in without:
                lines += [line for _, line in _line(self.headers, name, self.kept, self.credential)]
        return b"".join(lines)

    def in_other_words(self) -> PassedOn:
        """Return it for an upstream of another protocol.

        Without the query and the headers that speak of the client's.
        """
        lines = tuple([line for line in self.lines if not line[0].startswith(_OF_A_PROTOCOL)])
        return msgspec.structs.replace(self, lines=lines, fields=b"".join([line for _, line in lines]), query=())

    def query_without(self, names: Container[str]) -> str:
        """Return the query without fields of these names."""
        return "&".join([each.text for each in self.query if not any(stem in names for stem in each.stems)])

    def __repr__(self) -> str:
        return f"<PassedOn: {', '.join(name for name, _ in self.lines)}; {len(self.query)} query fields>"


NOTHING = PassedOn()


def passed_on(
    headers: CIMultiDictProxy[str], target: str, names: Iterable[str], credential: str | None = None
) -> PassedOn:
    """Return what goes up of a head.

    `names`: the headers that its route passes.
    """
    kept, names = _of_one_hop(headers), tuple(names)
    has_query, key = "?" in target, _idempotency_key(headers, names, kept)
    lines: list[Line] = []
    for name in names:
        if name != _KEY_FIELD:
            lines += _line(headers, name, kept, credential)
    if not any(name == "accept" for name, _ in lines):
        lines.insert(0, _ANY_TYPE)
    if _VERSION[0] in names and not any(name == _VERSION[0] for name, _ in lines):
        lines.append(_VERSION)
    return PassedOn(
        fields=b"".join([line for _, line in lines]),
        lines=tuple(lines),
        idempotency_key=key,
        query=_query(target, credential) if has_query else (),
        is_plain=key is None and not has_query,
        headers=headers,
        kept=kept,
        credential=credential,
    )


def query_names(query: Iterable[str]) -> frozenset[str]:
    """Return the names of an endpoint's query as a client's are compared."""
    return frozenset(stem for name in query for stem in (fold(name), _stem(fold(name))))


def _idempotency_key(headers: CIMultiDictProxy[str], names: Container[str], kept: Container[str]) -> str | None:
    return headers.get(_KEY_FIELD) or None if _KEY_FIELD in names and _KEY_FIELD not in kept else None


def _of_one_hop(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    if "connection" not in headers:
        return frozenset()
    named = ",".join(headers.getall("connection")).split(",")
    return frozenset([name.strip(" \t").lower() for name in named])


def _line(headers: CIMultiDictProxy[str], name: str, kept: frozenset[str], credential: str | None) -> list[Line]:
    """The line of a header, none where there is nothing to pass."""
    if name not in headers or name in kept:
        return []
    values = headers.getall(name)
    value = (values[0] if name in _ONE_VALUE else ", ".join(values)).strip(" \t")
    if not value or (credential and credential in value):
        return []
    return [(name, f"{name}: {value}\r\n".encode("utf-8", "surrogateescape"))]


def _query(target: str, credential: str | None) -> tuple[QueryField, ...]:
    """The query's fields that may go up, each name once.

    The first of several holds, as for whoever asks here whether a stream is wanted; a list (`include[]`) may repeat its
    name.
    """
    fields: list[QueryField] = []
    seen: set[str] = set()
    for text in target.partition("#")[0].partition("?")[2].split("&"):
        if not text:
            continue
        field = _field(text)
        if not _KEPT_FIELDS.isdisjoint(field.stems) or field.name in seen:
            continue
        if credential and credential in unquote_plus(text):
            continue
        if not field.name.endswith("[]"):
            seen.add(field.name)
        fields.append(field)
    return tuple(fields)


def _field(text: str) -> QueryField:
    names = [fold(unquote_plus(part.partition("=")[0]).strip()) for part in text.split(";")]
    visible = quote(text.encode("utf-8", "surrogateescape"), safe=_VISIBLE)
    return QueryField(names[0], tuple([stem for name in names for stem in (name, _stem(name))]), visible)


def _stem(name: str) -> str:
    return name.partition("[")[0].strip()


def _hashed_key(user: str, route: str, key: str) -> bytes:
    """The line that stands for a client's idempotency key.

    Callers share the provider's account: one's key must not meet another's answer.
    """
    parts = [part.encode("utf-8", "surrogateescape") for part in (user, route, key)]
    digest = hashlib.sha256(b"".join([b"%d:%b" % (len(part), part) for part in parts])).hexdigest()
    return f"{_KEY_FIELD}: {digest}\r\n".encode()
