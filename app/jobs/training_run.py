"""One claimed job, from its claim to its end: what a worker process runs.

No transaction is open while numbers are computed. `run` is what the dispatcher sends; the functions
named `dask_...` are those that Dask calls in a module that a worker preloads.
"""

import logging
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from app.datasets import service as datasets
from app.errors import StorageUnavailable
from app.jobs import lifecycle
from app.jobs.environment import BLAS_THREADS, environment
from app.jobs.lifecycle import Claim, Replaced
from app.jobs.part_scores import part_scores
from app.jobs.prepared_data import PreparedData, prepare
from app.jobs.recorder import Ending, FinishedModel, Interrupted, Recorder
from app.jobs.states import Action, JobState
from app.jobs.training_spec import ResolvedSpec, ScheduleSpec, SolverSpec
from app.jobs.worker import Worker, this_worker
from app.models.trained_model import TrainedModel
from app.numeric import checkpoints
from app.numeric.errors import NumericError
from app.numeric.method import Schedule, Settings
from app.numeric.training import (
    Checkpoint,
    Progress,
    StopReason,
    TrainingPlan,
    standing,
    train,
)
from app.storage.database import UNAVAILABLE
from app.storage.ids import new_id
from app.telemetry import logs

logger = logging.getLogger(__name__)

MOMENTUM = 0.9
GIVE_BACK_SECONDS = 5.0
SEPARABLE = (
    "The classes can be told apart without a mistake, so without a penalty there is no best layer: "
    "the weights only grow. Set regularization.l2, for example 1e-3."
)

MOVED = (
    "It went on from a checkpoint that other libraries or another machine had written, so its last "
    "digits may differ from those of a run without an interruption."
)


def dask_setup(_: object) -> None:
    logs.configure(this_worker().settings.log_level)


def dask_teardown(_: object) -> None:
    """The worker was told to stop: the job that it runs is given back with a checkpoint.

    Before the connection is closed, at which the scheduler would take the worker for dead.
    """
    worker = this_worker()
    worker.stopping.set()
    if worker.busy.acquire(timeout=GIVE_BACK_SECONDS):
        worker.busy.release()


def run(job_id: str, delivery: int) -> None:
    """What the dispatcher sends to a worker process; the row holds the result."""
    worker = this_worker()
    with worker.busy:
        run_on(worker, job_id, delivery)


def run_on(worker: Worker, job_id: str, delivery: int) -> None:
    """Runs the job if this delivery of it is still wanted."""
    claimed_at = time.monotonic()
    try:
        claim = claimed(worker, job_id, delivery)
    except UNAVAILABLE as error:
        # The dispatcher sends again what nobody claims.
        logger.warning("not claimed: %s", type(error).__name__, extra={"job_id": job_id})
        return
    if claim is None:
        return
    recorder = Recorder(worker, claim, claimed_at=claimed_at)
    marks = {"job_id": job_id, "attempt": claim.attempt}
    try:
        with threadpool_limits(limits=BLAS_THREADS), recorder.lease.kept():
            carry_out_or_fail(worker, claim, recorder)
    except Replaced:
        logger.warning("left: another attempt has the job, or may soon", extra=marks)
    except UNAVAILABLE:
        logger.exception("the end could not be written; the lease decides", extra=marks)


def claimed(worker: Worker, job_id: str, delivery: int) -> Claim | None:
    with worker.database.writing() as session:
        return lifecycle.claim(
            session,
            job_id,
            delivery,
            worker=worker.name,
            lease_seconds=worker.settings.lease_seconds,
            attempts_max=worker.settings.attempts_max,
        )


def carry_out_or_fail(worker: Worker, claim: Claim, recorder: Recorder) -> None:
    try:
        carry_out(worker, claim, recorder)
    except (Replaced, *UNAVAILABLE):
        raise
    except StorageUnavailable:
        # Nobody died; whoever claims it next waits for the store again.
        recorder.give_back(reason="storage_unavailable")
    except NumericError as error:
        fail(recorder, "unsuitable_data", f"The table cannot be trained on: {error}")
    except MemoryError:
        detail = "There is not enough memory to train on this table."
        fail(recorder, "out_of_memory", detail)
    except Exception:
        logger.exception("job failed", extra={"job_id": claim.job_id, "attempt": claim.attempt})
        fail(recorder, "internal_error", f"It was logged under the job's id {claim.job_id}.")


def carry_out(worker: Worker, claim: Claim, recorder: Recorder) -> None:
    spec = ResolvedSpec.model_validate(claim.resolved_spec)
    with ExitStack() as held:
        try:
            # To the end: a pass over the rows must not find that it has to be fetched again.
            recorder.waiting(lambda: hold_table(worker, claim, spec, held))
            data = recorder.waiting(
                lambda: prepare(
                    worker.database, worker.blobs, claim.owner, spec, heed=recorder.heed
                )
            )
        except Interrupted as interrupted:
            leave(recorder, interrupted.ending)
            return
        carry_out_on(data, claim, spec, recorder)


def hold_table(worker: Worker, claim: Claim, spec: ResolvedSpec, held: ExitStack) -> None:
    """Brings the dataset's blob to this machine, where it stays as long as `held` does."""
    with worker.database.reading() as session:
        key = datasets.get(session, claim.owner, spec.dataset_id).blob_key
    held.enter_context(worker.blobs.local(key))


