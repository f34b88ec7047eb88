"""Outputs that do not depend on each other: the cost, slope and curvature matrix of each.

With an elementwise sigma the objective is a sum over outputs, each a function of its own row of P,
so that a second-order step solves m systems of q = n + 1 unknowns. The matrix of output j is

    sum over rows of weight root_j^2 x x^T / N + l2 (not for b)

where `root` is the square root of the curvature that a solver chooses: sqrt(d2C/dz2) for Newton,
sigma'(z) for Gauss-Newton.

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

Root = Callable[[DataArray, DataArray], DataArray]

# The sum of many terms is seldom more precise than that.
ROUNDINGS = 2.0


class Evaluation(NamedTuple):
    """At one P: values (m,), slope (m, q) and the matrices (q, q) by output.

    Rows of outputs that were left out are 0. A matrix is missing until somebody asks for it.
    """

    values: Array
    slope: Array
    matrices: Mapping[int, Array]


class Progress(NamedTuple):
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

    def thinned(self, tolerance: float) -> "Progress":
        """The same, with those left out of the products that have arrived, if they are half."""
        active = self.active(tolerance)
        left = np.count_nonzero(active)
        if left and (2 * left <= np.count_nonzero(self.kept) or self.kept[active].min() == 0.0):
            return self._replace(kept=active.astype(np.float64))
        return self


def beginning(values: Array) -> Progress:
    """Before the first step: everything takes part and is expected to fall."""
    return Progress(values, np.full(len(values), np.inf), np.ones(len(values)))


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

    def at(self, parameters: Array, kept: Array, root: Root, wanted: Sequence[int]) -> Evaluation:
        """The slope and the wanted matrices at a P, remembered or evaluated anew: the same bits.

        Remembered are the very arrays, which nobody changes: equal ones may be another run's.
        """
        last = self._last
        if last is None or last[0] is not parameters or last[1] is not kept:
            return self.evaluate(parameters, kept, root, wanted)
        found = last[2]
        missing = [output for output in wanted if output not in found.matrices]
        if missing:
            more = self.evaluate(parameters, kept, root, missing)
            found = found._replace(matrices={**found.matrices, **more.matrices})
        return found

    @np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore")
    def evaluate(
        self,
        parameters: Array,
        kept: Array,
        root: Root,
        wanted: Sequence[int] = (),
        *,
        slope: bool = True,
    ) -> Evaluation:
        """One pass: values and slopes of the outputs that are kept, matrices of those wanted.

        Sums are in float64 whatever the rows are held in.
        """
        rows = self._objective.rows
        outputs = None if kept.all() else np.flatnonzero(kept)
        p = parameters if outputs is None else parameters[outputs]
        places = np.searchsorted(np.flatnonzero(kept), wanted)
        values, slopes = np.zeros(len(p)), np.zeros(p.shape)
        matrices = np.zeros((len(wanted), p.shape[1], p.shape[1]))
        w = p.astype(rows.dtype, copy=False)
        for x, y, weight in rows.blocks():
            z = np.matmul(w, x, out=self._z[: len(p), : x.shape[1]])
            targets = y if outputs is None else y[outputs]
            if wanted:
                roots = root(z, targets)
                if weight is not None:
                    roots *= np.sqrt(weight)
                self._add_products(matrices, x, roots if len(wanted) == len(p) else roots[places])
            scratch = self._scratch[:, : len(p), : x.shape[1]]
            values += self._kernel(z, targets, scratch, weight, slope)
            if slope:
                if weight is not None:
                    z *= weight
                slopes += np.matmul(z, x.T)
        values /= rows.total
        slopes /= rows.total
        matrices /= rows.total
        self._penalise(p, values, slopes, matrices)
        by_output = dict(zip(wanted, matrices, strict=True))
        if outputs is None:
            return Evaluation(values, slopes, by_output)
        everywhere = Evaluation(np.zeros(len(parameters)), np.zeros(parameters.shape), by_output)
        everywhere.values[outputs] = values
        everywhere.slope[outputs] = slopes
        return everywhere

    def _add_products(self, matrices: Array, x: DataArray, roots: DataArray) -> None:
        """Adds root^2 x x^T, as a product of one array with itself: half the work of two."""
        scaled = self._scaled[:, : x.shape[1]]
        for matrix, root in zip(matrices, roots, strict=True):
            np.multiply(x, root, out=scaled)
            np.add(matrix, np.matmul(scaled, scaled.T), out=matrix)

    def _penalise(self, p: Array, values: Array, slopes: Array, matrices: Array) -> None:
        l2 = self._objective.l2
        if l2:
            w = p[:, :-1]
            values += 0.5 * l2 * np.einsum("ij,ij->i", w, w)
            slopes[:, :-1] += l2 * w
            np.einsum("jii->ji", matrices)[:, :-1] += l2
