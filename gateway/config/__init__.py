"""gateway.yaml → frozen `Settings`; the only reader of the environment.

    text ── yaml/nodes (yaml/bulk: long lists) ──→ tree with lines
         ── yaml/readers (types of schema, settings; checks) ──→ GatewayFile
         ── crossrefs ──→ no problem left ── convert ──→ Settings of gateway.types

Every problem of a file is gathered in `problems.Problems` and raised at once as `gateway.errors.ConfigError`. `reload`
watches the file and what it names (`fingerprints`); a large one is read by a process of its own (`apart`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from yaml.nodes import MappingNode, Node

from gateway.config.convert import Records, grant_id, set_auto_prices
from gateway.config.crossrefs import check
from gateway.config.jsonschema import settings_schema
from gateway.config.keyline import key_yaml_line
from gateway.config.problems import Problems
from gateway.config.settings import (
    ChatSettings,
    ClientTimeouts,
    Lines,
    ProxySettings,
    RoutingSettings,
    ServerSettings,
    Settings,
    StoreSettings,
    StudioSettings,
    UsageSettings,
)
from gateway.config.sources.certificates import check_ca_files
from gateway.config.sources.environment import read_proxy
from gateway.config.sources.overrides import apply_overrides, read_overrides
from gateway.config.yaml.bulk import NotInBulk, compose_in_bulk
from gateway.config.yaml.expand import Expander
from gateway.config.yaml.nodes import YamlFault, compose
from gateway.config.yaml.readers import read_file
from gateway.config.yaml.walk import Walk, is_nothing
from gateway.errors import ConfigError

__all__ = [
    "ChatSettings",
    "ClientTimeouts",
    "Lines",
    "ProxySettings",
    "RoutingSettings",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "StudioSettings",
    "UsageSettings",
    "grant_id",
    "key_yaml_line",
    "load_settings",
    "parse_settings",
    "settings_schema",
]


def load_settings(path: str | Path, environ: Mapping[str, str]) -> Settings:
    """Read, expand and validate the file at `path`.

    Relative paths in it are relative to its directory.

    Raises `ConfigError` with every problem at once, a file that cannot be read among them.
    """
    return parse_settings(_read_text(Path(path), str(path)), str(path), environ, Path(path).absolute().parent)


def parse_settings(text: str, filename: str, environ: Mapping[str, str], base_dir: Path) -> Settings:
    """Parse settings from a text.

    `filename` is what problems name, `base_dir` what relative paths start from.
    """
    with _collector_at_rest():
        try:
            root = compose_in_bulk(text)
            if root is not None:
                return _settings(root, Problems(filename), environ, base_dir)
        except (ConfigError, NotInBulk, YamlFault):
            pass  # read once more, for problems with the lines on which they are
        problems = Problems(filename)
        return _settings(_composed(text, problems), problems, environ, base_dir)


def _composed(text: str, problems: Problems) -> Node | None:
    """None where a problem has been noted."""
    try:
        root = compose(text)
    except YamlFault as fault:
        problems.add_syntax(fault.line, fault.reason)
        return None
    if root is None or is_nothing(root) or (root.__class__ is MappingNode and not root.value):
        # What editors and config managers leave of a file for a moment must not be taken for "no models, no keys".
        problems.add(1, None, "the file has no section: it is empty, or holds comments alone")
        return None
    return root


def _settings(root: Node | None, problems: Problems, environ: Mapping[str, str], base_dir: Path) -> Settings:
    expander = Expander(environ, base_dir)
    overridden = tuple(apply_overrides(root, read_overrides(environ, problems), problems.filename))
    file = read_file(root, Walk(problems, expander))
    models = check(file, problems)
    check_ca_files(file, problems, base_dir, expander.files)
    needs_proxy = any(not endpoint.url.startswith("http:") for model in file.models for endpoint in model.endpoints)
    proxy = read_proxy(environ, problems, is_needed=needs_proxy)
    looked_up = set_auto_prices(file, problems)
    problems.raise_if_any(expander.files)
    settings = Records(file, models, base_dir).settings(proxy, problems.filename, expander.files)
    return msgspec.structs.replace(settings, looked_up=looked_up, overridden=overridden)


def _read_text(path: Path, filename: str) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{filename}:1: cannot be read: {error.strerror or 'not a usable name'}"]) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{filename}:{line}: YAML: not UTF-8 text"]) from None


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    Scanning a growing tree of nodes again and again takes most of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
