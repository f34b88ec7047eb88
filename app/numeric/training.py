"""Training: one generator owns stepping, finiteness and stopping; a solver makes the next state."""

import math
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.errors import NumericError, OutOfRange, ShapeError
from app.numeric.layer import Layer
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.rows import Rows
from app.numeric.solvers import SOLVERS, Problem, unsuitable

# Momentum swings: a single epoch may stand still on a turning point, this many in a row do not.
QUIET_EPOCHS = 5
# Of separable classes the cost falls for ever: below this, nothing that is learned still changes.
SEPARABLE_COST = 1e-6


class StopReason(StrEnum):
    """Why training ended. USER is for callers that stop pulling: `train` never gives it."""

    CONVERGED = "converged"
    EPOCH_LIMIT = "epoch_limit"
    TIME_LIMIT = "time_limit"
    EARLY_STOPPING = "early_stopping"
    SEPARABLE = "separable"
    DIVERGED = "diverged"
    USER = "user"


# Where the training cost has no minimum, or is past what validates, the best layer by validation.
KEEPS_BEST = (StopReason.EARLY_STOPPING, StopReason.SEPARABLE)


class TrainingPlan(NamedTuple):
    """What to train and when to stop.

    `settings.tolerance` is for solvers that know when they have arrived. The others, of first
    order, have converged when over the last 5 epochs the cost on all training rows stayed within
    5 * tolerance of itself, relatively; so one noisy or turning epoch does not end the run.
    `patience`: epochs without a validation cost lower by more than `min_delta` than the best; None
    is no early stopping. `max_seconds` is looked at between steps.
    """

    activation: str
    cost: str
    solver: str
    settings: Settings = Settings()
    l2: float = 0.0
    l1: float = 0.0
    non_negative: bool = False
    patience: int | None = None
    min_delta: float = 0.0
    max_seconds: float = math.inf


class TrainingData(NamedTuple):
    """The training rows, and validation rows of the same widths if there are any."""

    rows: Rows
    validation: Rows | None = None


class Record(NamedTuple):
    """What stopping remembers of earlier epochs."""

    first_cost: float
    recent_costs: tuple[float, ...]
    best_cost: float
    best_epoch: int
    best_parameters: Array
    parameters_before: Array


class Checkpoint(NamedTuple):
    """All that the next step reads, and the seconds that training has taken until here."""

    state: State
    record: Record
    seconds: float


class Progress(NamedTuple):
    """Where training is after `epoch` epochs; 0 is the start.

    `batch` counts the batches of an epoch that is not over; cost, validation cost and step norm are
    then those of the epoch before. `cost` is the objective on the training rows, `validation_cost`
    the mean of C alone on the others (nan without any), `step_norm` the Euclidean length of the
    change of (w, b) in this epoch. Only the last one has a `stop_reason`; its `layer` is the one to
    keep: the best by validation cost on EARLY_STOPPING and, with a patience, on SEPARABLE; the one
    before on DIVERGED; else that of this epoch. The numbers beside it are always those of this
    epoch.
    `separable`: the classes can be told apart without a mistake, so that without a penalty there is
    no minimum, only ever larger weights.
    """

    epoch: int
    batch: int
    layer: Layer
    cost: float
    validation_cost: float
    step_norm: float
    stop_reason: StopReason | None
    separable: bool
    learning_rate: float | None
    checkpoint: Checkpoint


