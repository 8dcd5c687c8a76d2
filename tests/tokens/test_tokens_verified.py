"""Tokens of an identity provider: which are taken, and what a hostile one gets (contract §16)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from kit.issuer import ALGORITHMS, AUDIENCE, ISSUER, base64url, claims, jwk, jwks, jwt, key_id, part, private_key, token

from gateway.access.authenticate import key_sha256
from gateway.access.tokens import KeySets, Tokens
from gateway.config.settings import JwtSettings
from gateway.errors import InvalidKey, TransportError
from gateway.store.passes import EmbeddedPasses
from gateway.types import ApiKey

ALL_KEYS = jwks(*(jwk(each) for each in ("RS256", "ES256", "ES384", "ES512", "EdDSA", "Ed448")))
FAR = 10**9


def issuer(**changes: Any) -> JwtSettings:
    given: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": frozenset((AUDIENCE,)),
        "jwks_url": None,
        "jwks": ALL_KEYS,
        "ca_file": "",
        "user": "sub",
        "user_prefix": f"{ISSUER}:",
        "organisations": None,
        "organisations_max": frozenset(),
        "scopes": None,
        "scopes_max": frozenset(("ai:use",)),
        "max_age": 3600.0,
    }
    return JwtSettings(**given | changes)


async def nothing_to_fetch(url: str, ca_file: str) -> bytes:
    raise TransportError("nobody is asked")


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def key_sets(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeySets]:
    passes = EmbeddedPasses(tmp_path_factory.mktemp("store"))
    yield KeySets(nothing_to_fetch, passes, list, structlog.get_logger())
    await passes.close()


async def key_of(key_sets: KeySets, text: str, *issuers: JwtSettings) -> ApiKey | None:
    return await Tokens(issuers or (issuer(),), key_sets, now).key(text, key_sha256(text))


async def is_refused(key_sets: KeySets, text: str, *issuers: JwtSettings) -> bool:
    """As the gateway refuses: faulty, or none of its issuers' and then looked up as any key."""
    try:
        return await key_of(key_sets, text, *issuers) is None
    except InvalidKey as refusal:
        return refusal.message == "The API key is not valid."


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "Ed448"])
async def test_each_algorithm_verifies_by_its_kind_of_key(key_sets: KeySets, algorithm: str) -> None:
    key = await key_of(key_sets, token(algorithm))
    assert key is not None
    assert (key.user, key.scopes, key.issuer) == (f"{ISSUER}:alice", {"ai:use"}, ISSUER)
    assert key.id == f"jwt:{ISSUER}"
    text = token(algorithm)
    head, body, signature = text.split(".")
    assert await is_refused(key_sets, f"{head}.{part(claims(sub='bob'))}.{signature}")
    assert await is_refused(key_sets, f"{head}.{body}.{base64url(b'0' * 64)}")
    assert await is_refused(key_sets, f"{head}.{body}.")


def forged_with_hmac(secret: bytes, algorithm: str = "HS256", **header: Any) -> str:
    """What a library signs that takes any text for a shared secret."""
    signed = f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': key_id('RS256')} | header)}.{part(claims())}"
    signature = jwt.get_algorithm_by_name(algorithm).sign(signed.encode(), secret)
    return f"{signed}.{base64url(signature)}"


def public_texts() -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = private_key("RS256").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [pem, pem.strip(), der, json.dumps(jwk("RS256")).encode(), base64url(der).encode(), b""]


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_public_key_is_no_shared_secret(key_sets: KeySets, algorithm: str) -> None:
    for secret in public_texts():
        assert await is_refused(key_sets, forged_with_hmac(secret, algorithm))


async def test_a_shared_secret_in_the_jwks_verifies_nothing(key_sets: KeySets) -> None:
    shared = {"kty": "oct", "kid": key_id("RS256"), "k": base64url(b"s" * 32), "alg": "HS256"}
    of_both = issuer(jwks=jwks(shared, jwk("ES256")))
    assert await is_refused(key_sets, forged_with_hmac(b"s" * 32), of_both)
    assert await key_of(key_sets, token("ES256"), of_both) is not None


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 1, ["RS256"]])
async def test_a_token_without_a_signature_is_none(key_sets: KeySets, algorithm: object) -> None:
    head = part({"alg": algorithm, "typ": "JWT"})
    for signature in ("", base64url(b"0" * 256)):
        assert await is_refused(key_sets, f"{head}.{part(claims())}.{signature}")


HOSTILE_HEADERS: dict[str, dict[str, Any]] = {
    "another key's id": {"kid": key_id("ES256")},
    "a path": {"kid": "../../../../dev/null"},
    "SQL": {"kid": "x' UNION SELECT 'k' --"},
    "a command": {"kid": "|/bin/true"},
    "a long id": {"kid": "k" * 3000},
    "an id that is a list": {"kid": [key_id("RS256")]},
    "an id that is an object": {"kid": {"a": 1}},
    "an extension that must be understood": {"crit": ["exp"], "exp": 1},
    "a payload that is not encoded": {"b64": False},
    "a logout token": {"typ": "logout+jwt"},
    "an event": {"typ": "secevent+jwt"},
    "a type that is no text": {"typ": 7},
    "another algorithm of the same key": {"alg": "RS512"},
    "elliptic by an RSA key": {"alg": "ES256"},
    "EdDSA by an RSA key": {"alg": "EdDSA"},
}


