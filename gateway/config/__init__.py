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
from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode

from gateway.config.convert import Records, set_auto_prices
from gateway.config.crossrefs import check, grant_id, id_of_grant
from gateway.config.jsonschema import settings_schema
from gateway.config.keyline import key_yaml_line
from gateway.config.problems import Problems
from gateway.config.sections.listening_side import ClientTimeouts, ServerSettings
from gateway.config.settings import (
    ChatSettings,
    Lines,
    ProxySettings,
    RoutingSettings,
    Settings,
    StoreSettings,
    StudioSettings,
    UsageSettings,
)
from gateway.config.sources.certificates import check_ca_files
from gateway.config.sources.environment import read_proxy
from gateway.config.sources.includes import Part, included_files, joined
from gateway.config.sources.overrides import apply_overrides, read_overrides
from gateway.config.sources.token_issuers import read_issuers
from gateway.config.yaml.bulk import NotInBulk, compose_in_bulk
from gateway.config.yaml.expand import Expander
from gateway.config.yaml.nodes import COLLECTION, YamlFault, compose
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
    "id_of_grant",
    "key_yaml_line",
    "load_settings",
    "parse_settings",
    "settings_schema",
]


_NO_SECTION = MappingNode(COLLECTION, [], Mark("", 0, 0, 0, None, 0))


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
        quick = _Files(filename, environ, base_dir, in_bulk=True)
        try:
            return quick.settings(text)
        except (ConfigError, NotInBulk, YamlFault):
            if not quick.has_long_lists:
                raise
        # Read once more, for problems with the lines on which they are.
        return _Files(filename, environ, base_dir, in_bulk=False).settings(text)


class _Files:
    """Read gateway.yaml and the files that it includes, once.

    `in_bulk`: long lists are not read node by node.
    """

    def __init__(self, filename: str, environ: Mapping[str, str], base_dir: Path, *, in_bulk: bool) -> None:
        self.has_long_lists = False
        self._in_bulk = in_bulk
        self._environ = environ
        self._base_dir = base_dir
        self._problems = Problems(filename)
        self._expander = Expander(environ, base_dir)
        self._overrides = read_overrides(environ, self._problems)
        self._overridden: list[str] = []

    def settings(self, text: str) -> Settings:
        """Raise ConfigError, and where it is read in bulk NotInBulk and YamlFault."""
        problems, expander, base_dir = self._problems, self._expander, self._base_dir
        file = joined(self._parts(text), problems)
        models = check(file, problems)
        check_ca_files(file, problems, base_dir, expander.files)
        auth = read_issuers(file, problems, base_dir, expander.files)
        urls = [endpoint.url for model in file.models for endpoint in model.endpoints]
        urls += [issuer.jwks_url for issuer in auth.jwt if issuer.jwks_url]
        needs_proxy = any(not url.startswith("http:") for url in urls)
        proxy = read_proxy(self._environ, problems, is_needed=needs_proxy)
        looked_up = set_auto_prices(file, problems)
        problems.raise_if_any(expander.files)
        settings = Records(file, models, base_dir).settings(proxy, problems.filename, expander.files)
        return msgspec.structs.replace(settings, auth=auth, looked_up=looked_up, overridden=tuple(self._overridden))

    def _parts(self, text: str) -> list[Part]:
        main = self._part(self._composed(text))
        parts, own = [main], self._base_dir / Path(self._problems.filename).name
        for each in included_files(main.file, own, self._problems, self._base_dir, self._expander.files):
            self._problems.source = each.name
            try:
                parts.append(self._part(self._composed(_read_text(each.path, each.name, must_be_regular=True))))
            except ConfigError as error:  # it went away meanwhile, or is no text
                self._problems.add_whole(error.problems)
            self._problems.source = self._problems.filename
        if self._overrides:  # of sections that no file has
            top = main.root.start_mark
            parts.append(self._part(MappingNode(COLLECTION, [], top, main.root.end_mark), has_all=True))
        return parts

    def _part(self, root: Node | None, *, has_all: bool = False) -> Part:
        """Read a file, and put its overrides in."""
        if isinstance(root, MappingNode):
            sections = {key.value for key, _ in root.value if isinstance(key, ScalarNode)}
            here = [each for each in self._overrides if has_all or each.path[0] in sections]
            self._overrides = [each for each in self._overrides if each not in here]
            self._overridden += apply_overrides(root, here, self._problems.source)
        file = read_file(root, Walk(self._problems, self._expander))
        return Part(file, root if isinstance(root, MappingNode) else _NO_SECTION)

    def _composed(self, text: str) -> Node | None:
        """None where a problem has been noted."""
        try:
            root = self._in_bulk_composed(text) or compose(text)
        except YamlFault as fault:
            if self.has_long_lists:
                raise
            self._problems.add_syntax(fault.line, fault.reason)
            return None
        if root is None or is_nothing(root) or (root.__class__ is MappingNode and not root.value):
            # What editors and config managers leave of a file for a moment must not be taken for "no models, no keys".
            self._problems.add(1, None, "the file has no section: it is empty, or holds comments alone")
            return None
        return root

    def _in_bulk_composed(self, text: str) -> Node | None:
        if not self._in_bulk:
            return None
        try:
            root = compose_in_bulk(text)
        except (NotInBulk, YamlFault):
            self.has_long_lists = True
            raise
        self.has_long_lists |= root is not None
        return root


def _read_text(path: Path, filename: str, *, must_be_regular: bool = False) -> str:
    try:
        if must_be_regular and path.exists() and not path.is_file():  # a pipe or a device might never end
            raise ConfigError([f"{filename}:1: cannot be read: not a regular file"])
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
