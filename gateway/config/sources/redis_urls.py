"""Redis URLs: one server, Sentinel or a Cluster.

    redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?OPTIONS]
    unix://[USER:PASSWORD@]/PATH[?db=DATABASE&OPTIONS]
    redis+sentinel://[USER:PASSWORD@]HOST[:26379],…/SERVICE[/DATABASE][?sentinel_username=…&sentinel_password=…&OPTIONS]
    redis+cluster://[USER:PASSWORD@]HOST[:6379],…[?OPTIONS]

`rediss` in place of `redis` is TLS, to Sentinels too. User and password are those of the servers; Sentinels have their
own, or none. OPTIONS are redis-py's.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode

from gateway.config.checks import has_valid_host, split_url
from gateway.config.problems import Refused

Form = Literal["single", "sentinel", "cluster"]

SENTINEL_PORT, SERVER_PORT = 26_379, 6_379

_SCHEME = re.compile(r"(redis|rediss|unix|rediss?\+(?:sentinel|cluster))://", re.IGNORECASE)
_DATABASE = re.compile(r"/?|/[0-9]{1,6}", re.ASCII)
_SERVICE = re.compile(r"/([^/]+)(?:/([0-9]{0,6}))?", re.ASCII)
_SENTINELS_OWN = {"sentinel_username": "username", "sentinel_password": "password"}
_SERVERS_OWN = frozenset(("username", "password", "db", "protocol"))
# What redis-py takes of what can be written in a URL.
_OPTIONS = frozenset(
    """username password db protocol client_name lib_name lib_version encoding encoding_errors decode_responses
    socket_timeout socket_connect_timeout socket_keepalive socket_read_size retry_on_timeout health_check_interval
    max_connections timeout
    ssl_keyfile ssl_certfile ssl_cert_reqs ssl_ca_certs ssl_ca_data ssl_ca_path ssl_check_hostname ssl_min_version
    ssl_ciphers ssl_password""".split()  # noqa: SIM905
)

_PLACE = frozenset(("host", "port", "path"))


class RedisUrl(NamedTuple):
    """A URL taken apart.

    `single`: a URL for redis-py of a server, whose host is to be replaced unless the form is "single".

    `places`: Sentinels, or nodes of a Cluster. `sentinel`: as `single`, of a Sentinel.
    """

    form: Form
    single: str
    places: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel: str = ""


def redis_url(text: str) -> str:
    """Check a URL."""
    read_redis_url(text)
    return text


def read_redis_url(text: str) -> RedisUrl:
    """Raise Refused, without a word of what the URL holds."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise Refused("must begin with redis://, redis+sentinel://, redis+cluster://, rediss… (TLS) or unix://")
    parts = split_url(text.replace(" ", "%20"))  # a path on disk may hold spaces
    name, _, form = scheme[1].lower().partition("+")
    _check_options(parts.query, form)
    if form == "sentinel":
        return _sentinel(name, parts)
    if form == "cluster":
        return _cluster(name, parts)
    if name == "unix":
        _check_socket(text)
    else:
        _check_server(parts)
    return RedisUrl("single", text)


def _check_options(query: str, form: str) -> None:
    known = _OPTIONS | _SENTINELS_OWN.keys() if form == "sentinel" else _OPTIONS
    if not form:
        known |= _PLACE
    options = parse_qsl(query, keep_blank_values=True)
    if any(name not in known for name, _ in options):
        raise Refused("has an option that is not known")
    if any(name == "protocol" and value not in ("2", "3") for name, value in options):
        raise Refused("must have 2 or 3 as its option `protocol`")


def _check_socket(text: str) -> None:
    if not text.partition("://")[2].partition("?")[0].rpartition("@")[2].startswith("/"):
        raise Refused("must name a socket: unix:///run/redis.sock")


def _check_server(parts: SplitResult) -> None:
    host = parts.netloc.rpartition("@")[2]
    if "," in host:
        raise Refused("must name one server; several are redis+sentinel://… or redis+cluster://…")
    if host and not has_valid_host(parts):  # none: this machine
        raise Refused("must have a valid host (and a port from 1 to 65535 if any)")
    if not _DATABASE.fullmatch(parts.path):
        raise Refused("must end with the number of a database, as in redis://127.0.0.1:6379/0, or nothing")


def _sentinel(scheme: str, parts: SplitResult) -> RedisUrl:
    path = _SERVICE.fullmatch(parts.path)
    if path is None:
        raise Refused("must name the service, as in redis+sentinel://a:26379,b:26379/mymaster or …/mymaster/0")
    options = parse_qsl(parts.query, keep_blank_values=True)
    of_sentinels = [(name, value) for name, value in options if name not in _SERVERS_OWN | _SENTINELS_OWN.keys()]
    own = {_SENTINELS_OWN[name]: value for name, value in options if name in _SENTINELS_OWN}
    login = f"{quote(own.get('username', ''), safe='')}:{quote(own.get('password', ''), safe='')}@" if own else ""
    of_servers = [(name, value) for name, value in options if name not in _SENTINELS_OWN]
    return RedisUrl(
        "sentinel",
        f"{scheme}://{_login(parts)}localhost/{path[2] or '0'}?{urlencode(of_servers)}",
        _places(parts, SENTINEL_PORT),
        unquote(path[1]),
        f"{scheme}://{login}localhost/?{urlencode(of_sentinels)}",
    )


def _cluster(scheme: str, parts: SplitResult) -> RedisUrl:
    if parts.path not in ("", "/", "/0") or any(name == "db" and n != "0" for name, n in parse_qsl(parts.query)):
        raise Refused("must not name a database: a Cluster has one, number 0")
    return RedisUrl("cluster", f"{scheme}://{_login(parts)}localhost/?{parts.query}", _places(parts, SERVER_PORT))


def _login(parts: SplitResult) -> str:
    login, at, _ = parts.netloc.rpartition("@")
    return login + at


def _places(parts: SplitResult, default_port: int) -> tuple[tuple[str, int], ...]:
    places: list[tuple[str, int]] = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        place = split_url(f"redis://{each}")
        if not has_valid_host(place):
            raise Refused("must name valid hosts, as in a:26379,b:26379 (ports from 1 to 65535 if any)")
        places.append((place.hostname or "", place.port or default_port))
    return tuple(places)
