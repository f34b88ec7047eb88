"""Training: one generator owns epochs, finiteness and stopping; a solver makes the next state."""

import math
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.errors import NumericError, OutOfRange, ShapeError
from app.numeric.layer import Layer, mean_cost
from app.numeric.method import Settings, State
from app.numeric.objective import Objective
from app.numeric.solvers import SOLVERS, unsuitable

# Momentum swings: a single epoch may stand still on a turning point, this many in a row do not.
QUIET_EPOCHS = 5


class StopReason(StrEnum):
    """Why training ended. USER is for callers that stop pulling: `train` never gives it."""

    CONVERGED = "converged"
    EPOCH_LIMIT = "epoch_limit"
    TIME_LIMIT = "time_limit"
    EARLY_STOPPING = "early_stopping"
    DIVERGED = "diverged"
    USER = "user"


class TrainingPlan(NamedTuple):
    """What to train and when to stop.

    `learning_rate` None is automatic, `batch_size` None is all rows, `patience` None is no early
    stopping.
    `tolerance`: converged when, over the last 5 epochs, the cost on all training rows stayed within
    5 * tolerance of itself, relatively; so one noisy or turning epoch does not end the run, for
    mini-batches neither.
    `patience`: epochs without a validation cost lower by more than `min_delta` than the best.
    `max_seconds` is looked at between epochs.
    """

    activation: str
    cost: str
    solver: str
    learning_rate: float | None
    batch_size: int | None
    momentum: float
    epochs: int
    tolerance: float
    l2: float
    patience: int | None
    min_delta: float
    max_seconds: float
    seed: int


class TrainingData(NamedTuple):
    """x (N, n), y (N, m), and validation rows of the same widths; of those there may be none."""

    x: Array
    y: Array
    x_validation: Array
    y_validation: Array


class Progress(NamedTuple):
    """Where training is after `epoch` epochs; 0 is the start.

    `cost` is the mean over training rows of C plus l2/2 |w|^2, `validation_cost` the mean of C
    alone (nan without rows), `step_norm` the Euclidean length of the change of (w, b) in this
    epoch. Only the last one has a `stop_reason`; its `layer` is the one to keep: the best by
    validation cost on EARLY_STOPPING, the one before on DIVERGED, else that of this epoch. The
    numbers beside it are always those of this epoch.
    """

    epoch: int
    layer: Layer
    cost: float
    validation_cost: float
    step_norm: float
    stop_reason: StopReason | None
    learning_rate: float | None


class _Record(NamedTuple):
    """What stopping remembers of earlier epochs."""

    first_cost: float
    recent_costs: tuple[float, ...]
    best_cost: float
    best_epoch: int
    best_layer: Layer


