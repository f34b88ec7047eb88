"""A copy of an embedded service's data, made while it runs."""

from pathlib import Path

import typer

from app.settings import Settings
from app.storage.backup import back_up
from app.storage.database import database_of


def main(*, folder: Path) -> int:
    settings = Settings()
    database = database_of(settings)
    if not database.is_sqlite or settings.object_store is not None:
        typer.echo(
            "This copies an SQLite database and a folder of tables. Use pg_dump for PostgreSQL, "
            "and what your object store offers: docs/operations.md says in which order.",
            err=True,
        )
        return 2
    try:
        tables = back_up(database, settings.resolved_storage_folder, folder)
    except FileExistsError as error:
        typer.echo(f"{error.filename} is there already, and is kept.", err=True)
        return 1
    typer.echo(f"Copied the database and {tables} tables to {folder}.")
    return 0
