"""The database, brought to this version's schema."""

import time

import typer

from app.settings import Settings
from app.storage import migrations
from app.storage.database import DatabaseError, database_of


def main(*, wait_seconds: float) -> int:
    """Retries until the database answers, for at most `wait_seconds`."""
    settings = Settings()
    database = database_of(settings)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            migrations.upgrade(database)
        except DatabaseError as error:
            if time.monotonic() > deadline:
                raise
            typer.echo(f"waiting for the database: {type(error).__name__}", err=True)
            time.sleep(1)
        else:
            database.dispose()
            return 0
