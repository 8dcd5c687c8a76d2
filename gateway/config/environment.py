"""What the gateway takes from its environment beside `${VAR}`: the way out through a proxy."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config import checks
from gateway.config.problems import Problems, Refused
from gateway.config.settings import ProxySettings
from gateway.types import Secret


def read_proxy(environ: Mapping[str, str], problems: Problems) -> ProxySettings:
    """`https_proxy` and `no_proxy`, in lower case first, as curl does; an empty variable counts as not set."""
    variable, url = _first_set(environ, "https_proxy", "HTTPS_PROXY")
    _, no_proxy = _first_set(environ, "no_proxy", "NO_PROXY")
    return ProxySettings(https_proxy=_checked(variable, url, problems) if url else None, no_proxy=no_proxy)


def _first_set(environ: Mapping[str, str], *variables: str) -> tuple[str, str]:
    return next(((name, environ[name]) for name in variables if environ.get(name)), (variables[0], ""))


def _checked(variable: str, url: str, problems: Problems) -> Secret | None:
    try:
        return Secret(checks.proxy_url(url))
    except Refused as refused:
        problems.add_environment(variable, str(refused))
        return None
