"""Check single values beyond their type.

Each check takes the text and returns it normalised, or raises `Refused`.

No reason quotes the value where it can hold a credential (URLs, headers, keys).
"""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from gateway.config.problems import Refused, shown

MIN_KEY_CHARACTERS = 24
WEBHOOK_SECRET = "whsec_"  # noqa: S105 - how one begins
MIN_WEBHOOK_BYTES, MAX_WEBHOOK_BYTES = 16, 64

HASH_PATTERN = r"^sha256:[0-9a-fA-F]{64}$"

_HASH = re.compile(HASH_PATTERN)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z._-]*[0-9A-Za-z.])?")

_DATABASE_SCHEMES = ("sqlite", "postgresql", "mysql", "mariadb")

# Hop-by-hop headers, and those that the gateway must set itself for a request to be framed and read rightly.
_RESERVED_HEADERS = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "content-type",
        "accept-encoding",
        "expect",
    )
)

# What a client shows of itself or of its way is nobody's business behind the gateway.
_NEVER_PASSED = _RESERVED_HEADERS | frozenset(
    """authorization cookie cookie2 set-cookie set-cookie2 x-gateway-user x-gateway-model
    via forwarded x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip fastly-client-ip
    x-original-forwarded-for x-original-host x-original-url x-rewrite-url x-envoy-external-address http2-settings
    content-encoding transfer-coding idempotency-key""".split()  # noqa: SIM905
)
_PREFIXES_NEVER_PASSED = ("proxy-", "x-forwarded", "sec-websocket-")
_CREDENTIAL = re.compile(
    r"(?:.*[-_])?(?:(?:api|access|subscription)[-_]?key|authorization|(?:auth|access|session|id|security)[-_]token"
    r"|secret|password)"
)


def not_empty(text: str) -> str:
    if not text:
        raise Refused("must not be empty")
    return text


def label(text: str) -> str:
    """Check a name or an id, which appears in headers and URLs.

    And in logs.
    """
    if not_empty(text) != text.strip():
        raise Refused("must not begin or end with a space")
    return text


def header_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise Refused("not a valid header name")
    if text.lower() in _RESERVED_HEADERS:
        raise Refused("a header that the gateway sets itself")
    return text


def passed_header(text: str) -> str:
    """Check the name of a client's header that may go up.

    Returned in lower case.
    """
    if not _TOKEN.fullmatch(text):
        raise Refused("not a valid header name")
    name = text.lower()
    if name in _NEVER_PASSED or name.startswith(_PREFIXES_NEVER_PASSED) or _CREDENTIAL.fullmatch(name):
        raise Refused(
            "a header that is never passed on: a credential, a cookie, of one hop, of the way that a request has come, "
            "or one that the gateway sets itself"
        )
    return name


def header_value(text: str) -> str:
    if not _HEADER_VALUE.fullmatch(not_empty(text)):
        raise Refused("not a valid header value (printable ASCII, no space at either end)")
    return text


def credential(text: str) -> str:
    if text[:7].lower() == "bearer ":
        raise Refused("give the bare key: `Bearer` is added where it is needed")
    if not _VISIBLE.fullmatch(not_empty(text)):
        raise Refused("must be printable ASCII without spaces")
    return text


def plain_key(text: str) -> str:
    if len(text) < MIN_KEY_CHARACTERS:
        raise Refused(f"must be at least {MIN_KEY_CHARACTERS} characters")
    return credential(text)


def key_hash(text: str) -> str:
    """Return the bare digest in lower case."""
    if not _HASH.fullmatch(text):
        raise Refused("must be `sha256:` and 64 hexadecimal digits")
    return text.removeprefix("sha256:").lower()


def endpoint_url(text: str) -> str:
    """Normalise an http(s) base URL, without a slash at its end.

    `/v1` where it has no path.
    """
    parts = _split_web_url(text)
    if parts.query or "?" in text:
        raise Refused("must not have a query; put it under `query`")
    path = parts.path.rstrip("/")
    if path.endswith("/chat/completions"):
        raise Refused("must be the base URL, without `/chat/completions`")
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{path or '/v1'}"


def collector_url(text: str) -> str:
    """Check where spans are sent: an http(s) URL without a query."""
    if "?" in text:
        raise Refused("must not have a query; a token belongs under `headers`")
    _split_web_url(text)
    return text.rstrip("/")


