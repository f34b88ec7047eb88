"""Newton's method for costs that are convex in z; see softmax_newton for softmax.

Each output has its own system, step length and end: outputs that have arrived are no longer
computed. The full step is tried first, and what the next step needs is computed in the same pass;
only where it does not lower f enough (Armijo 1966) is it halved.

Tall rows: the minimum on a sample of the rows is so near, and the matrix H there so like that of
all, that steps P - H^-1 slope with the slope of all rows arrive in a few passes without a matrix
(subsampled Newton: Byrd, Chin, Neveitt and Nocedal 2011). When such steps do not go well, the
matrix of all rows takes the place of H for good.
"""

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric import softmax_newton
from app.numeric.activations import Array
from app.numeric.cholesky import Factor, factorised, solved
from app.numeric.costs import COSTS
from app.numeric.errors import NumericError
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.output_blocks import (
    Curve,
    OutputBlocks,
    Standing,
    beginning,
    numbers_of,
    rounding_of,
)
from app.numeric.row_sample import sample_of
from app.numeric.rows import DataArray

# The share that a step must reach of the decrease that the slope promises; and of the decrease that
# the model promises where there is a safe curvature to turn to.
ARMIJO = 1e-4
TRUSTED = 0.5
HALVINGS_MAX = 60

# A matrix from s rows is within sqrt(q / s) of that of all rows, here 1/7: a step leaves a fiftieth
# of the excess. Solving a sample of 5 % takes about a third of a pass.
SAMPLE_SHARE = 0.05
SAMPLE_ROWS_PER_UNKNOWN = 50
# Of smaller tables (rows times unknowns) a pass takes less time than the calls it is made of.
SAMPLED_ENTRIES_MIN = 1 << 20
# The sample's minimum is further than that from the minimum of all rows.
SAMPLE_TOLERANCE = 1e-4
SAMPLE_STEPS_MAX = 25
# Steps that leave more than this share of the gain are slower than steps with all rows.
SLOW = 0.1

# Where a sampled run is: about to solve the sample, stepping with its matrix, or on all rows.
FROM_SAMPLE, SAMPLED, ALL_ROWS = 0.0, 1.0, 2.0


def _huber_safe_root(z: DataArray, y: DataArray) -> DataArray:
    """sqrt(min(1, 1 / |r|)): the parabola of that curvature that touches the cost lies above it.

    So a step to its minimum never raises the cost (reweighted least squares, Holland and Welsch
    1977).
    """
    root: DataArray = 1.0 / np.sqrt(np.maximum(np.abs(z - y), 1.0))
    return root


# Where the second derivative is 0 over half of the line, Newton steps may lead nowhere: these
# curvatures serve where one fails.
SAFE_CURVES: Mapping[tuple[str, str], Curve] = MappingProxyType(
    {("identity", "huber"): Curve(_huber_safe_root, rooted=True)}
)


def prepare(objective: Objective, settings: Settings) -> Run:
    """Starts at the mean target. One step is one Newton step of every output still on its way.

    Raises NumericError for a cost that is not convex with the activation.
    """
    if objective.activation not in COSTS[objective.cost].second_derivative:
        raise NumericError(
            f"Newton's method needs a convex cost, and {objective.cost} with activation "
            f"{objective.activation} is not; use levenberg_marquardt or lbfgs"
        )
    if not objective.sigma.elementwise:
        return softmax_newton.prepare(objective, settings)
    newton = Newton(objective, settings.tolerance)
    if is_tall(objective):
        sampled = SampledNewton(newton, settings.seed)
        return Run(sampled.state_at(objective.start()), sampled.step, learning_rate=None)
    return Run(newton.state_at(objective.start()), newton.step, learning_rate=None)


def is_tall(objective: Objective) -> bool:
    """Whether a sample of the rows gives a good matrix, and pays."""
    rows, unknowns = objective.rows, objective.rows.inputs + 1
    return (
        rows.in_memory
        and rows.total * unknowns >= SAMPLED_ENTRIES_MIN
        and SAMPLE_SHARE * rows.total >= SAMPLE_ROWS_PER_UNKNOWN * unknowns
    )


class _Steps(NamedTuple):
    """Full steps from one P: direction (m, q), and by how much the model sees f fall, (m,)."""

    direction: Array
    gain: Array


