"""`auth.jwt`: issuers judged together, and the keys that files hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.config.problems import Place, Problems, Refused
from gateway.config.schema import GatewayFile, JwtShape
from gateway.config.settings import AuthSettings, JwtSettings
from gateway.config.sources.certificates import fault_of
from gateway.config.yaml.fingerprints import Fingerprint, fingerprint
from gateway.jose.key_set import MISSING, MOST_BYTES, KeySet, UnusableKeys, is_installed
from gateway.types import id_text

Files = dict[str, Fingerprint | None]


def read_issuers(file: GatewayFile, problems: Problems, base_dir: Path, files: Files) -> AuthSettings:
    """Return the issuers with their keys; note what is wrong with them.

    `files` gets those that were looked for, as they were just before.
    """
    shapes = file.auth.jwt
    if shapes and not is_installed():
        problems.add_at(file.place.inside("auth", "jwt"), MISSING)
        return AuthSettings()
    _check_apart(shapes, problems)
    return AuthSettings(tuple([_issuer(shape, problems, base_dir, files) for shape in shapes]))


def _issuer(shape: JwtShape, problems: Problems, base_dir: Path, files: Files) -> JwtSettings:
    place = shape.place
    if (shape.jwks_url is None) == (shape.jwks_file is None):
        problems.add_at(place, "needs either `jwks_url` or `jwks_file`" + (", not both" if shape.jwks_url else ""))
    _check_maxima(shape, problems)
    ca_file = ""
    if shape.ca_file and shape.jwks_file:
        problems.add_at(place.inside("ca_file"), "is for `jwks_url`: a file is read without a connection")
    elif shape.ca_file:
        ca_file = os.path.abspath(base_dir / shape.ca_file)
        files[ca_file] = fingerprint(ca_file)
        if fault := fault_of(ca_file):
            problems.add_at(place.inside("ca_file"), f"the file {fault}")
    return JwtSettings(
        issuer=shape.issuer,
        audience=frozenset(shape.audience),
        jwks_url=shape.jwks_url,
        jwks=_keys(shape.jwks_file, place.inside("jwks_file"), problems, base_dir, files) if shape.jwks_file else None,
        ca_file=ca_file,
        user=shape.user,
        user_prefix=_prefix(shape),
        organisations=shape.organisations,
        organisations_max=frozenset(id_text(each) for each in shape.organisations_max),
        scopes=shape.scopes,
        scopes_max=frozenset(shape.scopes_max),
        max_age=shape.max_age,
    )


def _check_maxima(shape: JwtShape, problems: Problems) -> None:
    if shape.organisations and not shape.organisations_max:
        reason = "needs `organisations_max`: the ids of those that a token may name"
        problems.add_at(shape.place.inside("organisations"), reason)
    if shape.organisations_max and not shape.organisations:
        problems.add_at(shape.place.inside("organisations_max"), "needs `organisations`: the claim that names them")


def _keys(name: str, place: Place, problems: Problems, base_dir: Path, files: Files) -> bytes:
    try:
        path = os.path.abspath(base_dir / name)
        files[path] = fingerprint(path)
        document = _read(path)
        KeySet.parse(document)
    except (Refused, UnusableKeys) as refused:
        problems.add_at(place, f"the file {refused}")
        return b""
    return document


def _read(path: str) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device might never end
        raise Refused("cannot be read: not a regular file")
    try:
        with open(path, "rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror or 'not a usable name'}") from None
    except ValueError:  # a NUL in the name
        raise Refused("cannot be read: not a usable name") from None


def _prefix(shape: JwtShape) -> str:
    return f"{shape.issuer}:" if shape.user_prefix is None else shape.user_prefix


def _check_apart(shapes: Iterable[JwtShape], problems: Problems) -> None:
    """Note issuers of which one could speak for another's users."""
    seen: list[JwtShape] = []
    for shape in shapes:
        for reason, place in _clashes(shape, seen, problems):
            problems.add_at(place, reason)
        seen.append(shape)


def _clashes(shape: JwtShape, others: Iterable[JwtShape], problems: Problems) -> Iterator[tuple[str, Place]]:
    for other in others:
        where = f"{other.place} ({problems.where(other.place, shape.place)})"
        if shape.issuer == other.issuer:
            if not set(shape.audience).isdisjoint(other.audience):
                yield f"the same issuer and audience as {where}", shape.place.inside("audience")
            continue
        mine, theirs = _prefix(shape), _prefix(other)
        if shape.issuer and other.issuer and (mine.startswith(theirs) or theirs.startswith(mine)):
            reason = f"users could have the ids of those of {where}: give prefixes of which none begins with another"
            yield reason, shape.place.inside("user_prefix")