def webhook_url(text: str) -> str:
    """Check where alerts are sent: an http(s) URL, as it is written."""
    parts = split_url(text)
    if parts.scheme.lower() not in ("http", "https"):
        raise Refused("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise Refused("must not hold a user or password; the signature tells the receiver who sends")
    if not has_valid_host(parts):
        raise Refused("must have a valid host (and a port from 1 to 65535 if any)")
    if "#" in text:
        raise Refused("must not have a fragment (`#…`)")
    return text


def jwks_url(text: str) -> str:
    """Check a JWKS's http(s) URL, kept as it is written."""
    if "@" in split_url(text).netloc:
        raise Refused("must not hold a user or password: a JWKS is public")
    _split_web_url(text)
    return text


def webhook_secret(text: str) -> str:
    """Check a secret of Standard Webhooks: `whsec_` and base64."""
    try:
        size = len(base64.b64decode(text.removeprefix(WEBHOOK_SECRET), validate=True))
    except ValueError:
        size = 0
    if not text.startswith(WEBHOOK_SECRET) or not MIN_WEBHOOK_BYTES <= size <= MAX_WEBHOOK_BYTES:
        raise Refused(f"must be `whsec_` and {MIN_WEBHOOK_BYTES} to {MAX_WEBHOOK_BYTES} random bytes in base64")
    return text


def _split_web_url(text: str) -> SplitResult:
    parts = split_url(text)
    if parts.scheme.lower() not in ("http", "https"):
        raise Refused("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise Refused("must not hold a user or password; use `api_key` or `headers`")
    if not has_valid_host(parts):
        raise Refused("must have a valid host (and a port from 1 to 65535 if any)")
    if "#" in text:
        raise Refused("must not have a fragment (`#…`)")
    return parts


def split_url(text: str) -> SplitResult:
    """Raise Refused for what urlsplit would drop in silence."""
    if not _VISIBLE.fullmatch(not_empty(text)):  # before urlsplit, which silently drops tabs and line ends
        raise Refused("must be printable ASCII without spaces (a host in its xn-- form, a path percent-encoded)")
    try:
        return urlsplit(text)
    except ValueError:
        raise Refused("not a valid URL") from None


def has_valid_host(parts: SplitResult) -> bool:
    """Whether a URL has a host, and a port that can be."""
    try:
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return False
    return port != 0 and not parts.netloc.endswith(":") and (_is_ipv6(host) or _HOST.fullmatch(host) is not None)


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address)
    except ValueError:
        return False


def cors_origin(text: str) -> str:
    """Check an origin as browsers send it, or `*`."""
    if text == "*":
        return text
    parts = _split_web_url(text)
    if parts.path not in ("", "/") or "?" in text:
        raise Refused("must be `*` or an origin such as https://app.example.com, without a path")
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}"


def public_url(text: str) -> str:
    """Check the address under which clients find the gateway."""
    parts = _split_web_url(text)
    if parts.path not in ("", "/") or "?" in text or "@" in parts.netloc:
        raise Refused("must be an address such as https://ai.example.com, without a path")
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}"


def network(text: str) -> str:
    """Check an address range in CIDR form.

    A single address is a range of one.
    """
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise Refused(f"not an address range such as 10.0.0.0/8{_network_advice(text)}") from None


def _network_advice(text: str) -> str:
    try:
        return f" (did you mean {shown(str(ipaddress.ip_network(text, strict=False)))}?)"
    except ValueError:
        return ""


def database_url(text: str) -> str:
    """Check a database URL in SQLAlchemy's form.

    A driver may be named, as in `postgresql+psycopg://`.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.partition("+")[0] not in _DATABASE_SCHEMES:
        raise Refused(f"must begin with {_or(_DATABASE_SCHEMES)}")
    split_url(text.replace(" ", "%20"))  # a path on disk may hold spaces
    if scheme.startswith("sqlite") and not _names_a_file(rest):
        raise Refused("must name a file: sqlite:///relative/path or sqlite:////absolute/path")
    if not scheme.startswith("sqlite") and not _has_valid_port(rest):
        raise Refused("must have a port from 1 to 65535 if any")
    return text


def _has_valid_port(rest: str) -> bool:
    """Whether what follows the password has a valid port.

    A password may hold any of `:/?#`.
    """
    host = re.split(r"[/?]", rest.rpartition("@")[2], maxsplit=1)[0]
    _, colon, port = host.rpartition("]")[2].rpartition(":")
    return not colon or (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65_535)


def _names_a_file(rest: str) -> bool:
    path = rest.partition("?")[0]
    return path.startswith("/") and path.strip("/") != "" and path != "/:memory:" and not path.endswith("/")


def _or(schemes: tuple[str, ...]) -> str:
    return " or ".join(f"{scheme}://" for scheme in schemes)


def proxy_url(text: str) -> str:
    """Normalise `[http://][user:password@]host[:port]`, a proxy for CONNECT.

    With its scheme, as curl reads one without.
    """
    text = text if "://" in text else f"http://{text}"
    parts = split_url(text)
    if parts.scheme.lower() != "http":
        raise Refused("only proxies of the form http://host:port are understood")
    if not has_valid_host(parts):
        raise Refused("must have a valid host (and a port from 1 to 65535 if any)")
    return text