class Newton:
    """Steps with the matrices of all rows. The memory of a state is a Standing."""

    def __init__(self, objective: Objective, tolerance: float) -> None:
        pair = objective.activation, objective.cost
        self.objective = objective
        self.rounding = rounding_of(objective)
        self.tolerance = max(tolerance, self.rounding)
        self._resolution = float(np.finfo(objective.rows.dtype).eps)
        self._blocks = OutputBlocks(objective)
        self._curve = curve_of(*pair)
        self._safe_curve = SAFE_CURVES.get(pair)
        self._share = 2.0 * ARMIJO if self._safe_curve is None else TRUSTED

    def state_at(self, parameters: Array) -> State:
        """The state before the first step, from any P (m, n + 1)."""
        outputs = range(len(parameters))
        wanted = ((self._curve, outputs),)
        here = self._blocks.evaluate(parameters, np.ones(len(outputs)), wanted)
        progress = beginning(here.values)
        self._blocks.remember(parameters, progress.kept, here)
        return State(0, 0, parameters, float(here.values.sum()), False, progress)

    def values(self, parameters: Array) -> Array:
        """The part of each output in f, (m,)."""
        everything = np.ones(len(parameters))
        return self._blocks.evaluate(parameters, everything, slope=False).values

    def factors(self, parameters: Array) -> list[Factor | None]:
        """The factor of the second derivatives (q, q) of the part of each output in f."""
        outputs = range(len(parameters))
        wanted = ((self._curve, outputs),)
        here = self._blocks.evaluate(parameters, np.ones(len(outputs)), wanted)
        return [self._factorised(here.matrices[output]) for output in outputs]

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, state: State) -> State:
        """One Newton step of each output that goes on."""
        progress = Standing(*state.memory)
        active = progress.active(self.tolerance)
        steps = self._steps(state.parameters, progress.kept, self._curve, active)
        goes_on = active & (steps.gain > progress.threshold(self.tolerance))
        trial = state.parameters + steps.direction
        wanted = ((self._curve, numbers_of(goes_on & (steps.gain < np.inf))),)
        there = self._blocks.evaluate(trial, progress.kept, wanted, slope=bool(goes_on.any()))
        promised = np.where(goes_on, self._share * steps.gain, 0.0)
        lower = there.values <= progress.values - promised
        moved = active & lower
        parameters = np.where(moved[:, np.newaxis], trial, state.parameters)
        after = Standing(
            values=np.where(moved, there.values, progress.values),
            expected=np.where(active, np.where(moved, steps.gain, 0.0), progress.expected),
            kept=progress.kept,
        )
        failed = goes_on & ~lower
        if failed.any():
            self._shorten(state.parameters, steps, failed, parameters, after)
        thinned = after.thinned(self.tolerance)
        if goes_on.any() and not failed.any() and thinned.kept is progress.kept:
            self._blocks.remember(parameters, thinned.kept, there)
        converged = not thinned.active(self.tolerance).any()
        cost = float(thinned.values.sum())
        return State(state.epoch + 1, 0, parameters, cost, converged, thinned)

    def _steps(
        self, parameters: Array, kept: Array, curve: Curve, outputs: NDArray[np.bool_]
    ) -> _Steps:
        """The steps of some outputs; the others stand still.

        Where the second derivative says nothing about a column along which f falls, and there is a
        safe curvature, no step is given, and a gain that it cannot reach.
        """
        wanted = numbers_of(outputs)
        if curve is self._curve:
            here = self._blocks.at(parameters, kept, ((curve, wanted),))
        else:
            here = self._blocks.evaluate(parameters, kept, ((curve, wanted),))
        direction, gain = np.zeros_like(parameters), np.zeros(len(parameters))
        for output in wanted:
            matrix, slope = here.matrices[output], here.slope[output]
            if self._safe_curve is not None and slope[matrix.diagonal() == 0.0].any():
                gain[output] = np.inf
                continue
            factor = self._factorised(matrix)
            if factor is not None:
                direction[output] = -solved(factor, slope)
                gain[output] = -0.5 * float(slope @ direction[output])
        return _Steps(direction, gain)

    def _factorised(self, matrix: Array) -> Factor | None:
        return factorised(matrix, resolution=self._resolution)

    def _shorten(
        self,
        start: Array,
        steps: _Steps,
        failed: NDArray[np.bool_],
        parameters: Array,
        progress: Standing,
    ) -> None:
        """Puts a shorter step where the full one failed, in place; none where f is at its lowest.

        Where there is a safe curvature, its step comes first: it need not be short.
        """
        length = 0.5
        if self._safe_curve is not None:
            steps, length = self._steps(start, progress.kept, self._safe_curve, failed), 1.0
        before = progress.values.copy()
        hidden = progress.threshold(self.rounding)
        for _ in range(HALVINGS_MAX):
            trial = np.where(failed[:, np.newaxis], start + length * steps.direction, parameters)
            values = self._blocks.evaluate(trial, progress.kept, slope=False).values
            lower = failed & (values <= before - 2.0 * ARMIJO * length * steps.gain)
            parameters[lower] = trial[lower]
            progress.values[lower] = values[lower]
            progress.expected[lower] = steps.gain[lower]
            failed = failed & ~lower & (length * steps.gain > hidden)
            if not failed.any():
                return
            length *= 0.5


