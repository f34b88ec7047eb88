"""Levenberg-Marquardt for the half squared error of an elementwise sigma, each output on its own.

    (H + mu D) d = -slope
    H = sum over rows of weight (sigma'^2 + max(sigma'' r, 0)) x x^T / N + l2 (not for b)

H is the Gauss-Newton matrix with that part of what it leaves out, sigma'' r, that is convex: where
labels 0 and 1 are fitted by a sigmoid, r = y_hat - y is small against y_hat nowhere in the tail,
and Gauss-Newton sees half of the curvature and goes twice too far. D is the diagonal of H
(Marquardt 1963), so that the units of the inputs do not matter. mu and nu follow the gain ratio,
the decrease of f over that of the model, by the rule of Nielsen 1999 (Madsen, Nielsen and Tingleff
2004, algorithm 3.16).
A step tries one d for every output that goes on; an output whose f does not fall keeps its row of P
and raises its mu. So f never rises, and outputs that start where sigma is flat for most rows come
free as a rule. With an activation that has kinks H is that of the side that each row is on.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.cholesky import factorised, solved
from app.numeric.errors import NumericError
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.output_blocks import (
    Evaluation,
    OutputBlocks,
    Progress,
    Root,
    beginning,
    numbers_of,
    rounding_of,
)
from app.numeric.rows import DataArray

DAMPING_START = 1e-3
DAMPING_MIN, DAMPING_MAX = 1e-15, 1e20
GROWTH_START = 2.0
# Nielsen takes 3; what is badly conditioned arrives in fewer steps with 5, the rest in as many.
EASING_MAX = 5.0

# sigma'' from y_hat = sigma(z) and sigma'; 0 for those that are not named.
SECOND_DERIVATIVES: Mapping[str, Callable[[DataArray, DataArray], DataArray]] = MappingProxyType(
    {
        "sigmoid": lambda y_hat, slope: slope * (1.0 - 2.0 * y_hat),
        "tanh": lambda y_hat, slope: -2.0 * slope * y_hat,
        "softplus": lambda _, slope: slope * (1.0 - slope),
        "elu": lambda y_hat, slope: np.where(y_hat < 0.0, slope, 0.0),
        "exp": lambda _, slope: slope,
    }
)


def prepare(objective: Objective, settings: Settings) -> Run:
    """Starts at the mean target. One step is one round of trials, one for every output on its way.

    Raises NumericError for another cost, or an activation that ties the outputs together.
    """
    method = LevenbergMarquardt(objective, settings.tolerance)
    return Run(method.start, method.step, learning_rate=None)


class Memory(NamedTuple):
    """A Progress, and of each output, (m,): mu, and nu, by which mu grows at the next failure."""

    values: Array
    expected: Array
    kept: Array
    damping: Array
    growth: Array

    @property
    def progress(self) -> Progress:
        return Progress(self.values, self.expected, self.kept)


class _Trial(NamedTuple):
    """direction (m, q); the decrease of f that the damped model sees, and the one left at all."""

    direction: Array
    gain: Array
    left: Array


class LevenbergMarquardt:
    """Steps of one objective, from `start` or any `state_at`. The memory of a state is a Memory."""

    @np.errstate(over="ignore", invalid="ignore")
    def __init__(self, objective: Objective, tolerance: float) -> None:
        if objective.cost != "half_squared_error" or not objective.sigma.elementwise:
            raise NumericError(
                "Levenberg-Marquardt needs cost half_squared_error and an activation of each "
                f"output alone, not {objective.cost} with {objective.activation}; use lbfgs"
            )
        self._rounding = rounding_of(objective)
        self._tolerance = max(tolerance, self._rounding)
        self._resolution = float(np.finfo(objective.rows.dtype).eps)
        self._blocks = OutputBlocks(objective)
        self._root = root_of(objective.activation)
        parameters = objective.start()
        self.start = self.state_at(parameters)
        # The square of the rounding of the targets: what is left of a fit through every one.
        squares = 2.0 * self.start.memory[0] + np.square(objective.sigma.forward(parameters[:, -1]))
        self._rounding_floor = self._rounding**2 * squares

    def state_at(self, parameters: Array) -> State:
        """The state before the first step, from any P (m, n + 1)."""
        outputs = len(parameters)
        here = self._blocks.evaluate(parameters, np.ones(outputs), self._root, range(outputs))
        progress = beginning(here.values)
        self._blocks.remember(parameters, progress.kept, here)
        damping, growth = np.full(outputs, DAMPING_START), np.full(outputs, GROWTH_START)
        memory = Memory(*progress, damping, growth)
        return State(0, 0, parameters, float(here.values.sum()), False, memory)

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def step(self, state: State) -> State:
        """One trial of each output that goes on."""
        memory = Memory(*state.memory)
        progress, parameters = memory.progress, state.parameters
        active = progress.active(self._tolerance)
        wanted = numbers_of(active)
        here = self._blocks.at(parameters, memory.kept, self._root, wanted)
        threshold = progress.threshold(self._tolerance)
        trial = self._trial(here, memory.damping, wanted, threshold)
        rounding = np.maximum(progress.threshold(self._rounding), self._rounding_floor)
        hidden = trial.gain <= rounding
        goes_on = active & (trial.left > threshold) & ~hidden
        # After a failure a trial often fails again: its matrix would be for nothing.
        likely = goes_on & (memory.growth == GROWTH_START)
        moved = parameters + trial.direction
        there = self._blocks.evaluate(
            moved, memory.kept, self._root, numbers_of(likely), slope=bool(goes_on.any())
        )
        fall = memory.values - there.values
        lower = active & np.where(goes_on, fall > 0.0, fall >= 0.0)
        parameters = np.where(lower[:, np.newaxis], moved, parameters)
        expected = np.where(goes_on, trial.left, np.where(lower & ~hidden, trial.left, 0.0))
        after = Progress(
            values=np.where(lower, there.values, memory.values),
            expected=np.where(active, expected, memory.expected),
            kept=memory.kept,
        ).thinned(self._tolerance)
        if goes_on.any() and after.kept is memory.kept:
            self._blocks.remember(parameters, after.kept, _merged(here, there, lower))
        converged = not after.active(self._tolerance).any()
        damping, growth = _damped(memory, fall / trial.gain, goes_on, lower)
        cost = float(after.values.sum())
        return State(
            state.epoch + 1, 0, parameters, cost, converged, Memory(*after, damping, growth)
        )

    def _trial(
        self, here: Evaluation, damping: Array, outputs: list[int], threshold: Array
    ) -> _Trial:
        """The damped step of each output, with the decrease that the model sees.

        Much damping makes any step small, so an output has arrived only if the step without damping
        promises no more either.
        """
        direction = np.zeros_like(here.slope)
        gain, left = np.zeros_like(threshold), np.zeros_like(threshold)
        for output in outputs:
            matrix, slope, mu = here.matrices[output], here.slope[output], damping[output]
            weights = mu * matrix.diagonal()
            damped = matrix.copy()
            damped.ravel()[:: len(damped) + 1] += weights
            factor = factorised(damped, resolution=self._resolution)
            if factor is None:
                continue
            step = -solved(factor, slope)
            direction[output] = step
            gain[output] = left[output] = 0.5 * float((weights * step - slope) @ step)
            if not gain[output] > threshold[output]:
                left[output] = self._undamped_gain(matrix, slope)
        return _Trial(direction, gain, left)

    def _undamped_gain(self, matrix: Array, slope: Array) -> float:
        factor = factorised(matrix, resolution=self._resolution)
        return 0.0 if factor is None else 0.5 * float(slope @ solved(factor, slope))


def root_of(activation: str) -> Root:
    """The square root of the curvature sigma'^2 + max(sigma'' r, 0), of an elementwise sigma."""
    forward, derivative = ACTIVATIONS[activation].forward, ACTIVATIONS[activation].derivative
    bend = SECOND_DERIVATIVES.get(activation)
    if derivative is None:
        raise NumericError(f"the outputs of {activation} depend on each other")

    def root(z: DataArray, y: DataArray) -> DataArray:
        y_hat = forward(z)
        slope = derivative(z, y_hat)
        if bend is None:
            return slope
        beyond = bend(y_hat, slope) * (y_hat - y)
        np.maximum(beyond, 0.0, out=beyond)
        beyond += np.square(slope)
        return np.sqrt(beyond, out=beyond)

    return root


def _damped(
    memory: Memory, ratio: Array, goes_on: NDArray[np.bool_], lower: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """mu and nu for the next trial, by the gain ratio of this one."""
    eased = np.maximum(1.0 / EASING_MAX, 1.0 - (2.0 * ratio - 1.0) ** 3)
    damping = memory.damping * np.where(lower, eased, memory.growth)
    damping = np.where(goes_on, np.clip(damping, DAMPING_MIN, DAMPING_MAX), memory.damping)
    growth = np.where(goes_on, np.where(lower, GROWTH_START, 2.0 * memory.growth), memory.growth)
    return damping, growth


def _merged(here: Evaluation, there: Evaluation, lower: NDArray[np.bool_]) -> Evaluation:
    """What is known at the new P: of there where f fell, of here where P stays."""
    matrices = {j: matrix for j, matrix in here.matrices.items() if not lower[j]}
    matrices.update((j, matrix) for j, matrix in there.matrices.items() if lower[j])
    return Evaluation(
        np.where(lower, there.values, here.values),
        np.where(lower[:, np.newaxis], there.slope, here.slope),
        matrices,
    )
