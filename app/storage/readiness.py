"""Whether the database can be worked with, in a sentence."""

from sqlalchemy import text

from app.storage import migrations
from app.storage.database import Database, DatabaseError


def unready_reason(database: Database) -> str | None:
    """None if the database answers and is migrated, else what is in the way and what to do.

    One of a later version than this code is its own business: it is so during an upgrade.
    """
    try:
        with database.reading() as session:
            revision = session.scalar(text("SELECT version_num FROM alembic_version"))
    except DatabaseError as error:
        return (
            f"The database does not answer ({type(error).__name__}). "
            "Is it up, and has `python -m app migrate` run?"
        )
    if revision in migrations.outdated():
        return f"The database is at revision {revision} still. Run `python -m app migrate`."
    return None
