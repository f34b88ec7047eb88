"""One claimed job, from its claim to its end: what a worker process runs.

No transaction is open while numbers are computed. `run` is what the dispatcher sends; the functions
named `dask_...` are those that Dask calls in a module that a worker preloads.
"""

import logging
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from app.jobs import lifecycle
from app.jobs.environment import BLAS_THREADS
from app.jobs.lifecycle import Claim, Replaced
from app.jobs.part_scores import part_scores
from app.jobs.prepared_data import PreparedData, prepare
from app.jobs.recorder import FinishedModel, Recorder
from app.jobs.states import JobState
from app.jobs.training_spec import ResolvedSpec, ScheduleSpec, SolverSpec
from app.jobs.worker import Worker, this_worker
from app.models.trained_model import TrainedModel
from app.numeric.errors import NumericError
from app.numeric.method import Schedule, Settings
from app.numeric.training import Progress, StopReason, TrainingPlan, train
from app.storage.database import UNAVAILABLE
from app.storage.ids import new_id
from app.telemetry import logs

logger = logging.getLogger(__name__)

MOMENTUM = 0.9
SEPARABLE = (
    "The classes can be told apart without a mistake, so without a penalty there is no best layer: "
    "the weights only grow. Set regularization.l2, for example 1e-3."
)


def dask_setup(_: object) -> None:
    logs.configure(this_worker().settings.log_level)


def dask_teardown(_: object) -> None:
    """The worker was told to stop: the job that it runs is given back at the end of its epoch."""
    this_worker().stopping.set()


def run(job_id: str, delivery: int) -> None:
    """What the dispatcher sends to a worker process; the row holds the result."""
    run_on(this_worker(), job_id, delivery)


def run_on(worker: Worker, job_id: str, delivery: int) -> None:
    """Runs the job if this delivery of it is still wanted."""
    try:
        claim = claimed(worker, job_id, delivery)
    except UNAVAILABLE as error:
        # The dispatcher sends again what nobody claims.
        logger.warning("not claimed: %s", type(error).__name__, extra={"job_id": job_id})
        return
    if claim is None:
        return
    recorder = Recorder(worker, claim)
    marks = {"job_id": job_id, "attempt": claim.attempt}
    try:
        with threadpool_limits(limits=BLAS_THREADS), recorder.keeping_lease():
            carry_out_or_fail(worker, claim, recorder)
    except Replaced:
        logger.warning("replaced by another attempt", extra=marks)
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
    data = recorder.waiting(lambda: prepare(worker.database, worker.blobs, claim.owner, spec))
    last: Progress | None = None
    for progress in train(data.training_data, plan_of(spec)):
        last = progress
        match recorder.add(progress, epochs=spec.solver.epochs):
            case JobState.CANCELLED:
                recorder.finish(JobState.CANCELLED, reason="cancelled_by_user")
                return
            case JobState.QUEUED:
                recorder.give_back()
                return
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
        warnings=[*data.warnings, *([SEPARABLE] if last.separable else [])],
        model_id=model.id,
        resolved_spec=resolved,
    )


def fail(recorder: Recorder, code: str, detail: str, **values: Any) -> None:
    error = {"code": code, "detail": detail}
    recorder.finish(JobState.FAILED, reason=code, error=error, **values)
