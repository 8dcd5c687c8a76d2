"""Resolve models that a request names besides its own (contract §3).

Its tools', its moderation's, a transcription's.

An upstream serves them itself, within the one request. So they must be there too: at an endpoint of that model which
has the same account as the endpoint that is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.access.resolve import access_to
from gateway.dialects.openai import Mention
from gateway.errors import ModelNotAccessible, StoreUnavailable
from gateway.store.base import Catalogue
from gateway.types import Caller, Endpoint, Model

_Account = tuple[object, ...]


class Companion(NamedTuple):
    """A model that a request names besides its own. `param`: where."""

    param: str
    model: Model

    def provider_model_at(self, endpoint: Endpoint) -> str | None:
        """Return the model's name at `endpoint`'s provider, or None."""
        account = _account(endpoint)
        for own in self.model.endpoints:
            if own is endpoint or _account(own) == account:
                return own.provider_model or self.model.provider_model or self.model.name
        return None


def companions(caller: Caller, catalogue: Catalogue, mentions: Iterable[Mention]) -> tuple[Companion, ...]:
    """Resolve each named model. Raises ModelNotAccessible, StoreUnavailable.

    ModelNotAccessible with its place.
    """
    return tuple([_companion(caller, catalogue, mention) for mention in mentions])


def are_served_at(found: Iterable[Companion], endpoint: Endpoint) -> bool:
    return all(each.provider_model_at(endpoint) is not None for each in found)


def require_common_endpoint(found: Iterable[Companion], endpoints: list[Endpoint]) -> None:
    """Raise ModelNotAccessible where no endpoint serves them all.

    For the first of them that leaves none.
    """
    for each in found:
        endpoints = [one for one in endpoints if each.provider_model_at(one) is not None]
        if not endpoints:
            raise _refusal(each.param)


def _companion(caller: Caller, catalogue: Catalogue, mention: Mention) -> Companion:
    value = mention.value
    is_name = isinstance(value, str | int) and not isinstance(value, bool)
    model = catalogue.find(value) if is_name else None
    if model is None:
        if is_name and not catalogue.is_complete:
            raise StoreUnavailable("The models cannot be read at the moment; ask again.")
        raise _refusal(mention.param)
    try:
        return Companion(mention.param, access_to(caller, model).model)
    except ModelNotAccessible:
        raise _refusal(mention.param) from None


def _refusal(param: str) -> ModelNotAccessible:
    """Return one error for unknown and ungranted models."""
    return ModelNotAccessible(
        f"The model named in `{param}` is none that your key may use together with the request's own.", param=param
    )


def _account(endpoint: Endpoint) -> _Account:
    """Return the endpoint's account: origin, credential and headers."""
    url = urlsplit(endpoint.url)
    port = url.port or (443 if url.scheme == "https" else 80)
    headers = frozenset((name.lower(), value) for name, value in endpoint.headers.items())
    credential = url.netloc.rpartition("@")[0], endpoint.api_key, endpoint.auth_header
    return url.scheme, url.hostname, port, *credential, headers
