"""Read the proxy from environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config import checks
from gateway.config.problems import Problems, Refused
from gateway.config.settings import ProxySettings
from gateway.types import Secret


def read_proxy(environ: Mapping[str, str], problems: Problems, *, is_needed: bool) -> ProxySettings:
    """Read `https_proxy`, else `all_proxy`, and `no_proxy`.

    In lower case first, as curl does; empty counts as not set.

    One that cannot be used (SOCKS, TLS) is a problem only where it `is_needed`. `all_proxy`, which others understand
    in ways that the gateway does not, is passed over then.
    """
    variable, url = _first_set(environ, "https_proxy", "HTTPS_PROXY")
    _, no_proxy = _first_set(environ, "no_proxy", "NO_PROXY")
    try:
        return ProxySettings(_usable(url) if url else _of_all(environ), no_proxy)
    except Refused as refused:
        if is_needed:
            problems.add_environment(variable, str(refused))
        return ProxySettings(None, no_proxy, refusal=f"{variable}: {refused}")


def _of_all(environ: Mapping[str, str]) -> Secret | None:
    _, url = _first_set(environ, "all_proxy", "ALL_PROXY")
    try:
        return _usable(url) if url else None
    except Refused:
        return None


def _first_set(environ: Mapping[str, str], *variables: str) -> tuple[str, str]:
    return next(
        ((name, environ[name].strip()) for name in variables if environ.get(name, "").strip()), (variables[0], "")
    )


def _usable(url: str) -> Secret:
    return Secret(checks.proxy_url(url))
