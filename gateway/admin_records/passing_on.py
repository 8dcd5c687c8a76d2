"""What a caller may make of a key: nothing beyond its own.

Whoever gets a key's text has what the key may do. So a text that is made anew is judged as a key that is made, and so
is whatever gives a key more than it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network

from gateway.errors import InsufficientScope
from gateway.types import ApiKey, Caller, Limits, id_text

_AMOUNTS = ("rpm", "tpm", "concurrency", "requests", "tokens", "cost")


def refuse_scopes(scopes: Iterable[str], caller: Caller) -> None:
    """Raise InsufficientScope for what a key has not, or keeps to itself.

    Behind a panel that passes its users' requests on, whoever is acted for could act for everybody.
    """
    for scope in scopes:
        if scope not in caller.key.scopes:
            raise InsufficientScope(f"This key cannot give the scope `{scope}`, which it does not have itself.")
        if scope == "act:as" and id_text(caller.user.id) != id_text(caller.key.user):
            raise InsufficientScope("A key that is made for somebody else cannot have the scope `act:as`.")


def refuse_token(maker: ApiKey) -> None:
    """Raise InsufficientScope for a token: what it made would outlive it."""
    if maker.issuer is not None:
        raise InsufficientScope("A token of an identity provider cannot make a key's text; use a key.")


def refuse_new_text(key: ApiKey, caller: Caller) -> None:
    """Raise InsufficientScope where its text gives more than the caller has.

    A key gets a new text of itself, of what it made, and of what is no wider.
    """
    refuse_token(caller.key)
    refuse_scopes(key.scopes, caller)
    for link in _bounds(caller):
        if link.sha256 != key.sha256 and not _is_below(key, link):
            raise InsufficientScope("This key is limited in ways that the other is not: it cannot give it a new text.")


def refuse_widening(before: ApiKey, after: ApiKey, caller: Caller) -> None:
    """Raise InsufficientScope where a change gives more than the caller may.

    What is limited itself gives more to what it made, which its own limits go on to hold, and to no other: not to
    itself either.
    """
    if not _is_wider(after, before):
        return
    refuse_scopes(before.scopes, caller)
    if any(not _is_below(before, link) for link in _bounds(caller)):
        raise InsufficientScope("This key is limited itself: it can take from the other, and give it nothing more.")


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the earlier of two ends; None is never."""
    return min((each for each in (one, other) if each is not None), default=None)


def _bounds(caller: Caller) -> Iterator[ApiKey]:
    """Yield those of the caller's key and its makers that are limited.

    An end that a key has from a maker is the maker's.
    """
    inherited = {maker.expires for maker in caller.makers}
    for link in (caller.key, *caller.makers):
        ends = link.expires is not None and (link is not caller.key or link.expires not in inherited)
        if ends or link.ips or link.models is not None or link.limits is not None:
            yield link


def _is_below(key: ApiKey, link: ApiKey) -> bool:
    """Whether the link made the key and limits it.

    The end of a text that was replaced does not hold what it made.
    """
    return link.replaced_by is None and id_text(link.id) in key.makers


def _is_wider(key: ApiKey, before: ApiKey) -> bool:
    """Whether a key may do anything that it might not before."""
    return (
        not key.scopes <= before.scopes
        or earlier(key.expires, before.expires) != key.expires
        or (before.models is not None and not set((None,) if key.models is None else key.models) <= set(before.models))
        or (bool(before.ips) and not _are_within(key.ips, before.ips))
        or (before.limits is not None and _are_looser(key.limits, before.limits))
    )


def _are_within(ranges: Iterable[str], others: Iterable[str]) -> bool:
    """Whether each range lies in one of the others; none is everywhere."""
    networks, around = [ip_network(each) for each in ranges], [ip_network(each) for each in others]
    return bool(networks) and all(any(_is_subnet(each, other) for other in around) for each in networks)


def _is_subnet(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    # Compared by hand: typing knows no common ancestor of the two kinds.
    within = int(one.network_address) & int(other.netmask) == int(other.network_address)
    return one.version == other.version and one.prefixlen >= other.prefixlen and within


def _are_looser(limits: Limits | None, before: Limits) -> bool:
    if limits is None or limits.period != before.period:
        return True
    pairs = [(getattr(limits, name), getattr(before, name)) for name in _AMOUNTS]
    return any(was is not None and (now is None or now > was) for now, was in pairs)
