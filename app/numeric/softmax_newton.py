"""Newton's method for softmax with cross-entropy: one system of m q unknowns, q = n + 1.

    H[(a, i), (c, j)] = sum over rows of weight p_a (delta_ac - p_c) x_i x_j / N + l2 (not for b)

Adding the same row to all rows of P changes no probability, so H is singular there. The slope has
no part there either, and whatever is added to H in those directions leaves the step as it is: its
mean over the outputs stays 0, and the layer does not drift.
"""

from typing import NamedTuple

import numpy as np

from app.numeric.activations import Array
from app.numeric.cholesky import factorised, solved
from app.numeric.kernels import kernel_of
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.output_blocks import rounding_of
from app.numeric.rows import BLOCK_BYTES, DataArray

# The share that a step must reach of the decrease that the slope promises.
ARMIJO = 1e-4
HALVINGS_MAX = 60


def prepare(objective: Objective, settings: Settings) -> Run:
    """Starts at the mean target. One step is one Newton step."""
    newton = SoftmaxNewton(objective, settings.tolerance)
    return Run(newton.state_at(objective.start()), newton.step, learning_rate=None)


class Evaluation(NamedTuple):
    """f at one P, its slope (m, q) and its second derivatives (m q, m q)."""

    value: float
    slope: Array
    matrix: Array


class _Sums(NamedTuple):
    """Over rows: weight p_a p_c x x^T, (m q, m q), and weight p_a x x^T, (m q, q)."""

    crossed: Array
    own: Array


class SoftmaxNewton:
    """Steps of one objective; a state needs no memory."""

    def __init__(self, objective: Objective, tolerance: float) -> None:
        rows, (outputs, unknowns) = objective.rows, objective.shape
        self._objective = objective
        self._rounding = rounding_of(objective)
        self._tolerance = max(tolerance, self._rounding)
        self._kernel = kernel_of(objective.activation, objective.cost)
        # Of the products p_a x only so many rows are held at a time as stay in cache.
        width = BLOCK_BYTES // (outputs * unknowns * rows.dtype.itemsize)
        self._width = min(max(width, 64), rows.block_rows)
        self._z = np.empty((outputs, rows.block_rows), rows.dtype)
        self._scratch = np.empty((2, *self._z.shape), rows.dtype)
        self._scaled = np.empty((outputs, unknowns, self._width), rows.dtype)
        self._last: tuple[Array, Evaluation] | None = None

    def state_at(self, parameters: Array) -> State:
        """The state before the first step, from any P (m, n + 1)."""
        here = self.evaluate(parameters)
        self._last = parameters, here
        return State(0, 0, parameters, here.value, False, ())

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, state: State) -> State:
        """One Newton step, shortened until it lowers f; the same P if nothing does."""
        parameters = state.parameters
        if self._last is not None and self._last[0] is parameters:
            here = self._last[1]
        else:
            here = self.evaluate(parameters)
        direction = self._direction(here)
        gain = -0.5 * float(np.vdot(here.slope, direction))
        following = state._replace(epoch=state.epoch + 1)
        if not gain > self._tolerance * abs(state.cost):
            trial = parameters + direction
            cost = self._objective.value(trial)
            if cost <= state.cost:
                following = following._replace(parameters=trial, cost=cost)
            return following._replace(converged=True)
        trial = parameters + direction
        there = self.evaluate(trial)
        if there.value <= state.cost - 2.0 * ARMIJO * gain:
            self._last = trial, there
            return following._replace(parameters=trial, cost=there.value)
        return self._shortened(following, direction, gain)

    def _shortened(self, state: State, direction: Array, gain: float) -> State:
        """The state after the longest of the halved steps that lowers f enough."""
        length = 0.5
        for _ in range(HALVINGS_MAX):
            trial = state.parameters + length * direction
            cost = self._objective.value(trial)
            if cost <= state.cost - 2.0 * ARMIJO * length * gain:
                return state._replace(parameters=trial, cost=cost)
            if not length * gain > self._rounding * abs(state.cost):
                break
            length *= 0.5
        return state._replace(converged=True)

    def _direction(self, here: Evaluation) -> Array:
        outputs, unknowns = here.slope.shape
        resolution = float(np.finfo(self._objective.rows.dtype).eps)
        # With l2 only b is free to move along; without, all columns are.
        free = slice(unknowns - 1, None) if self._objective.l2 else slice(None)
        matrix = here.matrix.copy()
        by_output = matrix.reshape(outputs, unknowns, outputs, unknowns)
        for column in range(unknowns)[free]:
            block = by_output[:, column, :, column]
            block += np.trace(block) / outputs**2
        factor = factorised(matrix, resolution=resolution)
        if factor is None:
            return np.zeros_like(here.slope)
        direction = -solved(factor, here.slope.ravel()).reshape(here.slope.shape)
        direction[:, free] -= direction[:, free].mean(axis=0)
        return direction

    @np.errstate(over="ignore", invalid="ignore", under="ignore")
    def evaluate(self, parameters: Array) -> Evaluation:
        """f, its slope and its second derivatives in one pass."""
        objective = self._objective
        rows, shape = objective.rows, objective.shape
        total, slope = 0.0, np.zeros(shape)
        sums = _Sums(np.zeros((slope.size, slope.size)), np.zeros((slope.size, shape[1])))
        w = parameters.astype(rows.dtype, copy=False)
        for x, y, weight in rows.blocks():
            z = np.matmul(w, x, out=self._z[:, : x.shape[1]])
            scratch = self._scratch[:, :, : x.shape[1]]
            total += float(self._kernel(z, y, scratch, weight, True).sum())
            probabilities = np.add(z, y, out=scratch[0])
            if weight is not None:
                z *= weight
            slope += np.matmul(z, x.T)
            for start in range(0, x.shape[1], self._width):
                rows_here = slice(start, start + self._width)
                root = None if weight is None else np.sqrt(weight[rows_here])
                self._add(sums, x[:, rows_here], probabilities[:, rows_here], root)
        slope /= rows.total
        slope[:, :-1] += objective.l2 * parameters[:, :-1]
        value = total / rows.total + objective.penalty(parameters)
        return Evaluation(value, slope, self._matrix(sums))

    def _add(
        self, sums: _Sums, x: DataArray, probabilities: DataArray, root: DataArray | None
    ) -> None:
        design = x if root is None else x * root
        scaled = self._scaled[:, :, : x.shape[1]]
        np.multiply(probabilities[:, np.newaxis], design, out=scaled)
        stacked = scaled.reshape(-1, x.shape[1])
        np.add(sums.crossed, np.matmul(stacked, stacked.T), out=sums.crossed)
        np.add(sums.own, np.matmul(stacked, design.T), out=sums.own)

    def _matrix(self, sums: _Sums) -> Array:
        outputs, unknowns = self._objective.shape
        matrix = np.negative(sums.crossed, out=sums.crossed)
        for output in range(outputs):
            own = slice(output * unknowns, (output + 1) * unknowns)
            matrix[own, own] += sums.own[own]
        matrix /= self._objective.rows.total
        penalised = np.tile(np.arange(unknowns) < unknowns - 1, outputs)
        matrix.ravel()[:: len(matrix) + 1] += self._objective.l2 * penalised
        return matrix
