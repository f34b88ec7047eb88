"""Brings a database to the schema that this version of the code needs."""

from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import make_url

from app.storage.database import Database

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


def run(database: Database, name: str, *arguments: str) -> None:
    url = make_url(database.url)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    config = Config(ALEMBIC_INI, stdout=StringIO())  # it would talk to people
    with database.engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, name)(config, *arguments)
