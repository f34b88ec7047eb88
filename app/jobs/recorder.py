"""What one attempt writes about itself while it runs, and its end.

Every write carries the fence, and raises Replaced once another attempt has the job. A database that
is away is waited for as long as the lease lasts; after that another worker may have the job.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np

from app.jobs import lifecycle
from app.jobs.environment import environment
from app.jobs.lifecycle import Claim, Replaced
from app.jobs.states import JobState
from app.jobs.worker import Worker
from app.models import service as models
from app.models.trained_model import TrainedModel
from app.numeric.training import Progress
from app.storage.database import UNAVAILABLE, Session

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

RETRY_SECONDS = 0.5
# Often enough that one beat may be lost: a lease is renewed four times in its length.
BEATS_PER_LEASE = 4


class FinishedModel(NamedTuple):
    model: TrainedModel
    dataset_id: str
    cost: str
    scores: dict[str, Any]


class Recorder:
    """Collects epochs and writes them about once a second, together with the heartbeat."""

    def __init__(self, worker: Worker, claim: Claim) -> None:
        self.worker = worker
        self.claim = claim
        self.records: list[tuple[float, float, float, float]] = []
        self.progress: dict[str, float | int | None] | None = None
        self.written_at = time.monotonic()

    @contextmanager
    def keeping_lease(self) -> Iterator[None]:
        """Renews the lease from a thread, for epochs that take longer than it."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(self.worker.settings.lease_seconds / BEATS_PER_LEASE):
                try:
                    self.in_transaction(lambda session: self.beat(session, with_news=False))
                except Replaced:
                    return  # the run itself finds out at its next write
                except UNAVAILABLE:
                    logger.warning("lease not renewed", extra={"job_id": self.claim.job_id})

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def add(self, progress: Progress, *, epochs: int) -> JobState | None:
        """CANCELLED or QUEUED when the run is to end early, and what the job is to become.

        An epoch that is not over has no record in the history, but it can be ended all the same.
        """
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
        }
        if progress.stop_reason is not None:
            return None
        if self.worker.stopping.is_set():
            return JobState.QUEUED
        if time.monotonic() - self.written_at < self.worker.settings.heartbeat_seconds:
            return None
        return JobState.CANCELLED if self.write_news() else None

    def write_news(self) -> bool:
        """True when the job is to be cancelled. News that cannot be written now stay for later."""
        self.written_at = time.monotonic()
        try:
            cancelled = self.in_transaction(lambda session: self.beat(session, with_news=True))
        except UNAVAILABLE:
            logger.warning("progress not written", extra={"job_id": self.claim.job_id})
            return False
        self.records.clear()
        return cancelled

    def beat(self, session: Session, *, with_news: bool) -> bool:
        return lifecycle.beat(
            session,
            self.claim.job_id,
            self.claim.attempt,
            lease_seconds=self.worker.settings.lease_seconds,
            progress=self.progress if with_news else None,
            records=self.packed_records() if with_news else None,
        )

    def finish(
        self,
        state: JobState,
        *,
        reason: str,
        model: FinishedModel | None = None,
        **values: Any,
    ) -> None:
        """Ends the job and stores its model in one transaction."""

        libraries = environment()

        def write(session: Session) -> None:
            ended = lifecycle.finish(
                session,
                self.claim.job_id,
                self.claim.attempt,
                state,
                reason=reason,
                records=self.packed_records(),
                progress=self.progress,
                environment=libraries,
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

    def give_back(self) -> None:
        """Queues the job for another worker, without counting a death."""
        self.persistently(
            lambda session: lifecycle.release(session, self.claim.job_id, self.claim.attempt)
        )

    def persistently(self, write: Callable[[Session], None]) -> None:
        """Writes, waiting for a database that is away. A write that got through after all, though
        its answer was lost, is found out as Replaced at the next try, and is as good."""
        self.waiting(lambda: self.in_transaction(write))

    def waiting(self, action: Callable[[], Result]) -> Result:
        """The result of `action`, tried for as long as the lease while the database is away."""
        deadline = time.monotonic() + self.worker.settings.lease_seconds
        while True:
            try:
                return action()
            except UNAVAILABLE:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def in_transaction(self, write: Callable[[Session], Result]) -> Result:
        with self.worker.database.writing() as session:
            return write(session)

    def packed_records(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array(self.records, dtype=np.float64).reshape(-1, 4)


def finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