def train(
    data: TrainingData, plan: TrainingPlan, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """One Progress per epoch, the start included; the caller may stop pulling at any time.

    Raises, before the first epoch: NumericError for a plan that does not fit together or inputs
    that are not finite, ShapeError for arrays that do not, OutOfRange for a target that the cost
    does not allow.
    """
    _check(data, plan)
    return _epochs(data, plan, clock)


def _epochs(
    data: TrainingData, plan: TrainingPlan, clock: Callable[[], float]
) -> Iterator[Progress]:
    ends_at = clock() + plan.max_seconds
    objective = Objective(plan.activation, plan.cost, data.x, data.y, plan.l2)
    settings = Settings(plan.learning_rate, plan.batch_size, plan.momentum, plan.seed)
    run = SOLVERS[plan.solver].prepare(objective, settings)
    state, before = run.start, run.start.layer
    record = _Record(run.start.cost, (), math.inf, 0, before)
    while True:
        validation_cost = mean_cost(state.layer, plan.cost, data.x_validation, data.y_validation)
        record = _updated(record, state, validation_cost, plan.min_delta)
        reason = _stop_reason(plan, state, record, late=clock() >= ends_at)
        yield Progress(
            epoch=state.epoch,
            layer=_layer_to_keep(reason, state, before, record),
            cost=state.cost,
            validation_cost=validation_cost,
            step_norm=_distance(before, state.layer),
            stop_reason=reason,
            learning_rate=run.learning_rate,
        )
        if reason is not None:
            return
        before = state.layer
        state = run.epoch(state)


def _updated(record: _Record, state: State, validation_cost: float, min_delta: float) -> _Record:
    recent = (*record.recent_costs, state.cost)[-(QUIET_EPOCHS + 1) :]
    if validation_cost < record.best_cost - min_delta:
        return _Record(record.first_cost, recent, validation_cost, state.epoch, state.layer)
    return record._replace(recent_costs=recent)


def _stop_reason(
    plan: TrainingPlan, state: State, record: _Record, *, late: bool
) -> StopReason | None:
    if not _is_finite(state):
        return StopReason.DIVERGED
    if state.epoch and (SOLVERS[plan.solver].direct or _is_quiet(record, plan.tolerance)):
        return StopReason.CONVERGED
    if _is_impatient(plan.patience, state.epoch, record):
        # Validation that never improved while the cost rose is not learning too much: it is a
        # rate too large, which would only take longer to leave the finite numbers.
        grew = not record.best_epoch and state.cost > record.first_cost
        return StopReason.DIVERGED if grew else StopReason.EARLY_STOPPING
    if state.epoch >= plan.epochs:
        return StopReason.EPOCH_LIMIT
    return StopReason.TIME_LIMIT if late else None


def _is_finite(state: State) -> bool:
    layer = state.layer
    return bool(
        math.isfinite(state.cost) and np.isfinite(layer.w).all() and np.isfinite(layer.b).all()
    )


def _is_quiet(record: _Record, tolerance: float) -> bool:
    costs = record.recent_costs
    if len(costs) <= QUIET_EPOCHS:
        return False
    return max(costs) - min(costs) <= QUIET_EPOCHS * tolerance * abs(costs[-1])


def _is_impatient(patience: int | None, epoch: int, record: _Record) -> bool:
    if patience is None or not math.isfinite(record.best_cost):
        return False
    return epoch - record.best_epoch >= max(patience, 1)


def _layer_to_keep(
    reason: StopReason | None, state: State, before: Layer, record: _Record
) -> Layer:
    if reason is StopReason.EARLY_STOPPING:
        return record.best_layer
    if reason is StopReason.DIVERGED:
        return before
    return state.layer


@np.errstate(over="ignore", invalid="ignore")
def _distance(before: Layer, after: Layer) -> float:
    return math.hypot(
        float(np.linalg.norm(after.w - before.w)), float(np.linalg.norm(after.b - before.b))
    )


def _check(data: TrainingData, plan: TrainingPlan) -> None:
    complaint = unsuitable(plan.solver, plan.activation, plan.cost)
    if complaint is not None:
        raise NumericError(complaint)
    for x, y in ((data.x, data.y), (data.x_validation, data.y_validation)):
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
            raise ShapeError(
                f"x and y must be (rows, columns) of the same rows: {x.shape}, {y.shape}"
            )
        if x.shape[1] != data.x.shape[1] or y.shape[1] != data.y.shape[1]:
            raise ShapeError(
                f"validation rows must be as wide as training rows: {x.shape}, {y.shape}"
            )
        if not np.isfinite(x).all():
            raise NumericError("inputs must be finite")
        _check_targets(y, plan)
    if not data.y.size:
        raise ShapeError("training needs at least one row and one target")


def _check_targets(y: Array, plan: TrainingPlan) -> None:
    allowed = COSTS[plan.cost].target_range(ACTIVATIONS[plan.activation])
    wrong = np.argwhere(~allowed.contains(y))
    if len(wrong):
        row, output = wrong[0]
        raise OutOfRange(int(output), float(y[row, output]), allowed.low, allowed.high)
