"""The authorities that a `ca_file` names: read, judged, made a TLS context."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from gateway.config.problems import Place, Problems, Refused
from gateway.config.schema import GatewayFile
from gateway.config.yaml.fingerprints import Fingerprint, fingerprint

MOST_BYTES = 4 << 20  # every public authority together takes a quarter of a megabyte


def context_of(path: str | Path) -> ssl.SSLContext:
    """Return a client's context that trusts the file's authorities alone.

    Raises `Refused` for a file that holds none, or cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        is_fit = Path(path).is_file() and os.stat(path).st_size <= MOST_BYTES  # a pipe or a device might never end
        if is_fit or not Path(path).exists():
            context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise Refused("holds no certificate in PEM form, or a broken one") from None
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror or 'not a usable name'}") from None
    except ValueError:  # a NUL in the name
        raise Refused("cannot be read: not a usable name") from None
    if not is_fit:
        raise Refused(f"is no regular file of at most {MOST_BYTES:,} bytes")
    # A certificate in the file is trusted as it stands, an intermediate or a server's own too, on every Python alike.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def check_ca_files(file: GatewayFile, problems: Problems, base_dir: Path, files: dict[str, Fingerprint | None]) -> None:
    """Make each endpoint's `ca_file` absolute; note a problem where it is none.

    `files` gets those that were looked for, as they were just before.
    """
    reasons: dict[str, str] = {}

    def judged(given: str, place: Place) -> str:
        path = os.path.abspath(base_dir / given)
        if path not in reasons:
            files[path] = fingerprint(path)
            reasons[path] = fault_of(path)
        if reasons[path]:
            problems.add_at(place.inside("ca_file"), f"the file {reasons[path]}")
        return path

    if file.store.ca_file and (reason := fault_of(os.path.abspath(base_dir / file.store.ca_file))):
        problems.add_at(file.place.inside("store", "ca_file"), f"the file {reason}")
    for model in file.models:
        for endpoint in model.endpoints:
            if endpoint.ca_file:
                endpoint.ca_file = judged(endpoint.ca_file, endpoint.place)
    if file.telemetry.ca_file:
        judged(file.telemetry.ca_file, file.place.inside("telemetry"))


def fault_of(path: str) -> str:
    """Why it cannot be used; empty where it can."""
    try:
        context_of(path)
    except Refused as refused:
        return str(refused)
    return ""
