"""SQL of datasets."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import defer

from app.storage.database import Session
from app.storage.tables import DatasetRow, JobRow


def find(session: Session, owner: str, dataset_id: str) -> DatasetRow | None:
    return session.scalar(
        select(DatasetRow).where(DatasetRow.owner == owner, DatasetRow.id == dataset_id)
    )


def find_and_keep(session: Session, owner: str, dataset_id: str) -> DatasetRow | None:
    """The dataset, which cannot be deleted before this transaction ends."""
    return session.scalar(
        select(DatasetRow)
        .where(DatasetRow.owner == owner, DatasetRow.id == dataset_id)
        .with_for_update(read=True, key_share=True)
    )


def find_and_lock(session: Session, owner: str, dataset_id: str) -> DatasetRow | None:
    """The dataset, which no new job can name before this transaction ends."""
    return session.scalar(
        select(DatasetRow)
        .where(DatasetRow.owner == owner, DatasetRow.id == dataset_id)
        .with_for_update()
    )


def newest(session: Session, owner: str, *, before: str | None, limit: int) -> Sequence[DatasetRow]:
    """Up to `limit` datasets, newest first, older than the id `before` if it is given.

    Without their columns and warnings, of which there may be megabytes.
    """
    query = (
        select(DatasetRow)
        .where(DatasetRow.owner == owner)
        .options(
            defer(DatasetRow.columns, raiseload=True), defer(DatasetRow.warnings, raiseload=True)
        )
    )
    if before is not None:
        query = query.where(DatasetRow.id < before)
    return session.scalars(query.order_by(DatasetRow.id.desc()).limit(limit)).all()


def live_job_ids(session: Session, dataset_id: str, *, limit: int) -> Sequence[str]:
    """Jobs that have not ended and train on this dataset."""
    return session.scalars(
        select(JobRow.id)
        .where(JobRow.dataset_id == dataset_id, JobRow.ended_at.is_(None))
        .order_by(JobRow.id)
        .limit(limit)
    ).all()