def train(
    data: TrainingData,
    plan: TrainingPlan,
    *,
    resume: Checkpoint | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """One Progress per step, the start included; the caller may stop pulling at any time.

    With `resume`, goes on behind that checkpoint, and gives the same bits as if it had never
    stopped: same data, plan, libraries and number of threads provided.
    Raises, before the first step: NumericError for a plan that does not fit together, ShapeError
    for rows that do not, OutOfRange for a target that the cost does not allow. Inputs that are not
    finite raise NumericError where they are met, at the first step at the latest.
    """
    _check(data, plan)
    objective = Objective(
        plan.activation,
        plan.cost,
        data.rows,
        l2=plan.l2,
        l1=plan.l1,
        non_negative=plan.non_negative,
    )
    started = clock()
    run = SOLVERS[plan.solver].prepare(objective, plan.settings)
    if not (math.isfinite(run.start.cost) and math.isfinite(run.learning_rate or 0.0)):
        _check_finite(data)
    before = 0.0 if resume is None else resume.seconds
    return _steps(data, plan, run, resume, lambda: before + clock() - started)


def standing(plan: TrainingPlan, checkpoint: Checkpoint) -> Progress:
    """Where a training stood at a checkpoint, as the last step of one that its user has ended."""
    state, record, _ = checkpoint
    parameters = state.parameters
    return Progress(
        epoch=state.epoch,
        batch=state.batch,
        layer=Layer(parameters[:, :-1], parameters[:, -1], plan.activation),
        cost=state.cost,
        validation_cost=math.nan,
        step_norm=_distance(record.parameters_before, parameters),
        stop_reason=StopReason.USER,
        separable=False,
        learning_rate=None,
        checkpoint=checkpoint,
    )


def _steps(
    data: TrainingData,
    plan: TrainingPlan,
    run: Run,
    resume: Checkpoint | None,
    seconds: Callable[[], float],
) -> Iterator[Progress]:
    validation = _validation_objective(data, plan)
    labels_bound = _labels_bound(data, plan)
    if resume is None:
        state = run.start
        record = Record(state.cost, (), math.inf, 0, state.parameters, state.parameters)
    else:
        state, record = run.step(resume.state), resume.record
    validation_cost = math.nan
    while True:
        step_norm = _distance(record.parameters_before, state.parameters)
        reason = None
        kept = state.parameters
        if not state.batch:
            validation_cost = validation.value(state.parameters) if validation else math.nan
            before = record.parameters_before
            record = _updated(record, state, validation_cost, plan.min_delta)
            separable = state.cost < labels_bound
            reason = _stop_reason(plan, state, record, separable=separable)
            if reason in KEEPS_BEST and plan.patience is not None and record.best_epoch:
                kept = record.best_parameters
            elif reason is StopReason.DIVERGED:
                _check_finite(data)
                kept = before
        now = seconds()
        if reason is None and now >= plan.max_seconds:
            reason = StopReason.TIME_LIMIT
        yield Progress(
            epoch=state.epoch,
            batch=state.batch,
            layer=Layer(kept[:, :-1], kept[:, -1], plan.activation),
            cost=state.cost,
            validation_cost=validation_cost,
            step_norm=step_norm,
            stop_reason=reason,
            separable=state.cost < labels_bound,
            learning_rate=run.learning_rate,
            checkpoint=Checkpoint(state, record, now),
        )
        if reason is not None:
            return
        state = run.step(state)


def _validation_objective(data: TrainingData, plan: TrainingPlan) -> Objective | None:
    if data.validation is None or not data.validation.total:
        return None
    return Objective(plan.activation, plan.cost, data.validation)


def _labels_bound(data: TrainingData, plan: TrainingPlan) -> float:
    """A mean cost below this proves that labels are told apart without a mistake; else -inf.

    C of a row on the wrong side is at least log 2, so the mean is at least log 2 / N. Such a layer
    times any large number is better still: there is no minimum. A penalty gives one back.
    """
    rows = data.rows
    if plan.cost != "cross_entropy" or plan.l2 or plan.l1 or not rows.in_memory:
        return -math.inf
    least_weight = math.inf
    for block in rows.blocks():
        if not ((block.y == 0) | (block.y == 1)).all():
            return -math.inf
        if block.weight is not None:
            least_weight = min(least_weight, float(block.weight.min()))
    return math.log(2.0) * min(least_weight, 1.0) / rows.total


def _updated(record: Record, state: State, validation_cost: float, min_delta: float) -> Record:
    recent = (*record.recent_costs, state.cost)[-(QUIET_EPOCHS + 1) :]
    record = record._replace(recent_costs=recent, parameters_before=state.parameters)
    if validation_cost < record.best_cost - min_delta:
        return record._replace(
            best_cost=validation_cost, best_epoch=state.epoch, best_parameters=state.parameters
        )
    return record


def _stop_reason(
    plan: TrainingPlan, state: State, record: Record, *, separable: bool
) -> StopReason | None:
    if not (math.isfinite(state.cost) and np.isfinite(state.parameters).all()):
        return StopReason.DIVERGED
    if separable and state.cost <= SEPARABLE_COST:
        return StopReason.SEPARABLE
    first_order = SOLVERS[plan.solver].first_order
    if state.converged or (first_order and _is_quiet(record, plan.settings.tolerance)):
        return StopReason.CONVERGED
    if _is_impatient(plan.patience, state.epoch, record):
        # Validation that never improved while the cost rose is not learning too much: it is a
        # rate too large, which would only take longer to leave the finite numbers.
        grew = not record.best_epoch and state.cost > record.first_cost
        return StopReason.DIVERGED if grew else StopReason.EARLY_STOPPING
    return StopReason.EPOCH_LIMIT if state.epoch >= plan.settings.epochs else None


def _is_quiet(record: Record, tolerance: float) -> bool:
    costs = record.recent_costs
    if len(costs) <= QUIET_EPOCHS:
        return False
    return max(costs) - min(costs) <= QUIET_EPOCHS * tolerance * abs(costs[-1])


def _is_impatient(patience: int | None, epoch: int, record: Record) -> bool:
    if patience is None or not math.isfinite(record.best_cost):
        return False
    return epoch - record.best_epoch >= max(patience, 1)


@np.errstate(over="ignore", invalid="ignore")
def _distance(before: Array, after: Array) -> float:
    change = (after - before).ravel()
    return math.sqrt(float(change @ change))


def problem_of(data: TrainingData, plan: TrainingPlan) -> Problem:
    """The problem as the table of solvers judges it; what is at its default was not asked for."""
    defaults, given = Settings(), plan.settings
    options = {
        name
        for name in ("learning_rate", "batch_size", "momentum", "schedule", "clip_norm")
        if getattr(given, name) != getattr(defaults, name)
    }
    return Problem(
        plan.activation,
        plan.cost,
        rows=data.rows.total,
        inputs=data.rows.inputs,
        outputs=data.rows.outputs,
        in_memory=data.rows.in_memory,
        sparse_penalty=bool(plan.l1) or plan.non_negative,
        options=frozenset(options),
    )


def _check(data: TrainingData, plan: TrainingPlan) -> None:
    complaint = unsuitable(plan.solver, problem_of(data, plan))
    if complaint is not None:
        raise NumericError(complaint)
    rows, validation = data.rows, data.validation
    if not (rows.total and rows.outputs):
        raise ShapeError("training needs at least one row and one target")
    if validation is not None and (validation.inputs, validation.outputs) != (
        rows.inputs,
        rows.outputs,
    ):
        raise ShapeError(
            f"validation rows must be as wide as training rows: {validation.inputs} inputs and "
            f"{validation.outputs} outputs, not {rows.inputs} and {rows.outputs}"
        )
    # Streamed rows were looked through when they were stored: another pass is not free.
    for part in (rows, validation):
        if part is not None and part.in_memory:
            for block in part.blocks():
                _check_targets(block.y.T, plan)


def _check_targets(y: Array, plan: TrainingPlan) -> None:
    """Raises OutOfRange, or NumericError for classes that do not sum to 1. y (k, m)."""
    if not y.size:
        return
    allowed = COSTS[plan.cost].target_range(ACTIVATIONS[plan.activation])
    if not (allowed.contains(y.min()) and allowed.contains(y.max())):
        row, output = np.argwhere(~allowed.contains(y))[0]
        raise OutOfRange(int(output), float(y[row, output]), allowed.low, allowed.high)
    if plan.cost == "cross_entropy" and plan.activation == "softmax":
        total = y.sum(axis=1)
        if np.abs(total - 1.0).max() > 1e-5:
            wrong = float(total[np.abs(total - 1.0).argmax()])
            raise NumericError(
                f"with softmax and cross_entropy the targets of a row must sum to 1, not {wrong:g}"
            )


def _check_finite(data: TrainingData) -> None:
    """Tells a table that cannot be trained on from a training that went wrong."""
    for block in data.rows.blocks() if data.rows.in_memory else ():
        if not np.isfinite(block.x).all():
            raise NumericError("inputs must be finite")
