"""What one attempt writes about itself while it runs, and its end.

Every write carries the fence, and raises Replaced once another attempt has the job. A database that
is away is waited for while the lease lasts; after that another worker may have the job.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np

from app.errors import StorageUnavailable
from app.jobs import lifecycle
from app.jobs.environment import environment
from app.jobs.lease import Lease
from app.jobs.lifecycle import Claim, SavedState
from app.jobs.states import Action, JobState
from app.jobs.worker import Worker
from app.models import service as models
from app.models.trained_model import TrainedModel
from app.numeric import checkpoints
from app.numeric.rows import Block, Rows
from app.numeric.training import Checkpoint, Progress
from app.storage.database import UNAVAILABLE, Session

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

RETRY_SECONDS = 0.5
# Checkpoints take at most one part in so many of a run's time.
SAVING_SHARE = 20.0


class FinishedModel(NamedTuple):
    model: TrainedModel
    dataset_id: str
    cost: str
    scores: dict[str, Any]


class Ending(StrEnum):
    """Why a run is to end before training does: what was wanted of it, or its worker stops.

    LOST is for a job that another worker has, or may soon have.
    """

    CANCEL = Action.CANCEL
    STOP = Action.STOP
    PAUSE = Action.PAUSE
    GIVE_BACK = "give_back"
    LOST = "lost"


class Interrupted(Exception):
    """The run was left in the middle of a pass over the rows: what that was for does not count."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class Recorder:
    """Collects epochs and writes them about once a second, together with the heartbeat.

    With a checkpoint, that is: what is stored of the history ends where the next attempt begins.
    Checkpoints that take long to write are written less often.
    """

    def __init__(self, worker: Worker, claim: Claim, *, claimed_at: float | None = None) -> None:
        self.lease = Lease(
            worker,
            claimed_at=time.monotonic() if claimed_at is None else claimed_at,
            beat=lambda: self.renew(self.beat),
            hear=self.hear,
        )
        self.worker = worker
        self.claim = claim
        self.records: list[tuple[float, float, float, float]] = []
        self.progress: dict[str, float | int | None] | None = None
        self.checkpoint: Checkpoint | None = None
        self.first: Progress | None = None
        self.wanted: Action | None = claim.wanted
        self.saved_at = time.monotonic()
        # Of the last two saves.
        self.saving_seconds = (0.0, 0.0)

    def heard(self) -> Ending | None:
        """How the run is to end, if it is. A stop needs something to keep."""
        if self.lease.is_lost:
            return Ending.LOST
        if self.wanted is Action.CANCEL:
            return Ending.CANCEL
        if self.wanted is Action.STOP and self.checkpoint is not None:
            return Ending.STOP
        if self.wanted is Action.PAUSE:
            return Ending.PAUSE
        return Ending.GIVE_BACK if self.worker.stopping.is_set() else None

    def heed(self) -> None:
        """Raises Interrupted when the run is to end."""
        ending = self.heard()
        if ending is not None:
            raise Interrupted(ending)

    def listening(self, rows: Rows) -> Rows:
        """The rows, of which a pass raises Interrupted when the run is to end."""

        def blocks() -> Iterator[Block]:
            for block in rows.blocks():
                self.heed()
                yield block

        return rows._replace(blocks=blocks)

    def add(self, progress: Progress, *, epochs: int, rows: int) -> Ending | None:
        """Takes note of a step; how the run is to end, if it is to end early.

        An epoch that is not over has no record in the history, but it can be ended all the same.
        """
        self.first = self.first or progress
        self.checkpoint = progress.checkpoint
        if not progress.batch:
            self.records.append(
                (progress.epoch, progress.cost, progress.validation_cost, progress.step_norm)
            )
        self.progress = {
            "epoch": progress.epoch,
            "epochs": epochs,
            "fraction": 1.0 if progress.stop_reason else progress.epoch / epochs,
            "cost": finite_or_none(progress.cost),
            "validation_cost": finite_or_none(progress.validation_cost),
            **speed(self.first, progress, epochs=epochs, rows=rows),
        }
        if progress.stop_reason is not None:
            return None
        since = time.monotonic() - self.lease.written_at
        if since >= self.worker.settings.heartbeat_seconds and not self.lease.is_failing:
            self.write_news()
        return self.heard()

    def write_news(self) -> None:
        """News that cannot be written now stay for later."""
        now = time.monotonic()
        saves = now - self.saved_at >= SAVING_SHARE * min(self.saving_seconds)
        try:
            self.renew(self.save if saves else self.beat)
        except UNAVAILABLE:
            self.lease.is_failing = True
            logger.warning("progress not written", extra={"job_id": self.claim.job_id})
            return
        if saves:
            self.saved_at = time.monotonic()
            # One that had to wait for the database says little about the next.
            self.saving_seconds = (self.saving_seconds[1], self.saved_at - now)
            self.records.clear()

    def renew(self, write: Callable[[Session], Action | None]) -> None:
        """Writes, and from before it was asked for the lease lasts anew."""
        asked_at = self.lease.written_at = time.monotonic()
        self.wanted = self.in_transaction(write)
        self.lease.renewed_at = asked_at

    def hear(self) -> None:
        with self.worker.database.reading() as session:
            self.wanted = lifecycle.hear(session, self.claim.job_id, self.claim.attempt)

    def beat(self, session: Session) -> Action | None:
        return lifecycle.beat(
            session,
            self.claim.job_id,
            self.claim.attempt,
            lease_seconds=self.worker.settings.lease_seconds,
            progress=self.progress,
        )

    def save(self, session: Session) -> Action | None:
        saved = self.saved_state()
        if saved is None:
            return self.beat(session)
        return lifecycle.save(
            session,
            self.claim.job_id,
            self.claim.attempt,
            lease_seconds=self.worker.settings.lease_seconds,
            progress=self.progress,
            records=self.packed_records(),
            checkpoint=saved,
        )

    def saved_state(self) -> SavedState | None:
        if self.checkpoint is None:
            return None
        state = checkpoints.to_bytes(self.checkpoint)
        return SavedState(self.checkpoint.state.epoch, state, environment())

    def finish(
        self,
        state: JobState,
        *,
        reason: str,
        model: FinishedModel | None = None,
        **values: Any,
    ) -> None:
        """Ends the job and stores its model in one transaction."""

        told = {} if self.progress is None else {"progress": self.progress}
        told["environment"] = environment()

        def write(session: Session) -> None:
            ended = lifecycle.finish(
                session,
                self.claim.job_id,
                self.claim.attempt,
                state,
                reason=reason,
                records=self.packed_records(),
                **told,
                **values,
            )
            if ended and model is not None:
                models.store(
                    session,
                    model.model,
                    owner=self.claim.owner,
                    name=self.claim.name,
                    job_id=self.claim.job_id,
                    dataset_id=model.dataset_id,
                    cost=model.cost,
                    scores=model.scores,
                )

        self.persistently(write)

    def give_back(self, *, reason: str) -> None:
        """The job can go on from here: it is paused, or queued for another worker."""
        saved = self.saved_state()
        self.persistently(
            lambda session: lifecycle.release(
                session,
                self.claim.job_id,
                self.claim.attempt,
                reason=reason,
                progress=self.progress,
                records=self.packed_records(),
                checkpoint=saved,
            )
        )

    def start_anew(self) -> None:
        """Without the checkpoint of the attempt before, which cannot be read."""
        self.persistently(
            lambda session: lifecycle.start_anew(session, self.claim.job_id, self.claim.attempt)
        )

    def persistently(self, write: Callable[[Session], None]) -> None:
        """Writes, waiting for a database that is away. A write that got through after all, though
        its answer was lost, is found out as Replaced at the next try, and is as good.

        Whatever is wanted of the job: this is how a run ends.
        """
        self.tried(lambda: self.in_transaction(write), between=lambda: None)

    def waiting(self, action: Callable[[], Result]) -> Result:
        """The result of `action`, for which a database or store that is away is waited for.

        Raises Interrupted when the run is to end.
        """
        return self.tried(action, between=self.heed)

    def tried(self, action: Callable[[], Result], *, between: Callable[[], None]) -> Result:
        """The result of `action`, tried while the database is away, or the store of the tables, for
        as long as a lease and while the job is still ours."""
        deadline = time.monotonic() + self.worker.settings.lease_seconds
        while True:
            try:
                return action()
            except (*UNAVAILABLE, StorageUnavailable):
                if self.lease.is_lost or time.monotonic() > deadline:
                    raise
                between()
                time.sleep(RETRY_SECONDS)

    def in_transaction(self, write: Callable[[Session], Result]) -> Result:
        with self.worker.database.writing() as session:
            return write(session)

    def packed_records(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array(self.records, dtype=np.float64).reshape(-1, 4)


def speed(
    first: Progress, progress: Progress, *, epochs: int, rows: int
) -> dict[str, float | int | None]:
    """Rows a second since the first step of this attempt, and the seconds that are left at most."""
    seconds = progress.checkpoint.seconds - first.checkpoint.seconds
    done = progress.epoch - first.epoch
    if done <= 0 or seconds <= 0.0:
        return {"rows_per_second": None, "eta_seconds": None}
    return {
        "rows_per_second": done * rows / seconds,
        "eta_seconds": 0.0 if progress.stop_reason else (epochs - progress.epoch) * seconds / done,
    }


def finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
