"""An identity provider: key pairs, tokens signed as one likes, and a server of the JWKS that counts who asks."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import pytest

jwt = pytest.importorskip("jwt", reason="the extra `jwt` is not installed")
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa  # noqa: E402

ISSUER, AUDIENCE = "https://id.example.org", "ai-gateway"
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS = (*RSA, "ES256", "ES384", "ES512", "EdDSA")
_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """The same key pair for the same arguments; all RSA algorithms share theirs."""
    if algorithm in RSA:
        return _rsa_key(number)
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    return ed448.Ed448PrivateKey.generate() if algorithm == "Ed448" else ed25519.Ed25519PrivateKey.generate()


@cache
def _rsa_key(number: int) -> Any:
    return rsa.generate_private_key(65537, 2048)


def jwk(algorithm: str, number: int = 0, **fields: Any) -> dict[str, Any]:
    """The public key; its `kid` names algorithm and number."""
    public = private_key(algorithm, number).public_key()
    made = jwt.get_algorithm_by_name("EdDSA" if algorithm == "Ed448" else algorithm).to_jwk(public, as_dict=True)
    return {**made, "kid": key_id(algorithm, number), "use": "sig"} | fields


def key_id(algorithm: str, number: int = 0) -> str:
    return f"{'RSA' if algorithm in RSA else algorithm}-{number}"


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good token of Alice's; None takes one away."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600}
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(algorithm: str = "RS256", number: int = 0, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token of `claims(**changes)`, signed by this key; `header` over the usual one, None takes a field away."""
    name = "EdDSA" if algorithm == "Ed448" else algorithm
    fields = {"alg": name, "typ": "JWT", "kid": key_id(algorithm, number)} | (header or {})
    signed = f"{part({k: v for k, v in fields.items() if v is not None})}.{part(claims(**changes))}"
    signature = jwt.get_algorithm_by_name(name).sign(signed.encode(), private_key(algorithm, number))
    return f"{signed}.{base64url(signature)}"


def part(fields: object) -> str:
    return base64url(json.dumps(fields).encode())


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class JwksServer:
    """Serves `document` and counts; with `status` other than 200, or while `held` is not set, it is out of order."""

    def __init__(self, document: bytes) -> None:
        self.document = document
        self.status = 200
        self.asked = 0
        self.port = 0
        self.held = asyncio.Event()
        self.held.set()
        self.arrived = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks.json"

    @classmethod
    @asynccontextmanager
    async def serving(cls, *keys: dict[str, Any], port: int = 0, ssl: Any = None) -> AsyncIterator[JwksServer]:
        one = cls(jwks(*keys))
        server = await asyncio.start_server(one._serve, "127.0.0.1", port, ssl=ssl)
        one.port = server.sockets[0].getsockname()[1]
        try:
            yield one
        finally:
            one.held.set()
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.arrived.set()
            await self.held.wait()
            head = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(self.document)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + self.document)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
