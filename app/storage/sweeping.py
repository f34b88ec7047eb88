"""What nobody needs any more is removed: kept answers, and what dead processes left of blobs.

An upload stores its blob before its row, and a deletion removes its row first: a process that dies
between the two leaves a blob that no row names. Any number of processes may sweep at once, while
others upload: only what is old is touched.
"""

import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sqlalchemy import select

from app.errors import StorageUnavailable
from app.settings import Settings
from app.storage import kept_answers
from app.storage.blobs import Blobs
from app.storage.database import Database, DatabaseError
from app.storage.tables import DatasetRow

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 3600.0
KEYS_AT_ONCE = 500


def sweep(database: Database, blobs: Blobs, *, orphan_hours: float) -> int:
    """Removes what is older than that and no row names; how many blobs that were."""
    blobs.remove_unfinished(hours=orphan_hours)
    stored = list(blobs.stored())
    named = named_keys(database, {blob.key for blob in stored})
    orphans = [
        blob.key for blob in stored if blob.key not in named and blob.age_hours > orphan_hours
    ]
    if orphans and not named:
        logger.error(
            "%d tables are stored and none is named by this database: it is another's store, or "
            "the database was lost. Nothing is removed.",
            len(orphans),
        )
        return 0
    for key in orphans:
        blobs.delete(key)
        logger.info("removed blob %s, which no dataset names", key)
    return len(orphans)


def named_keys(database: Database, keys: Collection[str]) -> set[str]:
    """Those of the keys that a row names."""
    named: set[str] = set()
    ordered = sorted(keys)
    with database.reading() as session:
        for start in range(0, len(ordered), KEYS_AT_ONCE):
            some = ordered[start : start + KEYS_AT_ONCE]
            query = select(DatasetRow.blob_key).where(DatasetRow.blob_key.in_(some))
            named.update(session.scalars(query))
    return named


@contextmanager
def sweeping(database: Database, blobs: Blobs, settings: Settings) -> Iterator[None]:
    """Sweeps at once and every hour, from a thread: a store that is slow holds nobody up."""
    done = threading.Event()

    def keep_sweeping() -> None:
        while not done.is_set():
            try:
                with database.writing() as session:
                    kept_answers.forget_old(session, days=settings.idempotency_days)
                sweep(database, blobs, orphan_hours=settings.orphan_hours)
            except (OSError, DatabaseError, StorageUnavailable) as error:
                logger.warning("not swept: %r", error)
            done.wait(SWEEP_SECONDS)

    # A daemon: a store that says nothing must not keep the process from ending.
    threading.Thread(target=keep_sweeping, daemon=True).start()
    try:
        yield
    finally:
        done.set()
