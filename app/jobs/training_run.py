"""One claimed job, from its claim to its end: what a worker process runs.

No transaction is open while numbers are computed. About once a second the run writes what is new
and reads whether it is to be cancelled; if one epoch takes longer, a thread keeps the lease.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from app.jobs import lifecycle
from app.jobs.lifecycle import Claim, Replaced
from app.jobs.prepared_data import PreparedData, prepare
from app.jobs.states import JobState
from app.jobs.training_spec import ResolvedSpec
from app.models import service as models
from app.models.trained_model import Output, TrainedModel
from app.numeric.layer import forward
from app.numeric.scores import scores
from app.numeric.training import Progress, StopReason, TrainingPlan, train
from app.settings import Settings
from app.storage.blobs import Blobs
from app.storage.database import Database
from app.storage.ids import new_id

logger = logging.getLogger(__name__)


class Worker(NamedTuple):
    """What one worker process works with."""

    name: str
    settings: Settings
    database: Database
    blobs: Blobs


@cache
def this_worker() -> Worker:
    """The worker that this process is, by the settings in its environment."""
    return worker_of(Settings())


def worker_of(settings: Settings) -> Worker:
    return Worker(
        name=f"{socket.gethostname()}:{os.getpid()}",
        settings=settings,
        database=Database(
            settings.resolved_database_url, busy_seconds=settings.database_busy_seconds
        ),
        blobs=Blobs(settings.resolved_storage_folder),
    )


def run(job_id: str, delivery: int) -> None:
    """What the dispatcher sends to a worker process; the row holds the result."""
    run_on(this_worker(), job_id, delivery)


def run_on(worker: Worker, job_id: str, delivery: int) -> None:
    """Runs the job if this delivery of it is still wanted."""
    settings = worker.settings
    with worker.database.writing() as session:
        claim = lifecycle.claim(
            session,
            job_id,
            delivery,
            worker=worker.name,
            lease_seconds=settings.lease_seconds,
            attempts_max=settings.attempts_max,
        )
    if claim is None:
        return
    try:
        with threadpool_limits(limits=1), lease_kept(worker, claim):
            carry_out(worker, claim)
    except Replaced:
        logger.warning("replaced by another attempt", extra={"job_id": job_id})
    except MemoryError:
        fail(worker, claim, "out_of_memory", "There is not enough memory to train on this table.")
    except Exception:
        logger.exception("job failed", extra={"job_id": job_id, "attempt": claim.attempt})
        fail(worker, claim, "internal_error", f"It was logged under the job's id {job_id}.")


@contextmanager
def lease_kept(worker: Worker, claim: Claim) -> Iterator[None]:
    """Renews the lease from a thread, for epochs that take longer than it."""
    done = threading.Event()
    seconds = worker.settings.lease_seconds / 4

    def keep() -> None:
        while not done.wait(seconds):
            try:
                with worker.database.writing() as session:
                    lifecycle.beat(
                        session,
                        claim.job_id,
                        claim.attempt,
                        lease_seconds=worker.settings.lease_seconds,
                    )
            except Replaced:
                return  # the run itself finds out at its next write
            except Exception:
                # The database may be back before the lease ends; if not, the lease decides.
                logger.exception("lease not renewed", extra={"job_id": claim.job_id})

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def carry_out(worker: Worker, claim: Claim) -> None:
    spec = ResolvedSpec.model_validate(claim.resolved_spec)
    data = prepare(worker.database, worker.blobs, claim.owner, spec)
    recorder = Recorder(worker, claim, spec)
    last: Progress | None = None
    for progress in train(data.training_data, plan_of(spec)):
        last = progress
        if recorder.add(progress):
            recorder.finish(JobState.CANCELLED, reason="cancelled_by_user")
            return
    if last is None:
        raise RuntimeError("training ended before it began")
    if last.stop_reason is StopReason.DIVERGED:
        recorder.finish(
            JobState.FAILED,
            reason="diverged",
            stop_reason=last.stop_reason,
            error={"code": "diverged", "detail": advice_on_divergence(last)},
        )
        return
    succeed(claim, spec, data, last, recorder)


def plan_of(spec: ResolvedSpec) -> TrainingPlan:
    solver, stopping = spec.solver, spec.early_stopping
    return TrainingPlan(
        activation=spec.activation,
        cost=spec.cost,
        solver=solver.name,
        learning_rate=None if solver.learning_rate == "auto" else solver.learning_rate,
        batch_size=solver.batch_size if isinstance(solver.batch_size, int) else None,
        momentum=solver.momentum,
        epochs=solver.epochs,
        tolerance=solver.tolerance,
        l2=spec.regularization.l2,
        patience=None if stopping is None else stopping.patience,
        min_delta=0.0 if stopping is None else stopping.min_delta,
        max_seconds=spec.limits.max_seconds,
        seed=spec.seed,
    )


def advice_on_divergence(last: Progress) -> str:
    rate = last.learning_rate
    if last.epoch == 0:
        return "The cost is not finite from the start: the numbers are too large. Scale the table."
    advice = "Use learning_rate 'auto'" + ("." if rate is None else f", or less than {rate:g}.")
    found = "kept rising" if np.isfinite(last.cost) else "stopped being finite"
    return f"The cost {found} until epoch {last.epoch}. {advice}"


class Recorder:
    """Collects epochs and writes them about once a second, together with the heartbeat."""

    def __init__(self, worker: Worker, claim: Claim, spec: ResolvedSpec) -> None:
        self.worker = worker
        self.claim = claim
        self.epochs = spec.solver.epochs
        self.records: list[tuple[float, float, float, float]] = []
        self.progress: dict[str, float | int | None] | None = None
        self.written_at = time.monotonic()

    def add(self, progress: Progress) -> bool:
        """True when the job is to be cancelled, which is read whenever something is written."""
        self.records.append(
            (progress.epoch, progress.cost, progress.validation_cost, progress.step_norm)
        )
        self.progress = {
            "epoch": progress.epoch,
            "epochs": self.epochs,
            "fraction": 1.0 if progress.stop_reason else progress.epoch / self.epochs,
            "cost": finite_or_none(progress.cost),
            "validation_cost": finite_or_none(progress.validation_cost),
        }
        if time.monotonic() - self.written_at < self.worker.settings.heartbeat_seconds:
            return False
        with self.worker.database.writing() as session:
            cancelled = lifecycle.beat(
                session,
                self.claim.job_id,
                self.claim.attempt,
                lease_seconds=self.worker.settings.lease_seconds,
                progress=self.progress,
                records=self.take_records(),
            )
        self.written_at = time.monotonic()
        return cancelled

    def finish(
        self,
        state: JobState,
        *,
        reason: str,
        model: "FinishedModel | None" = None,
        **values: object,
    ) -> None:
        """Ends the job and stores its model in one transaction."""
        with self.worker.database.writing() as session:
            lifecycle.finish(
                session,
                self.claim.job_id,
                self.claim.attempt,
                state,
                reason=reason,
                records=self.take_records(),
                progress=self.progress,
                **values,
            )
            if model is not None:
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

    def take_records(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        taken = np.array(self.records, dtype=np.float64).reshape(-1, 4)
        self.records = []
        return taken


class FinishedModel(NamedTuple):
    model: TrainedModel
    dataset_id: str
    cost: str
    scores: dict[str, dict[str, float | None]]


def succeed(
    claim: Claim, spec: ResolvedSpec, data: PreparedData, last: Progress, recorder: Recorder
) -> None:
    x, y, x_validation, y_validation = data.training_data
    parts = {"training": (x, y)} | (
        {"validation": (x_validation, y_validation)} if len(x_validation) else {}
    )
    part_scores: dict[str, dict[str, float | None]] = {
        part: {
            "rows": float(len(truth)),
            **{
                name: finite_or_none(value)
                for name, value in scores(spec.cost, truth, forward(last.layer, inputs)).items()
            },
        }
        for part, (inputs, truth) in parts.items()
    }
    outputs = tuple(
        Output(name, float(column.min()), float(column.max()))
        for name, column in zip(spec.targets, y.T, strict=True)
    )
    model = TrainedModel(new_id("mdl"), 0, last.layer, data.preprocessing, outputs)
    resolved = dict(claim.resolved_spec)
    if last.learning_rate is not None:
        resolved["solver"] = resolved["solver"] | {"learning_rate": last.learning_rate}
    recorder.finish(
        JobState.SUCCEEDED,
        reason="finished",
        model=FinishedModel(model, spec.dataset_id, spec.cost, part_scores),
        stop_reason=last.stop_reason,
        scores=part_scores,
        model_id=model.id,
        resolved_spec=resolved,
    )


def fail(worker: Worker, claim: Claim, code: str, detail: str) -> None:
    try:
        with worker.database.writing() as session:
            lifecycle.finish(
                session,
                claim.job_id,
                claim.attempt,
                JobState.FAILED,
                reason=code,
                error={"code": code, "detail": detail},
            )
    except Replaced:
        logger.warning("failed, but replaced already", extra={"job_id": claim.job_id})


def finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
