"""The automatic learning rate, from a bound of the curvature.

The objective is smooth with constant

    L = curvature * lambda_max(sum of weight x x^T / N) + l2        x with a 1 at its end

where `curvature` bounds d2C/dz2 from above: then f(P + d) <= f(P) + slope d + L/2 |d|^2, which
holds for the costs that are not convex too, as long as the targets lie in the range that the cost
allows. Costs without such a bound have the curvature at the start measured instead; what is made of
that must be ready to find it too small.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.objective import Objective
from app.numeric.rows import Block, DataArray, Rows

# An eigendecomposition of that side takes 20 ms; beyond, a few dozen products are quicker.
EXACT_SIDE_MAX = 512
LANCZOS_TOLERANCE = 1e-3
# Rounding and the third derivative spoil a central difference equally where its step is the cube
# root of the precision, relative to what it is added to.
DIFFERENCE_STEP = {4: 5e-3, 8: 6e-6}
# Adam moves every parameter by about its rate. These shares of the longest move of a plain step
# give, for standardised data, the rates that are customary: 0.01 for all rows, 0.001 for batches.
ADAM_SHARE = 0.1
ADAM_SHARE_OF_BATCHES = 0.01


def automatic(objective: Objective) -> float:
    """The rate of plain steps over all rows: 1 / L, with momentum too.

    That holds for momentum because descent takes a step that raises the objective back and does the
    plain step instead, which cannot (see first_order). Without a bound of the curvature: 1 over the
    curvature at the start along the slope. nan if it overflows: that ends as diverged, where a rate
    of 0 would stand still.
    """
    if math.isfinite(objective.curvature):
        return _inverse(smoothness(objective))
    return _inverse(curvature_along_slope(objective, objective.start()))


def automatic_for_batches(
    objective: Objective, sizes: Sequence[int], *, momentum: float
) -> list[float]:
    """The rates of steps on batches of these sizes: (1 - momentum) / (2 L_b); nan on overflow.

    L_b is the expected smoothness: up to 1 / (2 L_b), descent on convex C comes as near to the
    minimum as the noise of its batches lets it (Gower et al. 2019, Theorem 3.1). Heavy ball with
    rate a and momentum k is the average P <- k P + (1 - k) Q of a descent Q <- Q - r slope(P) with
    r = a / (1 - k) (Sebbouh, Gower and Defazio 2021), and the same bound of r serves: then
    |Q - P*|^2 + 2 r k / (1 - k) (f(P) - f*) falls in expectation, but for the noise. Nesterov's
    steps are taken to be no worse.

    Raises NumericError for a cost without a bound of the curvature.
    """
    if not math.isfinite(objective.curvature):
        raise NumericError(
            f"the curvature of {objective.activation} with {objective.cost} has no bound, so there "
            "is no automatic learning rate for mini-batches: give a learning_rate, or use solver "
            "lbfgs"
        )
    bounds = expected_smoothness(objective, sizes)
    return [_inverse(2.0 * bound) * (1.0 - momentum) for bound in bounds]


def automatic_for_adam(objective: Objective, *, full_batch: bool) -> float:
    """The rate that Adam takes when none is given: a share of the longest move of a plain step.

    Unlike a constant it is right in all units: with targets c times as large it is c times as
    large, with inputs c times as large 1/c times. It is 0 only where the slope is.
    """
    _, slope = objective.value_and_slope(objective.start())
    share = ADAM_SHARE if full_batch else ADAM_SHARE_OF_BATCHES
    return share * float(np.abs(slope).max()) * automatic(objective)


def _inverse(bound: float) -> float:
    return 1.0 / bound if math.isfinite(bound) else math.nan


def smoothness(objective: Objective) -> float:
    """L of the whole objective."""
    return objective.curvature * largest_eigenvalue(objective.rows) + objective.l2


@np.errstate(over="ignore", invalid="ignore")
def expected_smoothness(objective: Objective, sizes: Sequence[int]) -> list[float]:
    """L_b for batches of b of the N rows, drawn without replacement, for each size b.

    L_b = N (b-1) / (b (N-1)) L + (N-b) / (b (N-1)) L_max: from the worst row at b = 1 to L at b =
    N. For convex C it bounds E|g(P) - g(P*)|^2 <= 2 L_b (f(P) - f(P*)), g the slope of a batch, by
    the variance of the mean of a sample without replacement; else it is a rule without a proof.
    Source: Gower et al. 2019, SGD: General Analysis and Improved Rates (tau-nice sampling).
    """
    count, whole = objective.rows.total, smoothness(objective)
    worst = objective.curvature * _largest_row(objective.rows) + objective.l2
    return [
        (count * (b - 1) * whole + (count - b) * worst) / (b * (count - 1)) if b < count else whole
        for b in sizes
    ]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def curvature_along_slope(objective: Objective, start: Array) -> float:
    """|d^T H d| / |d|^2 for the slope d at P, by a central difference; 1 where there is none.

    Infinite if the slope overflows.
    """
    _, slope = objective.value_and_slope(start)
    length = float(np.linalg.norm(slope))
    if length == 0.0:
        return 1.0
    if not math.isfinite(length):
        return math.inf
    way = slope / length
    step = DIFFERENCE_STEP[objective.rows.dtype.itemsize] * (1.0 + float(np.linalg.norm(start)))
    _, ahead = objective.value_and_slope(start + step * way)
    _, behind = objective.value_and_slope(start - step * way)
    found = abs(float(np.vdot(ahead - behind, way))) / (2.0 * step)
    return found or 1.0


@np.errstate(over="ignore", invalid="ignore")
def largest_eigenvalue(rows: Rows) -> float:
    """lambda_max(sum of weight x x^T / N): exact while one side is small, else by Lanczos.

    Infinite if it overflows. The other side serves only for rows that are in memory. That of
    Lanczos is rounded up by 10 times its tolerance.
    """
    side = rows.inputs + 1
    if side <= EXACT_SIDE_MAX:
        gram = np.zeros((side, side))
        for block in rows.blocks():
            x = _weighted(block)
            gram += x @ x.T
        return _top(gram) / rows.total
    if rows.in_memory and rows.total <= EXACT_SIDE_MAX:
        x = np.concatenate([_weighted(block) for block in rows.blocks()], axis=1)
        return _top((x.T @ x).astype(np.float64)) / rows.total
    return _top_by_lanczos(rows) * (1.0 + 10 * LANCZOS_TOLERANCE) / rows.total


@np.errstate(over="ignore")
def _largest_row(rows: Rows) -> float:
    """The largest weight |x|^2 of a row."""
    return max(
        float(np.square(_weighted(block)).sum(axis=0, dtype=np.float64).max())
        for block in rows.blocks()
    )


def _weighted(block: Block) -> DataArray:
    """x (n + 1, k) with every row times the root of its weight."""
    return block.x if block.weight is None else block.x * np.sqrt(block.weight)


def _top(gram: Array) -> float:
    """The largest eigenvalue of a symmetric matrix, infinite if it overflowed."""
    if not np.isfinite(gram).all():
        return math.inf
    return float(np.linalg.eigvalsh(gram)[-1])


def _top_by_lanczos(rows: Rows) -> float:
    def apply(v: Array) -> Array:
        image = np.zeros(side)
        there: DataArray = np.ravel(v).astype(rows.dtype)
        for x, _, weight in rows.blocks():
            z = there @ x
            image += x @ (z if weight is None else z * weight)
        return image

    side = rows.inputs + 1
    # A fixed start keeps the bits; a random one is orthogonal to the top eigenvector with
    # probability 0.
    start = np.random.Generator(np.random.Philox(0)).standard_normal(side)
    if not np.isfinite(apply(start)).all():
        return math.inf
    operator = LinearOperator((side, side), matvec=apply, dtype=np.float64)
    top = eigsh(operator, k=1, tol=LANCZOS_TOLERANCE, v0=start, rng=0, return_eigenvectors=False)
    return float(top[0])
