"""Outputs that do not depend on each other: the cost, slope and curvature matrix of each.

With an elementwise sigma the objective is a sum over outputs, each a function of its own row of P,
so that a second-order step solves m systems of q = n + 1 unknowns. The matrix of output j is

    sum over rows of weight c_j x x^T / N + l2 (not for b)

where the solver chooses the curvature c: d2C/dz2 for Newton, sigma'(z)^2 for Gauss-Newton.

An output that has arrived leaves the products. The bits of a product depend on how many outputs it
has, so who takes part is remembered (`kept`) and changes only when half of them have arrived:
then everything is evaluated anew, in the run that goes on as in one that is taken up again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.kernels import kernel_of
from app.numeric.objective import Objective
from app.numeric.rows import DataArray

# The sum of many terms is seldom more precise than that.
ROUNDINGS = 2.0


class Curve(NamedTuple):
    """A curvature c of each output and row, (a, k), from z and y; an array of its own.

    `rooted`: it is given as its square root, which halves the work; only where it is not negative.
    """

    of: Callable[[DataArray, DataArray], DataArray]
    rooted: bool


# Which outputs want a matrix, by the curvature that it is to have.
Wanted = Sequence[tuple[Curve, Sequence[int]]]


class Evaluation(NamedTuple):
    """At one P: values (m,), slope (m, q) and the matrices (q, q) by output.

    Rows of outputs that were left out are 0. A matrix is missing until somebody asks for it.
    """

    values: Array
    slope: Array
    matrices: Mapping[int, Array]


class Standing(NamedTuple):
    """What a step must know of each output, (m,) each.

    `values`: its part of f. `expected`: by how much the model saw f fall in its last step, 0 where
    nothing lower is found, infinite before the first. `kept`: 1 where it takes part in products.
    """

    values: Array
    expected: Array
    kept: Array

    def threshold(self, tolerance: float) -> Array:
        """A decrease of f that is too small to go on for, (m,).

        A share of the output's own part of f, or of the mean part where its own is next to nothing.
        """
        return np.maximum(self.values, float(self.values.mean())) * tolerance

    def active(self, tolerance: float) -> NDArray[np.bool_]:
        """Whether each output goes on, (m,); one that had arrived does again if f has fallen."""
        return np.asarray(self.expected > self.threshold(tolerance))

    def thinned(self, tolerance: float) -> "Standing":
        """The same, with those left out of the products that have arrived, if they are half."""
        active = self.active(tolerance)
        left = np.count_nonzero(active)
        if left and (2 * left <= np.count_nonzero(self.kept) or self.kept[active].min() == 0.0):
            return self._replace(kept=active.astype(np.float64))
        return self


def beginning(values: Array) -> Standing:
    """Before the first step: everything takes part and is expected to fall."""
    return Standing(values, np.full(len(values), np.inf), np.ones(len(values)))


def numbers_of(outputs: NDArray[np.bool_]) -> list[int]:
    """The numbers of the outputs that are marked, ascending."""
    numbers: list[int] = np.flatnonzero(outputs).tolist()
    return numbers


def rounding_of(objective: Objective) -> float:
    """The relative decrease of f below which rounding hides it."""
    return ROUNDINGS * float(np.finfo(objective.rows.dtype).eps)


class OutputBlocks:
    """Passes over the rows, with buffers for one block."""

    def __init__(self, objective: Objective) -> None:
        rows = objective.rows
        self._objective = objective
        self._kernel = kernel_of(objective.activation, objective.cost)
        self._z = np.empty((rows.outputs, rows.block_rows), rows.dtype)
        self._scratch = np.empty((2, *self._z.shape), rows.dtype)
        self._scaled = np.empty((rows.inputs + 1, rows.block_rows), rows.dtype)
        self._last: tuple[Array, Array, Evaluation] | None = None

    def remember(self, parameters: Array, kept: Array, evaluation: Evaluation) -> None:
        """Keeps what a step evaluated at the P that it ends at, for the step that starts there."""
        self._last = parameters, kept, evaluation

    def at(self, parameters: Array, kept: Array, wanted: Wanted) -> Evaluation:
        """The slope and the wanted matrices at a P, remembered or evaluated anew: the same bits.

        Remembered are the very arrays, which nobody changes: equal ones may be another run's.
        """
        last = self._last
        if last is None or last[0] is not parameters or last[1] is not kept:
            return self.evaluate(parameters, kept, wanted)
        found = last[2]
        missing = [(curve, [j for j in some if j not in found.matrices]) for curve, some in wanted]
        if any(some for _, some in missing):
            more = self.evaluate(parameters, kept, missing)
            found = found._replace(matrices={**found.matrices, **more.matrices})
        return found

    @np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore")
    def evaluate(
        self, parameters: Array, kept: Array, wanted: Wanted = (), *, slope: bool = True
    ) -> Evaluation:
        """One pass: values and slopes of the outputs that are kept, matrices of those wanted.

        Sums are in float64 whatever the rows are held in.
        """
        rows, l2 = self._objective.rows, self._objective.l2
        numbers = np.flatnonzero(kept)
        everything = len(numbers) == len(kept)
        p = parameters if everything else parameters[numbers]
        values, slopes = np.zeros(len(p)), np.zeros(p.shape)
        sums = {j: np.zeros((p.shape[1], p.shape[1])) for _, some in wanted for j in some}
        w = p.astype(rows.dtype, copy=False)
        for x, y, weight in rows.blocks():
            z = np.matmul(w, x, out=self._z[: len(p), : x.shape[1]])
            targets = y if everything else y[numbers]
            for curve, some in wanted:
                if some:
                    curved = _weighted(curve, z, targets, weight)[np.searchsorted(numbers, some)]
                    self._add_products([sums[output] for output in some], x, curved, curve.rooted)
            scratch = self._scratch[:, : len(p), : x.shape[1]]
            values += self._kernel(z, targets, scratch, weight, slope)
            if slope:
                if weight is not None:
                    z *= weight
                slopes += np.matmul(z, x.T)
        values /= rows.total
        slopes /= rows.total
        if l2:
            values += 0.5 * l2 * np.einsum("ij,ij->i", p[:, :-1], p[:, :-1])
            slopes[:, :-1] += l2 * p[:, :-1]
        matrices = {j: _penalised(matrix / rows.total, l2) for j, matrix in sums.items()}
        if everything:
            return Evaluation(values, slopes, matrices)
        whole = Evaluation(np.zeros(len(parameters)), np.zeros(parameters.shape), matrices)
        whole.values[numbers] = values
        whole.slope[numbers] = slopes
        return whole

    def _add_products(
        self, sums: Sequence[Array], x: DataArray, curved: DataArray, rooted: bool
    ) -> None:
        """Adds c x x^T of one block: of roots as an array times itself, half the work of two."""
        scaled = self._scaled[:, : x.shape[1]]
        for total, row in zip(sums, curved, strict=True):
            np.multiply(x, row, out=scaled)
            np.add(total, np.matmul(scaled, scaled.T if rooted else x.T), out=total)


def _weighted(curve: Curve, z: DataArray, y: DataArray, weight: DataArray | None) -> DataArray:
    curved = curve.of(z, y)
    if weight is not None:
        curved *= np.sqrt(weight) if curve.rooted else weight
    return curved


def _penalised(matrix: Array, l2: float) -> Array:
    matrix.ravel()[: -1 : len(matrix) + 1] += l2
    return matrix
