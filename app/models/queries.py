"""SQL of models."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import defer

from app.storage.database import Session, take_turn
from app.storage.tables import ModelRow


def find(session: Session, owner: str, model_id: str) -> ModelRow | None:
    return session.scalar(select(ModelRow).where(ModelRow.owner == owner, ModelRow.id == model_id))


def newest(session: Session, owner: str, *, before: str | None, limit: int) -> Sequence[ModelRow]:
    """Up to `limit` models, newest first, older than the id `before` if it is given.

    Without their parameters, of which there may be megabytes.
    """
    query = (
        select(ModelRow)
        .where(ModelRow.owner == owner)
        .options(defer(ModelRow.w, raiseload=True), defer(ModelRow.b, raiseload=True))
    )
    if before is not None:
        query = query.where(ModelRow.id < before)
    return session.scalars(query.order_by(ModelRow.id.desc()).limit(limit)).all()


def next_version(session: Session, owner: str, name: str) -> int:
    """One more than the newest model of this name has; nobody else gets the same number."""
    # Else two workers could read the same maximum.
    take_turn(session, f"{owner}/{name}")
    query = select(func.max(ModelRow.version)).where(ModelRow.owner == owner, ModelRow.name == name)
    return (session.scalar(query) or 0) + 1