def carry_out_on(data: PreparedData, claim: Claim, spec: ResolvedSpec, recorder: Recorder) -> None:
    resume = checkpoint_of(claim, recorder)
    last, ending = trained(data, spec, resume, recorder)
    if ending is None or ending is Ending.STOP:
        end(claim, spec, data, last, recorder)
    else:
        leave(recorder, ending)


def leave(recorder: Recorder, ending: Ending) -> None:
    """The run ends here and leaves no model."""
    match ending:
        case Ending.CANCEL:
            recorder.finish(JobState.CANCELLED, reason="cancelled_by_user")
        case Ending.PAUSE:
            recorder.give_back(reason="pause_withdrawn")
        case Ending.LOST:
            raise Replaced
        case _:
            recorder.give_back(reason="worker_stopped")


def trained(
    data: PreparedData, spec: ResolvedSpec, resume: Checkpoint | None, recorder: Recorder
) -> tuple[Progress | None, Ending | None]:
    """The last step, and how the run is to end if not as training did."""
    plan = plan_of(spec)
    if resume is not None and recorder.wanted is Action.STOP:
        return standing(plan, resume), Ending.STOP
    heard = data.training_data._replace(rows=recorder.listening(data.training))
    last: Progress | None = None
    try:
        for progress in train(heard, plan, resume=resume):
            last = progress
            ending = recorder.add(progress, epochs=spec.solver.epochs, rows=data.training.total)
            if ending is not None:
                break
        else:
            return last, None
    except Interrupted as interrupted:
        ending = interrupted.ending
    if ending is Ending.STOP and last is not None:
        last = last._replace(stop_reason=StopReason.USER)
    return last, ending


def checkpoint_of(claim: Claim, recorder: Recorder) -> Checkpoint | None:
    """Where the attempt before came to. One that this version cannot read is forgotten."""
    if claim.checkpoint is None:
        return None
    try:
        return checkpoints.from_bytes(claim.checkpoint.state)
    except NumericError:
        logger.warning("checkpoint not readable, starting anew", extra={"job_id": claim.job_id})
        recorder.start_anew()
        return None


def end(
    claim: Claim,
    spec: ResolvedSpec,
    data: PreparedData,
    last: Progress | None,
    recorder: Recorder,
) -> None:
    if last is None:
        raise RuntimeError("training ended before it began")
    if last.stop_reason is StopReason.DIVERGED:
        fail(recorder, "diverged", advice_on_divergence(last), stop_reason=last.stop_reason)
    else:
        succeed(claim, spec, data, last, recorder)


def plan_of(spec: ResolvedSpec) -> TrainingPlan:
    stopping, penalty = spec.early_stopping, spec.regularization
    return TrainingPlan(
        activation=spec.activation,
        cost=spec.cost,
        solver=spec.solver.name,
        settings=settings_of(spec.solver, seed=spec.seed),
        l2=penalty.l2,
        l1=penalty.l1,
        non_negative=penalty.non_negative,
        patience=None if stopping is None else stopping.patience,
        min_delta=0.0 if stopping is None else stopping.min_delta,
        max_seconds=spec.limits.max_seconds,
    )


def settings_of(solver: SolverSpec, *, seed: int) -> Settings:
    return Settings(
        learning_rate=None if solver.learning_rate == "auto" else solver.learning_rate,
        batch_size=solver.batch_size if isinstance(solver.batch_size, int) else None,
        momentum=MOMENTUM if solver.momentum == "auto" else solver.momentum,
        tolerance=solver.tolerance,
        epochs=solver.epochs,
        schedule=schedule_of(solver.schedule),
        clip_norm=solver.clip_norm,
        seed=seed,
    )


def schedule_of(spec: ScheduleSpec | None) -> Schedule:
    if spec is None:
        return Schedule()
    return Schedule(spec.name, spec.warm_up_epochs, spec.every_epochs, spec.factor)


def advice_on_divergence(last: Progress) -> str:
    rate = last.learning_rate
    if last.epoch == 0:
        return "The cost is not finite from the start: the numbers are too large. Scale the table."
    advice = "Use learning_rate 'auto'" + ("." if rate is None else f", or less than {rate:g}.")
    found = "kept rising" if np.isfinite(last.cost) else "stopped being finite"
    return f"The cost {found} until epoch {last.epoch}. {advice}"


def succeed(
    claim: Claim, spec: ResolvedSpec, data: PreparedData, last: Progress, recorder: Recorder
) -> None:
    scores = part_scores(spec, data, last)
    model = TrainedModel(
        id=new_id("mdl"),
        version=0,
        layer=last.layer,
        preprocessing=data.preprocessing,
        outputs=data.outputs,
        classes=data.targets.classes,
    )
    resolved = dict(claim.resolved_spec)
    if last.learning_rate is not None:
        resolved["solver"] = resolved["solver"] | {"learning_rate": last.learning_rate}
    recorder.finish(
        JobState.SUCCEEDED,
        reason="finished",
        model=FinishedModel(model, spec.dataset_id, spec.cost, scores),
        stop_reason=last.stop_reason,
        scores=scores,
        warnings=warnings_of(claim, data, last),
        model_id=model.id,
        resolved_spec=resolved,
    )


def warnings_of(claim: Claim, data: PreparedData, last: Progress) -> list[str]:
    moved = claim.checkpoint is not None and claim.checkpoint.environment != environment()
    return [
        *data.warnings,
        *([SEPARABLE] if last.separable else []),
        *([MOVED] if moved else []),
    ]


def fail(recorder: Recorder, code: str, detail: str, **values: Any) -> None:
    error = {"code": code, "detail": detail}
    recorder.finish(JobState.FAILED, reason=code, error=error, **values)
