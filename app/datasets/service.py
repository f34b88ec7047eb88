"""What happens to datasets: stored once, never changed, deleted when no job needs them."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import pyarrow as pa

from app.datasets import columns, queries, stored_table
from app.datasets.parsing import PARSERS, TableLimits
from app.errors import (
    DatasetInUse,
    DatasetNotFound,
    Fault,
    StorageUnavailable,
    UnsupportedMediaType,
)
from app.settings import Settings
from app.storage.blobs import Blobs
from app.storage.database import Session, clock
from app.storage.ids import new_id
from app.storage.room import needing_room
from app.storage.tables import DatasetRow

logger = logging.getLogger(__name__)


def require_known_format(media_type: str) -> None:
    """Raises UnsupportedMediaType, naming the formats there are."""
    if media_type not in PARSERS:
        known = " or ".join(PARSERS)
        raise UnsupportedMediaType(
            f"A dataset cannot be read from {media_type[:80]!r}. "
            f"Send {known} and name it in the Content-Type header."
        )


class StoredTable(NamedTuple):
    """A table in the blob store that no row points at yet; the columns of its row."""

    id: str
    name: str
    columns: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    row_count: int
    byte_count: int
    content_sha256: str


def stored(
    blobs: Blobs, settings: Settings, *, name: str, media_type: str, body: bytes
) -> StoredTable:
    """Reads the table and stores it, outside of any transaction.

    The blob goes first: a crash here leaves an unused file, never a row that points at nothing.
    """
    limits = TableLimits(
        rows_max=settings.rows_max,
        columns_max=settings.columns_max,
        cells_max=settings.cells_max,
        levels_max=settings.levels_max,
    )
    parsed = PARSERS[media_type](body, limits)
    described = columns.describe(parsed.table, levels_max=settings.levels_max)
    dataset_id = new_id("ds")
    with needing_room():
        stored_table.write(blobs, dataset_id, parsed.table)
    return StoredTable(
        id=dataset_id,
        name=name,
        columns=columns.to_json(described),
        warnings=[fault_to_json(fault) for fault in parsed.warnings],
        row_count=parsed.table.num_rows,
        byte_count=len(body),
        content_sha256=hashlib.sha256(body).hexdigest(),
    )


def keep(session: Session, owner: str, table: StoredTable) -> DatasetRow:
    """The row of a stored table."""
    row = DatasetRow(owner=owner, blob_key=table.id, created_at=clock(session), **table._asdict())
    session.add(row)
    session.flush()
    return row


def fault_to_json(fault: Fault) -> dict[str, Any]:
    return {name: value for name, value in asdict(fault).items() if value is not None}


def get(session: Session, owner: str, dataset_id: str) -> DatasetRow:
    row = queries.find(session, owner, dataset_id)
    if row is None:
        raise DatasetNotFound(dataset_id)
    return row


def newest(session: Session, owner: str, *, before: str | None, limit: int) -> Sequence[DatasetRow]:
    return queries.newest(session, owner, before=before, limit=limit)


def preview(blobs: Blobs, row: DatasetRow, *, offset: int, limit: int) -> list[dict[str, Any]]:
    """Rows as they were understood: numbers, level texts, and None for what is missing."""
    try:
        table: pa.Table = stored_table.read(blobs, row.blob_key)
    except FileNotFoundError:  # deleted since the row was read, or since the backup it is from
        raise DatasetNotFound(row.id) from None
    return table.slice(offset, limit).to_pylist()


def delete(session: Session, owner: str, dataset_id: str) -> str:
    """The key of the blob, which nobody needs once the transaction is over.

    Raises DatasetInUse while a job that has not ended trains on it.
    """
    row = queries.find_and_lock(session, owner, dataset_id)
    if row is None:
        raise DatasetNotFound(dataset_id)
    if jobs := queries.live_job_ids(session, dataset_id, limit=3):
        raise DatasetInUse(
            f"It is needed by {', '.join(jobs)}. Cancel the job or wait until it has ended."
        )
    session.delete(row)
    return row.blob_key


def delete_blob(blobs: Blobs, key: str) -> None:
    """The dataset is gone already, so a file that stays is only worth a log record: it is swept
    away later."""
    try:
        blobs.delete(key)
    except (OSError, StorageUnavailable):
        logger.exception("blob %s was not deleted", key)
