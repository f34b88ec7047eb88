"""Limited-memory BFGS in coordinates where the curvature is about 1 in every direction.

The coordinates (see preconditioner) come from a bound of the curvature first, so that a step
without history can be trusted, and again and again, ever less often, from the curvature at the
place that has been reached: a pass or so that saves many.

Source: Nocedal 1980. The history is applied in compact form (Byrd, Nocedal and Schnabel 1994,
theorem 2.2): a handful of products for a step, however long the history is.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import blas

from app.numeric import preconditioner
from app.numeric.activations import Array
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.preconditioner import Coordinates, Uniform

PAIRS_MAX = 10
# The history goes into every checkpoint.
HISTORY_BYTES = 32 << 20
# Local coordinates after so many steps, after twice as many, four times and so on: the work they
# take stays a share of the work that it follows.
FIRST_RENEWAL = 12
# Where f is about to fall by less than so many times the tolerance, new coordinates come too late.
RENEWAL_TOLERANCES = 100.0
# The decrease of f, as a share of the rounding unit of the rows, that sums over many rows show.
ROUNDING_SHARE = 0.25
EPSILON = float(np.finfo(np.float64).eps)

# Weak Wolfe conditions: f falls by this share of what its slope promises, and the slope along the
# way to this share of itself (Nocedal and Wright 2006, 3.1).
SUFFICIENT = 1e-4
FLATTER = 0.9
# Rounding may hide a sufficient decrease where f changes by less than this share of itself; the
# slope along the way tells then (Hager and Zhang 2005, eq. 4.1).
NEAR_SHARE = 1e-6
# Where exp made f huge, the first trial may lie 30 orders of magnitude too far out.
TRIALS_MAX = 60


class Trial(NamedTuple):
    """A point of a line: how far, f, the slope along the line, and the slope (m, n + 1)."""

    at: float
    cost: float
    along: float
    slope: Array


class Memory(NamedTuple):
    """What a state remembers, in the coordinates made at `reference`.

    `pull` and `direction`, flat: the slope at P, and where to go next. `history` (2, k, m (n + 1)):
    steps and changes of the pull, oldest first, each pair scaled so that their product is 1.
    `reference`: P (m, n + 1) of the local coordinates; (0, n + 1) while they are those of the
    bound.
    """

    pull: Array
    direction: Array
    history: Array
    reference: Array

    @property
    def gain(self) -> float:
        """By how much the quadratic model sees f fall on the way."""
        return -0.5 * float(self.pull.dot(self.direction))


def prepare(objective: Objective, settings: Settings) -> Run:
    """Starts at the mean target. l1 and the limit w >= 0 are for proximal_newton."""
    method = Lbfgs(objective, settings.tolerance)
    return Run(method.state_at(objective.start()), method.step, learning_rate=None)


class Lbfgs:
    """Steps of one objective. The memory of a state is a Memory."""

    def __init__(self, objective: Objective, tolerance: float) -> None:
        self._objective = objective
        self._rounding = ROUNDING_SHARE * float(np.finfo(objective.rows.dtype).eps)
        self._tolerance = max(tolerance, self._rounding)
        size = math.prod(objective.shape)
        self._pairs_max = min(PAIRS_MAX, max(2, HISTORY_BYTES // (16 * size)))
        self._basis = preconditioner.basis_of(objective)
        self._bounded = preconditioner.bounded(objective, self._basis)
        self._local: tuple[Array, Coordinates | None] = (np.empty(0), None)

    @np.errstate(over="ignore", invalid="ignore")
    def state_at(self, parameters: Array) -> State:
        """The state before the first step, from any P (m, n + 1)."""
        cost, slope = self._objective.value_and_slope(parameters)
        pull = self._bounded.pull(slope)
        reference = np.empty((0, parameters.shape[1]))
        memory = Memory(pull, -pull, np.empty((2, 0, pull.size)), reference)
        return State(0, 0, parameters, cost, False, memory)

    @np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore")
    def step(self, state: State) -> State:
        """One step that lowers f; the same P, converged, if nothing lower is found."""
        memory = Memory(*state.memory)
        epoch = state.epoch + 1
        if not math.isfinite(state.cost + float(memory.pull.dot(memory.direction))):
            return state._replace(epoch=epoch, cost=math.nan)
        coordinates = self._coordinates_of(memory.reference)
        found = self._search(state, memory, coordinates)
        if found is None and memory.history.size:
            memory = _forgetful(memory)
            found = self._search(state, memory, coordinates)
        if found is None:
            return state._replace(epoch=epoch, converged=True)
        parameters, trial = found
        memory = self._next(memory, trial, coordinates.pull(trial.slope))
        gain = memory.gain
        least = self._tolerance * abs(trial.cost)
        converged = gain <= least and state.cost - trial.cost <= least
        if (
            _is_due(epoch)
            and isinstance(coordinates, Coordinates)
            and gain > RENEWAL_TOLERANCES * least
        ):
            memory = self._renewed(memory, parameters, trial.slope, coordinates)
        return State(epoch, 0, parameters, trial.cost, converged, memory)

    def _search(
        self, state: State, memory: Memory, coordinates: Coordinates | Uniform
    ) -> tuple[Array, Trial] | None:
        """A lower P on the way that the direction leads, and what was found there."""
        way = coordinates.way(memory.direction.reshape(self._objective.shape))
        start, value_and_slope = state.parameters, self._objective.value_and_slope

        def at(distance: float) -> Trial:
            cost, slope = value_and_slope(start + distance * way)
            return Trial(distance, cost, float(np.vdot(slope, way)), slope)

        along = float(memory.pull.dot(memory.direction))
        trial = line_search(at, state.cost, along, hidden=self._rounding * abs(state.cost))
        return None if trial is None else (start + trial.at * way, trial)

    def _next(self, memory: Memory, trial: Trial, pull: Array) -> Memory:
        """What to remember at the point found."""
        step, change = trial.at * memory.direction, pull - memory.pull
        history = remembered(memory.history, step, change, self._pairs_max)
        direction = -applied(history, pull) if history.size else -pull
        following = Memory(pull, direction, history, memory.reference)
        return following if following.gain > 0.0 else _forgetful(following)

    def _renewed(self, memory: Memory, parameters: Array, slope: Array, old: Coordinates) -> Memory:
        """The same in local coordinates made at P, if there are any."""
        new = self._local_at(parameters)
        if new is None:
            return memory
        pull = new.pull(slope)
        history = np.stack(old.moved(memory.history[0], memory.history[1], new))
        direction = -applied(history, pull) if history.size else -pull
        following = Memory(pull, direction, history, parameters)
        return following if following.gain > 0.0 else _forgetful(following)

    def _coordinates_of(self, reference: Array) -> Coordinates | Uniform:
        """The coordinates made at a reference."""
        return (self._local_at(reference) if len(reference) else None) or self._bounded

    def _local_at(self, reference: Array) -> Coordinates | None:
        """Local coordinates: those made last are kept, others are made anew, with the same bits."""
        if reference is not self._local[0] and not np.array_equal(reference, self._local[0]):
            self._local = reference, preconditioner.local(self._basis, reference)
        return self._local[1]


def _forgetful(memory: Memory) -> Memory:
    """Without history, in the direction of steepest descent."""
    return memory._replace(direction=-memory.pull, history=memory.history[:, :0])


def _is_due(epoch: int) -> bool:
    """Whether the epoch is FIRST_RENEWAL times a power of 2."""
    times, rest = divmod(epoch, FIRST_RENEWAL)
    return not rest and times & (times - 1) == 0


def line_search(
    at: Callable[[float], Trial], cost: float, along: float, *, hidden: float = 0.0
) -> Trial | None:
    """A point that meets the weak Wolfe conditions, or the best found; None if nothing is lower.

    `cost` and `along` are f and its slope at 0, `hidden` a decrease of f too small to be looked
    for. The first trial is at 1, where quasi-Newton methods want it.
    """
    low, high = Trial(0.0, cost, along, np.empty(0)), None
    distance = 1.0
    for _ in range(TRIALS_MAX):
        trial = at(distance)
        if not falls_enough(trial, cost, along):
            high = trial
            if -distance * along <= hidden:
                break
        elif trial.along < FLATTER * along:
            low = trial
        else:
            return trial
        distance = 4.0 * distance if high is None else _between(low, high)
    return low if low.at else None


def falls_enough(trial: Trial, cost: float, along: float) -> bool:
    """Whether a trial is lower than `cost`, by enough as far as rounding lets that be seen."""
    if not trial.cost < cost:
        return False
    if trial.cost <= cost + SUFFICIENT * trial.at * along:
        return True
    near = trial.cost >= cost - NEAR_SHARE * abs(cost)
    return near and trial.along <= (2.0 * SUFFICIENT - 1.0) * along


def _between(low: Trial, high: Trial) -> float:
    """Where the cubic through both ends is lowest, kept inside (Nocedal and Wright, eq. 3.59)."""
    width = high.at - low.at
    share = 0.1
    if math.isfinite(high.cost + high.along):
        middle = low.along + high.along - 3.0 * (high.cost - low.cost) / width
        root = math.sqrt(max(middle * middle - low.along * high.along, 0.0))
        bottom = high.along - low.along + 2.0 * root
        share = 1.0 - (high.along + root - middle) / bottom if bottom > 0.0 else 0.5
    if not math.isfinite(share):
        # Squares of slopes overflow before the slopes do.
        share = 0.1
    return low.at + min(max(share, 0.1), 0.9) * width


def remembered(history: Array, step: Array, change: Array, pairs_max: int) -> Array:
    """The history (2, k, p) with one pair more; the oldest leaves when there are too many.

    A pair without positive curvature is left out.
    """
    curvature = float(step.dot(change))
    if not EPSILON * float(change.dot(change)) < curvature < math.inf:
        return history
    kept = history[:, max(history.shape[1] - pairs_max + 1, 0) :]
    longer = np.empty((2, kept.shape[1] + 1, len(step)))
    longer[:, :-1] = kept
    scale = 1.0 / math.sqrt(curvature)
    np.multiply(step, scale, out=longer[0, -1])
    np.multiply(change, scale, out=longer[1, -1])
    return longer


def applied(history: Array, pull: Array) -> Array:
    """The inverse Hessian H that a history (2, k, p) stands for, times a vector g (p,).

    With S the steps, Y the changes, R the upper triangle of S Y^T (its diagonal is 1) and r =
    1 / |y|^2 of the newest pair:

        a = R^-1 S g        b = R^-T (a + r Y (Y^T a - g))        H g = r g + S^T b - r Y^T a
    """
    count = history.shape[1]
    both = history.reshape(2 * count, -1)
    products = history[1].dot(both.T)
    projections = both.dot(pull)
    ratio = 1.0 / float(products[-1, -1])
    triangle = products[:, :count].T
    coefficients = np.empty(2 * count)
    first = blas.dtrsv(triangle, projections[:count])
    second = products[:, count:].dot(first)
    second -= projections[count:]
    second *= ratio
    second += first
    coefficients[:count] = blas.dtrsv(triangle, second, trans=1)
    np.multiply(first, -ratio, out=coefficients[count:])
    result: Array = coefficients.dot(both)
    result += ratio * pull
    return result