@pytest.mark.parametrize("name", HOSTILE_HEADERS)
async def test_a_header_leads_nowhere_else(key_sets: KeySets, name: str) -> None:
    _, body, signature = token().split(".")
    header = {"alg": "RS256", "typ": "JWT", "kid": key_id("RS256")} | HOSTILE_HEADERS[name]
    signed = f"{part(header)}.{body}"
    by_its_key = base64url(jwt.get_algorithm_by_name("RS256").sign(signed.encode(), private_key("RS256")))
    assert await is_refused(key_sets, f"{signed}.{by_its_key}")
    assert await is_refused(key_sets, f"{signed}.{signature}")


@pytest.mark.parametrize("field", ["jku", "x5u", "jwk", "x5c"])
async def test_keys_that_a_token_brings_are_passed_over(key_sets: KeySets, field: str) -> None:
    """A good token that names one is good; one signed by the key that it brings is not."""
    brought: dict[str, Any] = {
        "jku": "http://127.0.0.1:1/jwks.json",
        "x5u": "http://127.0.0.1:1/cert.pem",
        "jwk": jwk("RS256", 9),
        "x5c": ["MIIB"],
    }
    header = {field: brought[field]}
    assert await key_of(key_sets, token(header=header)) is not None
    assert await is_refused(key_sets, token(number=9, header=header | {"kid": key_id("RS256")}))
    assert await is_refused(key_sets, token(number=9, header=header))


def bad_claims() -> dict[str, dict[str, Any]]:
    now = int(time.time())
    return {
        "no end": {"exp": None},
        "ended": {"exp": now - 61, "iat": now - 600},
        "an end that is text": {"exp": "9999999999"},
        "an end that is true": {"exp": True},
        "an end that is null": {"exp": [FAR]},
        "a negative end": {"exp": -1},
        "an end beyond any clock": {"exp": 1e300},
        "not yet": {"nbf": now + 90},
        "not yet, in words": {"nbf": "tomorrow"},
        "issued in the future": {"iat": now + 90},
        "issued at true": {"iat": True},
        "too long a life": {"exp": now + 3700},
        "too long a life, from before": {"iat": now - 3600, "exp": now + 60},
        "too long a life, of unknown beginning": {"iat": None, "exp": now + 3700},
        "another audience": {"aud": "other"},
        "no audience": {"aud": None},
        "a longer audience": {"aud": f"{AUDIENCE}-admin"},
        "an audience in another case": {"aud": AUDIENCE.upper()},
        "other audiences": {"aud": ["other", f"{AUDIENCE} "]},
        "an audience that is an object": {"aud": {AUDIENCE: True}},
        "an audience among other things": {"aud": [AUDIENCE, 7]},
        "audiences in a list of lists": {"aud": [[AUDIENCE]]},
        "no audiences": {"aud": []},
        "another issuer": {"iss": "https://evil.example"},
        "an issuer with a slash": {"iss": f"{ISSUER}/"},
        "no issuer": {"iss": None},
        "issuers": {"iss": [ISSUER]},
        "no user": {"sub": None},
        "an empty user": {"sub": ""},
        "a blank user": {"sub": " "},
        "a user with a blank": {"sub": "alice "},
        "a user that is a list": {"sub": ["alice"]},
        "a user that is an object": {"sub": {"id": "alice"}},
        "a user that is true": {"sub": True},
        "a user that is a fraction": {"sub": 1.5},
        "a user with a line end": {"sub": "alice\r\nx-gateway-user: 42"},
        "a user with a NUL": {"sub": "alice\0"},
        "a user with an escape": {"sub": "\x1b[31malice"},
        "a user that is written backwards": {"sub": "\u202eecila"},
        "a user of many bytes": {"sub": "é" * 130},
    }


@pytest.mark.parametrize("name", bad_claims())
async def test_a_signed_token_is_judged_all_the_same(key_sets: KeySets, name: str) -> None:
    assert await is_refused(key_sets, token(**bad_claims()[name]))


def good_claims() -> dict[str, dict[str, Any]]:
    now = int(time.time())
    return {
        "one audience of several": {"aud": ["other", AUDIENCE]},
        "ended within the leeway": {"iat": now - 600, "exp": now - 5},
        "not yet, within the leeway": {"nbf": now + 50, "iat": now + 50},
        "an hour to the second": {"exp": now + 3600, "iat": now},
        "no time of issue": {"iat": None},
        "fractions": {"iat": time.time(), "exp": time.time() + 60.5},
    }


@pytest.mark.parametrize("name", good_claims())
async def test_what_the_contract_allows_is_taken(key_sets: KeySets, name: str) -> None:
    assert await key_of(key_sets, token(**good_claims()[name])) is not None


