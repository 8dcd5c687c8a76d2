"""A JWKS: public keys and their algorithms (RFC 7517, 7518)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm  # only who has issuers pays for loading it

MOST_BYTES = 512 << 10
MOST_KEYS = 200
MISSING = "needs the extra `jwt`: pip install 'ecli-gateway[jwt]'"

# By what the key is. Nothing symmetric is here: a public key can then never be taken for a shared secret.
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
ALGORITHMS = frozenset((*_RSA, "ES256", "ES384", "ES512", "EdDSA"))
_PUBLIC_FIELDS = ("kty", "n", "e", "crv", "x", "y")
_LEAST_BITS, _MOST_BITS = 2048, 8192
_MOST_EXPONENT = 2**33


class UnusableKeys(ValueError):
    """A JWKS that cannot be used; its text is the reason."""


class Key(NamedTuple):
    """One public key."""

    id: str | None
    algorithms: tuple[str, ...]
    public: Any  # of cryptography

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's, by one of its algorithms."""
        return algorithm in self.algorithms and _algorithm(algorithm).verify(signed, self.public, signature)


class KeySet:
    """The usable keys of a JWKS."""

    __slots__ = ("_by_id", "document", "keys", "passed_over")

    def __init__(self, document: bytes, keys: tuple[Key, ...], passed_over: int) -> None:
        self.document = document
        self.keys = keys
        self.passed_over = passed_over  # keys of it that cannot be used here
        self._by_id: dict[str | None, list[Key]] = {}
        for key in keys:
            self._by_id.setdefault(key.id, []).append(key)

    @classmethod
    def parse(cls, document: bytes) -> KeySet:
        """Read a JWKS; raise UnusableKeys also without a usable key."""
        if len(document) > MOST_BYTES:
            raise UnusableKeys(f"is longer than {MOST_BYTES >> 10} KiB")
        try:
            listed = orjson.loads(document)
        except orjson.JSONDecodeError:
            raise UnusableKeys("is not JSON") from None
        records = listed.get("keys") if isinstance(listed, dict) else None
        if not isinstance(records, list):
            raise UnusableKeys("is no JWKS: an object with a list of `keys`")
        if len(records) > MOST_KEYS:
            raise UnusableKeys(f"has more than {MOST_KEYS} keys")
        keys = tuple(key for record in records if (key := _key(record)) is not None)
        if not keys:
            raise UnusableKeys("has no key that verifies RS, PS or ES 256 to 512, or EdDSA")
        return cls(document, keys, len(records) - len(keys))

    def find(self, key_id: str | None, algorithm: str) -> Key | None:
        """Return the key that a token's header means.

        Without an id it must be clear which one: the only one for the algorithm.
        """
        named = self.keys if key_id is None else self._by_id.get(key_id, ())
        fitting = [key for key in named if algorithm in key.algorithms]
        return fitting[0] if len(fitting) == 1 or (fitting and key_id is not None) else None

    def knows(self, key_id: str | None) -> bool:
        return key_id in self._by_id if key_id is not None else False

    def __repr__(self) -> str:
        return f"<KeySet of {len(self.keys)} keys>"


def is_installed() -> bool:
    """Whether the extra `jwt` is there."""
    return all(importlib.util.find_spec(name) is not None for name in ("jwt", "cryptography"))


def _key(record: object) -> Key | None:
    """None for a key that is not usable for verifying."""
    if not isinstance(record, dict) or record.get("use", "sig") != "sig":
        return None
    operations, key_id = record.get("key_ops"), record.get("kid")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    algorithms = tuple(_algorithms(record))
    if not algorithms or not isinstance(key_id, str | None):
        return None
    public = _public(record, algorithms[0])
    return None if public is None else Key(key_id, algorithms, public)


def _algorithms(record: Mapping[str, Any]) -> Iterator[str]:
    """What the key is decides; an `alg` of its own narrows that."""
    kind, own = record.get("kty"), record.get("alg")
    curve = record.get("crv")
    possible = _RSA if kind == "RSA" else _BY_CURVE.get((kind, curve), ()) if isinstance(curve, str) else ()  # type: ignore[arg-type]
    return (each for each in possible if own is None or each == own)


def _public(record: Mapping[str, Any], algorithm: str) -> Any:
    """The key of cryptography, None where the numbers make none."""
    from jwt.exceptions import PyJWTError

    fields = {name: record[name] for name in _PUBLIC_FIELDS if name in record}  # a private part is nobody's business
    if not all(isinstance(value, str) for value in fields.values()):
        return None
    try:
        public = _algorithm(algorithm).from_jwk(fields)
    except (PyJWTError, ValueError, TypeError, ArithmeticError):
        return None
    return public if record.get("kty") != "RSA" or _is_sound(public) else None


def _is_sound(public: Any) -> bool:
    """Whether an RSA key is strong, and quick to verify by."""
    size: int = public.key_size
    exponent: int = public.public_numbers().e
    return _LEAST_BITS <= size <= _MOST_BITS and exponent <= _MOST_EXPONENT


def _algorithm(name: str) -> Algorithm:
    import jwt

    return jwt.get_algorithm_by_name(name)
