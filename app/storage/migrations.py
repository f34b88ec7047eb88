"""Brings a database to the schema that this version of the code needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url

from app.storage.database import Database
from app.storage.patience import BoundedConnection

ALEMBIC_INI = Path(__file__).resolve().parents[2] / "alembic.ini"


def upgrade(database: Database, revision: str = "head") -> None:
    """Upgrades under a lock, so that several processes may start at once.

    On SQLite the write transaction is the lock; on PostgreSQL an advisory lock is.
    """
    run(database, "upgrade", revision)


def downgrade(database: Database, revision: str) -> None:
    run(database, "downgrade", revision)


def check(database: Database) -> None:
    """Raises alembic's CommandError if the tables on the page differ from the database's."""
    run(database, "check")


@cache
def outdated() -> frozenset[str | None]:
    """The revisions before the one that this code needs."""
    script = ScriptDirectory.from_config(Config(ALEMBIC_INI))
    head = script.get_current_head()
    return frozenset({None, *(step.revision for step in script.walk_revisions())} - {head})


def run(database: Database, name: str, *arguments: str) -> None:
    url = make_url(database.url)
    if database.is_sqlite and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    config = Config(ALEMBIC_INI, stdout=StringIO())  # it would talk to people
    with migrating(database) as connection:
        config.attributes["connection"] = connection
        getattr(command, name)(config, *arguments)


@contextmanager
def migrating(database: Database) -> Iterator[Connection]:
    """One transaction in which tables may be changed and even be made anew, however long it
    takes."""
    with (
        database.engine.execution_options(writes=True).connect() as connection,
        waited_for(connection),
        foreign_keys_held_back(connection),
        connection.begin(),
    ):
        yield connection
        if broken := foreign_keys_broken(connection):
            raise RuntimeError(f"the migration would leave rows that point at nothing: {broken}")


@contextmanager
def waited_for(connection: Connection) -> Iterator[None]:
    """Calls to PostgreSQL have a deadline, and so have waits for locks; those of a migration have
    none. Its connection is used for nothing else."""
    driver: Any = connection.connection.driver_connection
    if isinstance(driver, BoundedConnection):
        driver.limit_waits(lock_seconds=0, idle_seconds=0)
        driver.call_seconds = None
        connection.detach()
    yield


@contextmanager
def foreign_keys_held_back(connection: Connection) -> Iterator[None]:
    """On SQLite a table is changed by making it anew, and dropping the old one deletes by cascade.

    The pragma does nothing inside a transaction, so it stands around it.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA foreign_keys = off")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys = on")


def foreign_keys_broken(connection: Connection) -> list[str]:
    if connection.dialect.name != "sqlite":
        return []
    return [str(row) for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]
