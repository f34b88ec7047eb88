"""What training lowers: the mean over rows of weight C, plus penalties on w (never on b).

    f(P) = mean over rows of weight C + l2/2 |w|^2 + l1 |w|_1        P = [w b], (m, n + 1)

With `non_negative`, only w >= 0 is allowed. What is smooth in f, all but l1, has the slope that the
functions below give; l1 and the limit are for the solvers that can take steps beside the slope.
"""

from typing import Any

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.kernels import Kernel, kernel_of
from app.numeric.layer import initial_layer
from app.numeric.rows import DataArray, Rows


class Objective:
    """The training rows, what is asked of a layer on them, and buffers for one pass over them.

    Not for two threads at once: passes share the buffers.
    """

    def __init__(
        self,
        activation: str,
        cost: str,
        rows: Rows,
        *,
        l2: float = 0.0,
        l1: float = 0.0,
        non_negative: bool = False,
    ) -> None:
        self.activation = activation
        self.cost = cost
        self.rows = rows
        self.l2 = l2
        self.l1 = l1
        self.non_negative = non_negative
        self.sigma = ACTIVATIONS[activation]
        self._kernel: Kernel = kernel_of(activation, cost)
        self._z = np.empty((rows.outputs, rows.block_rows), rows.dtype)
        self._scratch = np.empty((2, *self._z.shape), rows.dtype)

    @property
    def curvature(self) -> float:
        """An upper bound of d2C/dz2, infinite if there is none."""
        return COSTS[self.cost].curvature(self.sigma)

    @property
    def shape(self) -> tuple[int, int]:
        """Of P: (m, n + 1)."""
        return self.rows.outputs, self.rows.inputs + 1

    def start(self) -> Array:
        """P (m, n + 1) that gives every row the mean target: w = 0, b = sigma^-1(mean of y)."""
        total = np.zeros(self.rows.outputs)
        for block in self.rows.blocks():
            y = block.y.astype(np.float64, copy=False)
            total += y.sum(axis=1) if block.weight is None else y @ block.weight
        mean = total / self.rows.total
        layer = initial_layer(self.activation, mean[np.newaxis], self.rows.inputs)
        return np.hstack((layer.w, layer.b[:, np.newaxis]))

    def value(self, parameters: Array) -> float:
        """f, without its slope."""
        totals, _ = self._sums(parameters, slope=False)
        return float(totals.sum()) / self.rows.total + self.penalty(parameters)

    def value_and_slope(self, parameters: Array) -> tuple[float, Array]:
        """f, and the slope (m, n + 1) of all of it but l1."""
        totals, slope = self._sums(parameters, slope=True)
        slope /= self.rows.total
        value = float(np.add.reduce(totals)) / self.rows.total
        if self.l2:
            slope[:, :-1] += self.l2 * parameters[:, :-1]
        return value + self.penalty(parameters), slope

    def values_and_slope(self, parameters: Array) -> tuple[Array, Array]:
        """The part of each output in f without l1, (m,), and the slope (m, n + 1).

        One part in all, (1,), where softmax ties the outputs together: their sum is f without l1.
        """
        values, slope = self._sums(parameters, slope=True)
        values /= self.rows.total
        slope /= self.rows.total
        if self.l2:
            w = parameters[:, :-1]
            slope[:, :-1] += self.l2 * w
            penalties = 0.5 * self.l2 * np.einsum("ij,ij->i", w, w)
            values += penalties if len(values) == len(penalties) else penalties.sum()
        return values, slope

    def penalty(self, parameters: Array) -> float:
        """l2/2 |w|^2 + l1 |w|_1."""
        if not (self.l2 or self.l1):
            return 0.0
        w = parameters[:, :-1]
        with np.errstate(over="ignore", invalid="ignore"):
            return 0.5 * self.l2 * float(np.vdot(w, w)) + self._l1_penalty(parameters)

    def _l1_penalty(self, parameters: Array) -> float:
        return self.l1 * float(np.abs(parameters[:, :-1]).sum()) if self.l1 else 0.0

    def pre_activation(self, parameters: Array, x: DataArray) -> DataArray:
        """z (m, k) of one block, in a buffer that the next pass uses again."""
        w: np.ndarray[Any, Any] = parameters.astype(self.rows.dtype, copy=False)
        return np.matmul(w, x, out=self._z[:, : x.shape[1]])

    @np.errstate(over="ignore", invalid="ignore", under="ignore")
    def _sums(self, parameters: Array, *, slope: bool) -> tuple[Array, Array]:
        """Sums over rows, block by block in order, in float64 whatever the rows are held in."""
        totals, slopes = None, None
        # Where training starts, z is b in every row: no product is needed to know it.
        flat = parameters.item(0) == 0.0 and not parameters[:, :-1].any()
        w: np.ndarray[Any, Any] = parameters.astype(self.rows.dtype, copy=False)
        for x, y, weight in self.rows.blocks():
            z = self._z[:, : x.shape[1]]
            if flat:
                z[...] = w[:, -1:]
            else:
                np.matmul(w, x, out=z)
            found = self._kernel(z, y, self._scratch[:, :, : x.shape[1]], weight, slope)
            totals = found if totals is None else np.add(totals, found, out=totals)
            if slope:
                if weight is not None:
                    z *= weight
                product = np.matmul(z, x.T)
                slopes = (
                    product.astype(np.float64, copy=False) if slopes is None else slopes + product
                )
        return (
            np.zeros(1) if totals is None else totals,
            np.zeros(self.shape) if slopes is None else slopes,
        )
