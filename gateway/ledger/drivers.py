"""Which driver a database's URL asks for. Without SQLAlchemy, whose loading the gateway's start does not wait for."""

from __future__ import annotations

from importlib.util import find_spec
from types import MappingProxyType
from typing import NamedTuple

from gateway.ledger.faults import LedgerUnusable
from gateway.types import Secret


class _Driver(NamedTuple):
    name: str  # as SQLAlchemy calls dialect and driver
    module: str
    extra: str  # of ours, that brings it


_DRIVERS = MappingProxyType(
    {
        "sqlite": _Driver("sqlite+pysqlite", "sqlite3", ""),
        "postgresql": _Driver("postgresql+psycopg", "psycopg", "postgres"),
        "mysql": _Driver("mysql+pymysql", "pymysql", "mysql"),
        "mariadb": _Driver("mariadb+pymysql", "pymysql", "mysql"),
    }
)


def drivername_of(scheme: str) -> str:
    """`postgresql` is `postgresql+psycopg`; a driver that is named stays. Raises LedgerUnusable."""
    kind, named, _ = scheme.partition("+")
    driver = _DRIVERS.get(kind)
    if driver is None:
        raise LedgerUnusable(f"the ledger's database must be one of {', '.join(_DRIVERS)}")
    return scheme if named else driver.name


def check_driver(url: Secret) -> None:
    """Raises LedgerUnusable where the driver for this URL is not installed."""
    scheme = url.reveal().partition("://")[0]
    driver = _DRIVERS.get(scheme)
    if drivername_of(scheme) and driver is not None and find_spec(driver.module) is None:
        raise LedgerUnusable(
            f"a ledger in {scheme} needs the package {driver.module}: pip install 'ecli-gateway[{driver.extra}]'"
        )
