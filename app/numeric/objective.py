"""What training lowers: the mean over rows of C plus l2/2 |w|^2 (b is never penalised)."""

from typing import NamedTuple

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.layer import Layer, chunks, delta, mean_cost


class Objective(NamedTuple):
    """The training rows x (N, n), y (N, m), and what is asked of a layer on them."""

    activation: str
    cost: str
    x: Array
    y: Array
    l2: float

    @property
    def curvature(self) -> float:
        """An upper bound of d2C/dz2, per output."""
        return COSTS[self.cost].curvature(ACTIVATIONS[self.activation])


class Slope(NamedTuple):
    """The gradient of the objective: dC_dw (m, n), dC_db (m,)."""

    dC_dw: Array
    dC_db: Array


@np.errstate(over="ignore", invalid="ignore")
def value(objective: Objective, layer: Layer) -> float:
    """The objective at a layer: mean over rows of C, plus the penalty."""
    mean = mean_cost(layer, objective.cost, objective.x, objective.y)
    return mean + 0.5 * objective.l2 * float(np.square(layer.w).sum())


@np.errstate(over="ignore", invalid="ignore")
def slope(objective: Objective, layer: Layer) -> Slope:
    """The gradient of the objective at a layer, summed in float64 over chunks of rows in order."""
    x, y = objective.x, objective.y
    dC_dw, dC_db = np.zeros_like(layer.w), np.zeros_like(layer.b)
    for rows in chunks(*x.shape):
        dC_dz = delta(layer, objective.cost, x[rows], y[rows])
        dC_dw += dC_dz.T @ x[rows]
        dC_db += dC_dz.sum(axis=0)
    dC_dw /= len(x)
    dC_db /= len(x)
    dC_dw += objective.l2 * layer.w
    return Slope(dC_dw, dC_db)