async def test_no_token_becomes_a_user_of_the_file(key_sets: KeySets) -> None:
    """By default the issuer is part of the id; numbers become text behind it."""
    for sub in ("42", 42):
        key = await key_of(key_sets, token(sub=sub))
        assert key is not None
        assert key.user == f"{ISSUER}:42"


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b", "a.b.c", "eyJ.eyJ.x", "eyJhbGciOiJSUzI1NiJ9.e30.", "é.é.é", "a.b.c.d.e"]
)
async def test_what_is_no_token_is_looked_up_as_a_key(key_sets: KeySets, text: str) -> None:
    assert await key_of(key_sets, text) is None


async def test_a_token_of_bombs_is_refused(key_sets: KeySets) -> None:
    deep = "[" * 3000 + "]" * 3000
    head, _, signature = token().split(".")
    assert await key_of(key_sets, f"{head}.{base64url(deep.encode())}.{signature}") is None
    assert await key_of(key_sets, token(junk="x" * 9000)) is None, "longer than any header line"


async def test_scopes_and_organisations_keep_within_their_maxima(key_sets: KeySets) -> None:
    some = issuer(
        scopes="scope",
        scopes_max=frozenset(("ai:use", "usage:read")),
        organisations="groups",
        organisations_max=frozenset(("10", "red")),
    )
    wide = {"scope": "openid ai:use ai:manage act:as usage:read", "groups": ["red", 10, "admins", "red"]}
    key = await key_of(key_sets, token(**wide), some)
    assert key is not None
    assert key.scopes == {"ai:use", "usage:read"}
    assert key.organisations == ("red", "10")
    for none in ({}, {"scope": "", "groups": []}, {"scope": "openid", "groups": None}):
        key = await key_of(key_sets, token(**none), some)
        assert key is not None
        assert (key.scopes, key.organisations) == (frozenset(), ())
    for bad in ({"scope": {"ai:use": True}}, {"groups": {"red": 1}}, {"groups": ["red", ["10"]]}, {"groups": True}):
        assert await is_refused(key_sets, token(**bad), some)


async def test_a_claim_may_be_inside_others(key_sets: KeySets) -> None:
    some = issuer(scopes="realm_access.roles", user="https://id.example.org/uid")
    given = {"realm_access": {"roles": ["ai:use"]}, "https://id.example.org/uid": 7}
    key = await key_of(key_sets, token(**given), some)
    assert key is not None
    assert (key.user, key.scopes) == (f"{ISSUER}:7", {"ai:use"})


async def test_an_address_that_nobody_verified_is_nobodys_name(key_sets: KeySets) -> None:
    by_mail = issuer(user="email")
    assert await is_refused(key_sets, token(email="a@example.org", email_verified=False), by_mail)
    assert await is_refused(key_sets, token(email="a@example.org", email_verified="false"), by_mail)
    assert await key_of(key_sets, token(email="a@example.org", email_verified=True), by_mail) is not None


async def test_one_issuer_may_have_an_audience_for_each_application(key_sets: KeySets) -> None:
    other = issuer(audience=frozenset(("batch",)), user_prefix="batch:")
    key = await key_of(key_sets, token(aud="batch"), issuer(), other)
    assert key is not None
    assert key.user == "batch:alice"


async def test_a_key_without_an_id_must_be_the_only_one_that_fits(key_sets: KeySets) -> None:
    nameless = token("ES256", header={"kid": None})
    assert await key_of(key_sets, nameless) is not None
    assert await is_refused(key_sets, nameless, issuer(jwks=jwks(jwk("ES256"), jwk("ES256", 1))))


async def test_a_keys_own_algorithm_use_and_operations_hold(key_sets: KeySets) -> None:
    for narrowed in ({"alg": "RS512"}, {"use": "enc"}, {"key_ops": ["sign"]}, {"alg": "HS256"}):
        some = issuer(jwks=jwks(jwk("RS256", **narrowed), jwk("ES256")))
        assert await is_refused(key_sets, token("RS256"), some)
    some = issuer(jwks=jwks(jwk("RS256", alg="PS384", use="sig", key_ops=["verify"])))
    assert await key_of(key_sets, token("PS384"), some) is not None


async def test_a_verified_token_is_not_verified_again_until_its_keys_change(
    key_sets: KeySets, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.jose import key_set

    verified: list[str] = []
    verifies = key_set.Key.verifies
    monkeypatch.setattr(key_set.Key, "verifies", lambda *given: verified.append(given[1]) or verifies(*given))
    tokens, text = Tokens([issuer()], key_sets, now), token()
    first = await tokens.key(text, key_sha256(text))
    assert await tokens.key(text, key_sha256(text)) is first
    assert verified == ["RS256"]
    assert text not in repr(tokens)


async def test_refusing_costs_no_signature(key_sets: KeySets, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.jose import key_set

    monkeypatch.setattr(key_set.Key, "verifies", lambda *_: pytest.fail("verified"))
    for bad in bad_claims().values():
        assert await is_refused(key_sets, token(**bad))
