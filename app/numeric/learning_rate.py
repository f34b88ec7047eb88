"""The automatic learning rate, from a bound of the curvature.

The objective is smooth with constant

    L = curvature * lambda_max([X 1]^T [X 1] / N) + l2

where `curvature` bounds d2C/dz2 from above: then f(w + d) <= f(w) + slope d + L/2 |d|^2, which
holds for the costs that are not convex too, as long as the targets lie in the range that the cost
allows.
"""

import math

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from app.numeric.activations import Array
from app.numeric.objective import Objective

EXACT_SIDE_MAX = 512
LANCZOS_TOLERANCE = 1e-3


def automatic(objective: Objective, *, batch_size: int | None, momentum: float) -> float:
    """A rate with which gradient descent does not diverge.

    Full batch: 1 / L, with or without momentum, because descent replaces a momentum step that
    raises the objective by the plain step, which cannot (see gradient_descent).
    Mini-batches: (1 - momentum) / (2 L_b), L_b the expected smoothness. Heavy ball with rate a is
    stochastic gradient descent with rate a / (1 - momentum) on an averaged sequence (Sebbouh,
    Gower, Defazio 2021).
    A bound that overflows gives nan, and so ends as diverged instead of standing still.
    """
    if batch_size is None:
        bound = smoothness(objective)
        return 1.0 / bound if math.isfinite(bound) else math.nan
    bound = expected_smoothness(objective, batch_size)
    return (1.0 - momentum) / (2.0 * bound) if math.isfinite(bound) else math.nan


def smoothness(objective: Objective) -> float:
    """L of the whole objective."""
    return objective.curvature * _largest_eigenvalue(objective.x) + objective.l2


@np.errstate(over="ignore")
def expected_smoothness(objective: Objective, batch_size: int) -> float:
    """L_b for batches of b of the N rows, drawn without replacement.

    L_b = N (b-1) / (b (N-1)) L + (N-b) / (b (N-1)) L_max: from the worst row at b = 1 to L at b =
    N.
    Source: Gower et al. 2019, SGD: General Analysis and Improved Rates.
    """
    rows = len(objective.x)
    if batch_size >= rows:
        return smoothness(objective)
    largest_row = float(np.einsum("ij,ij->i", objective.x, objective.x).max()) + 1.0
    worst = objective.curvature * largest_row + objective.l2
    whole = smoothness(objective)
    return (rows * (batch_size - 1) * whole + (rows - batch_size) * worst) / (
        batch_size * (rows - 1)
    )


@np.errstate(over="ignore", invalid="ignore")
def _largest_eigenvalue(x: Array) -> float:
    """lambda_max([x 1]^T [x 1] / N): exact while one side is small, else by Lanczos, rounded up."""
    rows, columns = len(x), x.shape[1]
    if columns < EXACT_SIDE_MAX:
        gram = np.empty((columns + 1, columns + 1))
        gram[:-1, :-1] = x.T @ x
        gram[-1, :-1] = gram[:-1, -1] = x.sum(axis=0)
        gram[-1, -1] = rows
        return _top(gram) / rows
    if rows <= EXACT_SIDE_MAX:
        return _top(x @ x.T + 1.0) / rows
    return _top_by_lanczos(x) * (1.0 + 10 * LANCZOS_TOLERANCE) / rows


def _top(gram: Array) -> float:
    """The largest eigenvalue of a symmetric matrix, infinite if it overflowed."""
    if not np.isfinite(gram).all():
        return math.inf
    return float(np.linalg.eigvalsh(gram)[-1])


def _top_by_lanczos(x: Array) -> float:
    def apply(v: Array) -> Array:
        image = x @ v[:-1] + v[-1]
        return np.append(x.T @ image, image.sum())

    side = x.shape[1] + 1
    operator = LinearOperator((side, side), matvec=apply, dtype=np.float64)
    # A fixed start keeps the bits; a random one is orthogonal to the top eigenvector with
    # probability 0.
    start = np.random.Generator(np.random.Philox(0)).standard_normal(side)
    top = eigsh(operator, k=1, tol=LANCZOS_TOLERANCE, v0=start, return_eigenvectors=False)
    return float(top[0])
