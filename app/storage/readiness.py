"""Whether the database can be worked with, in a sentence."""

from sqlalchemy import select

from app.storage.database import Database, DatabaseError
from app.storage.tables import JobRow


def unready_reason(database: Database) -> str | None:
    """None if a query on the jobs works, else what is in the way and what to do."""
    try:
        with database.reading() as session:
            session.scalar(select(JobRow.id).limit(1))
    except DatabaseError as error:
        return (
            f"The database does not answer ({type(error).__name__}). "
            "Is it up, and has `python -m app migrate` run?"
        )
    return None
