"""Choose the driver of a database URL, without loading SQLAlchemy.

The gateway's start does not wait for that.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple

from gateway.errors import LedgerUnusable
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
    """Return `postgresql+psycopg` for `postgresql`. Raises LedgerUnusable.

    For databases and drivers that are not ours.
    """
    driver = _driver_of(scheme)
    if scheme not in (scheme.partition("+")[0], driver.name):
        # Our deadlines reach under the driver, so that each has to be known.
        raise LedgerUnusable(f"the ledger's database is reached by {driver.name} alone, not by {scheme}")
    return driver.name


def check_driver(url: Secret) -> None:
    """Raise LedgerUnusable where the URL's driver cannot be loaded."""
    scheme = url.reveal().partition("://")[0]
    drivername_of(scheme)
    driver = _driver_of(scheme)
    try:
        import_module(driver.module)
    except ImportError:
        kind = scheme.partition("+")[0]
        raise LedgerUnusable(
            f"a ledger in {kind} needs the package {driver.module}: pip install 'ecli-gateway[{driver.extra}]'"
        ) from None


def _driver_of(scheme: str) -> _Driver:
    driver = _DRIVERS.get(scheme.partition("+")[0])
    if driver is None:
        raise LedgerUnusable(f"the ledger's database must be one of {', '.join(_DRIVERS)}")
    return driver
