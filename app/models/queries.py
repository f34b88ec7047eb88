"""SQL of models."""

from collections.abc import Sequence

from sqlalchemy import func, select, text

from app.storage.database import Session, is_sqlite
from app.storage.tables import ModelRow


def find(session: Session, owner: str, model_id: str) -> ModelRow | None:
    return session.scalar(select(ModelRow).where(ModelRow.owner == owner, ModelRow.id == model_id))


def newest(session: Session, owner: str, *, before: str | None, limit: int) -> Sequence[ModelRow]:
    """Up to `limit` models, newest first, older than the id `before` if it is given."""
    query = select(ModelRow).where(ModelRow.owner == owner)
    if before is not None:
        query = query.where(ModelRow.id < before)
    return session.scalars(query.order_by(ModelRow.id.desc()).limit(limit)).all()


def next_version(session: Session, owner: str, name: str) -> int:
    """One more than the newest model of this name has; nobody else gets the same number."""
    if not is_sqlite(session):
        # SQLite's write lock is held already; here two workers could read the same maximum.
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"{owner}/{name}"},
        )
    query = select(func.max(ModelRow.version)).where(ModelRow.owner == owner, ModelRow.name == name)
    return (session.scalar(query) or 0) + 1
