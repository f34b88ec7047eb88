"""Builds that are broken on purpose: a storm that does not find these finds nothing."""

import random
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from app.jobs import lifecycle, queries
from app.jobs.lifecycle import SavedState
from app.jobs.worker import this_worker
from app.storage.database import Session, clock
from app.storage.tables import CheckpointRow, JobRow


def no_fence() -> None:
    """A worker writes whether it still has the job or not."""

    def still_had(row: JobRow | None, attempt: int) -> JobRow:
        del attempt
        assert row is not None
        return row

    lifecycle.still_had = still_had


def claim_without_lock() -> None:
    """A claim believes what it read before it had the row for itself."""
    claim = lifecycle.claim

    def racy(session: Session, job_id: str, delivery: int, **named: Any) -> lifecycle.Claim | None:
        with this_worker().database.reading() as before:
            seen = before.get(JobRow, job_id)
            assert seen is not None
        time.sleep(random.uniform(0.0, 0.02))
        row = queries.find_and_lock(session, job_id)
        assert row is not None
        row.state, row.attempt, row.delivery = seen.state, seen.attempt, seen.delivery
        return claim(session, job_id, delivery, **named)

    lifecycle.claim = racy


def checkpoint_apart() -> None:
    """The checkpoint is committed before the history that it belongs to."""
    store = lifecycle.store

    def apart(
        session: Session, row: JobRow, *, checkpoint: SavedState | None, **named: Any
    ) -> None:
        if checkpoint is not None:
            session.merge(
                CheckpointRow(job_id=row.id, saved_at=clock(session), **checkpoint._asdict())
            )
            session.commit()
            again = queries.find_and_lock(session, row.id)
            assert again is not None
        store(session, row, checkpoint=checkpoint, **named)

    lifecycle.store = apart


BREAKAGES: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        "no_fence": no_fence,
        "claim_without_lock": claim_without_lock,
        "checkpoint_apart": checkpoint_apart,
    }
)
