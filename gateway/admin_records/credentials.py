"""Endpoints as admins send them: kept credentials and private addresses."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.admin_records.record_bodies import EndpointBody
from gateway.admin_records.redaction import SET
from gateway.config import checks
from gateway.config.problems import Refused
from gateway.config.sources.certificates import context_of
from gateway.errors import EndpointNotAllowed, InvalidRequest
from gateway.http.client.addresses import may_be_reached
from gateway.types import AuthHeader, Endpoint, Secret, id_text, usual_auth_header

RESOLVE_SECONDS = 2.0


def endpoint_documents(bodies: Iterable[EndpointBody], known: Iterable[Endpoint] = ()) -> list[dict[str, Any]]:
    """Return the endpoints as gateway.yaml names them.

    With the credentials that stay as they are `known`.

    Raises InvalidRequest for a credential that is to stay and is not there, or would be sent otherwise than before.
    """
    by_id = {id_text(endpoint.id): endpoint for endpoint in known}
    return [_document(f"endpoints[{index}]", body, by_id.get(id_text(body.id))) for index, body in enumerate(bodies)]


def _document(path: str, body: EndpointBody, known: Endpoint | None) -> dict[str, Any]:
    given: dict[str, Any] = msgspec.to_builtins(body)
    url = one_of(given, path, "url", "endpoint")
    if url is None:
        raise InvalidRequest(f"{path}.url: is missing")
    document = given | {"url": _normal_url(path, url)}
    kept = _Kept(path, known)
    has_key = any(name in given for name in ("api_key", "apiKey", "key"))
    api_key = one_of(document, path, "api_key", "apiKey", "key")
    document["api_key"] = kept.text("api_key", SET if api_key is None and not has_key else api_key, is_given=has_key)
    for name in ("headers", "query"):
        document[name] = kept.values(name, given.get(name))
    kept.refuse_another_use(document)
    return document


class _Kept:
    """The credentials of a known endpoint that a body leaves."""

    def __init__(self, path: str, known: Endpoint | None) -> None:
        self._path = path
        self._known = known
        self._is_used = False

    def text(self, name: str, value: str | None, *, is_given: bool) -> str | None:
        if value != SET:
            return value
        found = self._known.api_key if self._known is not None else None
        return self._reveal(name, found) if found is not None or is_given else None

    def values(self, name: str, given: Mapping[str, str] | None) -> dict[str, str]:
        known: Mapping[str, Secret] = {} if self._known is None else getattr(self._known, name)
        if given is None:
            return {each: self._reveal(f"{name}.{each}", value) for each, value in known.items()}
        return {
            each: self._reveal(f"{name}.{each}", known.get(each)) if value == SET else value
            for each, value in given.items()
        }

    def _reveal(self, name: str, secret: Secret | None) -> str:
        if secret is None:
            raise InvalidRequest(f"{self._path}.{name}: nothing is stored that `set` could stand for")
        self._is_used = True
        return secret.reveal()

    def refuse_another_use(self, document: Mapping[str, Any]) -> None:
        """Refuse to send a stored credential elsewhere.

        It is sent only as it was meant to be, or an admin could have it sent to a place of their own.

        The path counts like the host (tenants share one), and so do headers and queries: proxies are led by them.
        """
        if not self._is_used or self._known is None:
            return
        for name, before in _aims(self._known):
            if (_auth_header(document) if name == "auth_header" else document.get(name)) != before:
                raise InvalidRequest(
                    f"{self._path}.{name}: where this changes the credential must be given again "
                    "(`api_key`, and the values of `headers` and `query`)"
                )


def _auth_header(document: Mapping[str, Any]) -> AuthHeader | None:
    return document.get("auth_header") or usual_auth_header(document.get("protocols", ("openai",)))


def one_of(fields: dict[str, Any], path: str, *names: str) -> Any:
    """Pop the value given under one of several names, or None."""
    found = [(name, fields.pop(name)) for name in names if name in fields]
    if len({str(value) for _, value in found}) > 1:
        raise InvalidRequest(f"{path}: {' and '.join(f'`{name}`' for name, _ in found)} contradict each other")
    return found[0][1] if found else None


def _normal_url(path: str, url: str) -> str:
    try:
        return checks.endpoint_url(url)
    except Refused as refused:
        raise InvalidRequest(f"{path}.url: {refused}") from None


def _aims(endpoint: Endpoint) -> Iterator[tuple[str, Any]]:
    """Return all that decides where a credential goes.

    As a document has it.
    """
    yield "url", endpoint.url
    yield "auth_header", endpoint.auth_header
    yield "ca_file", endpoint.ca_file
    for name, values in (("headers", endpoint.headers), ("query", endpoint.query)):
        yield name, {each: value.reveal() for each, value in values.items()}


async def refuse_unfit_ca_files(endpoints: Iterable[Endpoint]) -> None:
    """Raise InvalidRequest for a `ca_file` that holds no authorities here.

    Whatever is wrong with it, the words are the same: nobody learns which files there are.
    """
    for index, endpoint in enumerate(endpoints):
        if endpoint.ca_file is None:
            continue
        try:
            if not os.path.isabs(endpoint.ca_file):
                raise Refused("relative")
            await asyncio.to_thread(context_of, endpoint.ca_file)
        except Refused:
            raise InvalidRequest(
                f"endpoints[{index}].ca_file: no absolute path of a file with certificates in PEM form on this machine"
            ) from None


async def refuse_private(endpoints: Iterable[Endpoint], private_networks: tuple[str, ...]) -> None:
    """Raise EndpointNotAllowed for a URL that leads to private addresses.

    A name that cannot be resolved just now is let be: each connection is held to the same rule when it is made.
    """
    hosts = [urlsplit(endpoint.url).hostname or "" for endpoint in endpoints]
    found = await asyncio.gather(*map(_addresses, hosts))
    for index, (host, addresses) in enumerate(zip(hosts, found, strict=True)):
        if not all(may_be_reached(address, private_networks) for address in addresses):
            raise EndpointNotAllowed(
                f"endpoints[{index}].url: {host} leads to an address that is not public, "
                "and `server.private_endpoints` does not let it in"
            )


async def _addresses(host: str) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            # Without the dot of the root: not every resolver knows `localhost.` and `127.0.0.1.`, but some do.
            found = await loop.getaddrinfo(host.rstrip("."), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(address[4][0]) for address in found]
