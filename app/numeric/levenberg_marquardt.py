"""Levenberg-Marquardt for the half squared error of an elementwise sigma, each output on its own.

    (H + mu D) d = -slope        H = sum over rows of weight c x x^T / N + l2 (not for b)

Far out c = sigma'^2 makes H the Gauss-Newton matrix, which is never indefinite. Near a minimum
c = sigma'^2 + sigma'' r, r = y_hat - y, is all of the second derivative: Gauss-Newton goes twice
too far or more wherever labels 0 and 1 are fitted in the tails of sigma, and swings for dozens of
steps. D is the diagonal of H (Marquardt 1963), so that the units of the inputs do not matter. mu
and nu follow the gain ratio, the decrease of f over that of the model, by the rule of Nielsen 1999
(Madsen, Nielsen and Tingleff 2004, algorithm 3.16; their hybrid, section 3.4, approximates what is
exact here).
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
from app.numeric.cholesky import Factor, factorised, solved
from app.numeric.errors import NumericError
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.output_blocks import (
    Curve,
    Evaluation,
    OutputBlocks,
    Standing,
    Wanted,
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

# A step is near when its model promises no more than this share of the output's part of f.
NEAR = 0.1

# sigma'' from y_hat = sigma(z) and sigma'; for those that are not named it is 0.
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
    """A Standing, and of each output, (m,): mu; nu, by which mu grows at the next failure; near.

    `near` is 1 where H is all of the second derivative.
    """

    values: Array
    expected: Array
    kept: Array
    damping: Array
    growth: Array
    near: Array

    @property
    def progress(self) -> Standing:
        return Standing(self.values, self.expected, self.kept)


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
        self._far_curve = gauss_newton_curve(objective.activation)
        self._near_curve = whole_curve(objective.activation)
        parameters = objective.start()
        self.start = self.state_at(parameters)
        # The square of the rounding of the targets: what is left of a fit through every one.
        squares = 2.0 * self.start.memory[0] + np.square(objective.sigma.forward(parameters[:, -1]))
        self._rounding_floor = self._rounding**2 * squares

    def state_at(self, parameters: Array) -> State:
        """The state before the first step, from any P (m, n + 1)."""
        outputs = len(parameters)
        wanted = ((self._far_curve, range(outputs)),)
        here = self._blocks.evaluate(parameters, np.ones(outputs), wanted)
        progress = beginning(here.values)
        self._blocks.remember(parameters, progress.kept, here)
        memory = Memory(
            *progress,
            damping=np.full(outputs, DAMPING_START),
            growth=np.full(outputs, GROWTH_START),
            near=np.zeros(outputs),
        )
        return State(0, 0, parameters, float(here.values.sum()), False, memory)

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def step(self, state: State) -> State:
        """One trial of each output that goes on."""
        memory = Memory(*state.memory)
        progress, parameters = memory.progress, state.parameters
        active = progress.active(self._tolerance)
        here, factors, near = self._definite(parameters, memory, active)
        threshold = progress.threshold(self._tolerance)
        trial = self._trial(here, factors, memory.damping, threshold)
        rounding = np.maximum(progress.threshold(self._rounding), self._rounding_floor)
        hidden = trial.gain <= rounding
        goes_on = active & (trial.left > threshold) & ~hidden
        moved = parameters + trial.direction
        nearing = trial.gain <= (NEAR * memory.values if self._near_curve else -np.inf)
        # After a failure a trial often fails again: its matrix would be for nothing.
        likely = goes_on & (memory.growth == GROWTH_START)
        there = self._blocks.evaluate(
            moved, memory.kept, self._wanted(likely, nearing), slope=bool(goes_on.any())
        )
        fall = memory.values - there.values
        lower = active & np.where(goes_on, fall > 0.0, fall >= 0.0)
        parameters = np.where(lower[:, np.newaxis], moved, parameters)
        expected = np.where(goes_on, trial.left, np.where(lower & ~hidden, trial.left, 0.0))
        after = Standing(
            values=np.where(lower, there.values, memory.values),
            expected=np.where(active, expected, memory.expected),
            kept=memory.kept,
        ).thinned(self._tolerance)
        if goes_on.any() and after.kept is memory.kept:
            self._blocks.remember(parameters, after.kept, _merged(here, there, lower))
        converged = not after.active(self._tolerance).any()
        damping, growth = _damped(memory, fall / trial.gain, goes_on, lower)
        near = np.where(lower, nearing, near)
        cost = float(after.values.sum())
        return State(
            state.epoch + 1,
            0,
            parameters,
            cost,
            converged,
            Memory(*after, damping, growth, near.astype(np.float64)),
        )

    def _wanted(self, outputs: NDArray[np.bool_], near: NDArray[np.bool_]) -> Wanted:
        """The outputs whose matrix is wanted, by the curvature that each is to have."""
        if self._near_curve is None:
            return ((self._far_curve, numbers_of(outputs)),)
        return (
            (self._far_curve, numbers_of(outputs & ~near)),
            (self._near_curve, numbers_of(outputs & near)),
        )

    def _definite(
        self, parameters: Array, memory: Memory, active: NDArray[np.bool_]
    ) -> tuple[Evaluation, dict[int, Factor], NDArray[np.bool_]]:
        """What is known at P, the factors of H + mu D, and which outputs are near.

        Where H is indefinite near a minimum that is none, the Gauss-Newton matrix takes its place.
        """
        near = memory.near > 0.0
        here = self._blocks.at(parameters, memory.kept, self._wanted(active, near))
        factors: dict[int, Factor] = {}
        indefinite: list[int] = []
        for output in numbers_of(active):
            factor = self._factorised(here.matrices[output], memory.damping[output])
            if near[output] and (factor is None or factor.jitter > 0.0):
                indefinite.append(output)
            elif factor is not None:
                factors[output] = factor
        if indefinite:
            near[indefinite] = False
            wanted = ((self._far_curve, indefinite),)
            safe = self._blocks.evaluate(parameters, memory.kept, wanted)
            here = here._replace(matrices={**here.matrices, **safe.matrices})
            for output, matrix in safe.matrices.items():
                factor = self._factorised(matrix, memory.damping[output])
                if factor is not None:
                    factors[output] = factor
        return here, factors, near

    def _factorised(self, matrix: Array, mu: float) -> Factor | None:
        """Of H + mu D; None if it is not finite, or an entry of D is negative."""
        diagonal = matrix.diagonal()
        if (diagonal < 0.0).any():
            return None
        damped = matrix.copy()
        damped.ravel()[:: len(damped) + 1] += mu * diagonal
        return factorised(damped, resolution=self._resolution)

    def _trial(
        self, here: Evaluation, factors: Mapping[int, Factor], damping: Array, threshold: Array
    ) -> _Trial:
        """The damped step of each output, with the decrease that the model sees.

        Much damping makes any step small, so an output has arrived only if the step without damping
        promises no more either.
        """
        direction = np.zeros_like(here.slope)
        gain, left = np.zeros_like(threshold), np.zeros_like(threshold)
        for output, factor in factors.items():
            matrix, slope = here.matrices[output], here.slope[output]
            step = -solved(factor, slope)
            damped = damping[output] * matrix.diagonal() * step
            direction[output] = step
            gain[output] = left[output] = 0.5 * float((damped - slope) @ step)
            if not gain[output] > threshold[output]:
                undamped = self._factorised(matrix, 0.0)
                if undamped is not None:
                    left[output] = 0.5 * float(slope @ solved(undamped, slope))
        return _Trial(direction, gain, left)


def gauss_newton_curve(activation: str) -> Curve:
    """sigma'(z)^2 of an elementwise activation."""
    sigma = ACTIVATIONS[activation]
    forward, derivative = sigma.forward, sigma.derivative
    if derivative is None:
        raise NumericError(f"the outputs of {activation} depend on each other")
    return Curve(lambda z, _: derivative(z, forward(z)), rooted=True)


def whole_curve(activation: str) -> Curve | None:
    """sigma'(z)^2 + sigma''(z) (y_hat - y); None where sigma'' is 0, but for kinks."""
    sigma, bend = ACTIVATIONS[activation], SECOND_DERIVATIVES.get(activation)
    forward, derivative = sigma.forward, sigma.derivative
    if derivative is None or bend is None:
        return None

    def curvature(z: DataArray, y: DataArray) -> DataArray:
        y_hat = forward(z)
        slope = derivative(z, y_hat)
        return np.square(slope) + bend(y_hat, slope) * (y_hat - y)

    return Curve(curvature, rooted=False)


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