class SampledNewton:
    """Steps with the matrices of a sample of the rows, while they go well.

    The memory of a state is a Standing and, (1,), the phase that the run is in.
    """

    def __init__(self, newton: Newton, seed: int) -> None:
        self._newton = newton
        self._objective = newton.objective
        self._seed = seed
        self._last: tuple[Array, Array] | None = None

    def state_at(self, parameters: Array) -> State:
        """The state before the first step, from any P (m, n + 1)."""
        values = self._newton.values(parameters)
        memory = (*beginning(values), np.array([FROM_SAMPLE]))
        return State(0, 0, parameters, float(values.sum()), False, memory)

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, state: State) -> State:
        """To the minimum on the sample, or a step with its matrices, or one with all rows."""
        *memory, phase = state.memory
        progress = Standing(*memory)
        after = None
        if phase[0] == FROM_SAMPLE:
            after = self._to_sample_minimum(state)
        elif phase[0] == SAMPLED:
            after = self._sampled_step(state, progress)
        if after is None:
            after = self._newton.step(state._replace(memory=progress))
            return after._replace(memory=(*after.memory, np.array([ALL_ROWS])))
        return after._replace(epoch=state.epoch + 1, memory=(*after.memory, np.array([SAMPLED])))

    def _to_sample_minimum(self, state: State) -> State | None:
        """The state at the minimum on the sample, None if that is no gain on all rows."""
        solution = self._sample
        if solution is None:
            return None
        parameters = solution[0]
        values, slope = self._objective.values_and_slope(parameters)
        cost = float(values.sum())
        if not cost < state.cost:
            return None
        self._last = parameters, slope
        return State(0, 0, parameters, cost, False, beginning(values))

    def _sampled_step(self, state: State, progress: Standing) -> State | None:
        """The next state, None if the matrices of the sample do not lead there well."""
        solution = self._sample
        if solution is None:
            return None
        parameters, last = state.parameters, self._last
        if last is not None and last[0] is parameters:
            slope = last[1]
        else:
            slope = self._objective.values_and_slope(parameters)[1]
        direction = -np.stack(
            [solved(factor, row) for factor, row in zip(solution[1], slope, strict=True)]
        )
        gain = -0.5 * np.einsum("ij,ij->i", slope, direction)
        goes_on = gain > progress.threshold(self._newton.tolerance)
        if (goes_on & (gain > SLOW * progress.expected)).any():
            return None
        there = parameters + direction
        if goes_on.any():
            values, slope = self._objective.values_and_slope(there)
            self._last = there, slope
        else:
            values = self._newton.values(there)
        lower = values <= progress.values - np.where(goes_on, 2.0 * ARMIJO * gain, 0.0)
        if (goes_on & ~lower).any():
            return None
        if not lower.all():
            there = np.where(lower[:, np.newaxis], there, parameters)
            values = np.where(lower, values, progress.values)
        after = Standing(values, gain, progress.kept)
        return State(0, 0, there, float(values.sum()), not goes_on.any(), after)

    @cached_property
    def _sample(self) -> tuple[Array, list[Factor]] | None:
        """P at the minimum on the sample and the factors there; None if they would not do.

        A matrix that is singular on the sample would be blind to the columns that make it so.
        """
        whole = self._newton.objective
        rows = sample_of(whole.rows, SAMPLE_SHARE, self._seed)
        if rows is None:
            return None
        newton = Newton(
            Objective(whole.activation, whole.cost, rows, l2=whole.l2), SAMPLE_TOLERANCE
        )
        state = newton.state_at(newton.objective.start())
        while not state.converged and state.epoch < SAMPLE_STEPS_MAX:
            state = newton.step(state)
        factors = [
            factor
            for factor in newton.factors(state.parameters)
            if factor is not None and not factor.jitter
        ]
        complete = state.converged and len(factors) == len(state.parameters)
        return (state.parameters, factors) if complete else None


def curve_of(activation: str, cost: str) -> Curve:
    """d2C/dz2 of a cost that is convex with an activation of each output alone."""
    second_derivative = COSTS[cost].second_derivative[activation]
    if second_derivative is None:
        raise NumericError(f"the outputs of {activation} depend on each other")

    def root(z: DataArray, y: DataArray) -> DataArray:
        curvature = second_derivative(z, y)
        return np.sqrt(curvature, out=curvature)

    return Curve(root, rooted=True)
