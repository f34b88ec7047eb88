"""Least squares with an unpenalised b, in one step.

Minimises mean over rows of 1/2 |w x + b - y|^2 + l2/2 |w|^2 (ridge with alpha = N l2). Centring x
and y removes b.
Columns are divided by their largest entry, so that features of any unit cost no digits and squares
do not overflow.
"""

import numpy as np
from scipy import linalg

from app.numeric.activations import Array
from app.numeric.layer import Layer, initial_layer
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective, value

# Below this reciprocal condition the normal equations have lost half of the digits; one refinement
# step with residuals taken from the data gives them back above it.
GRAM_CONDITION_MIN = 1e-8
EPSILON = float(np.finfo(np.float64).eps)


def prepare(objective: Objective, settings: Settings) -> Run:  # noqa: ARG001 - has no settings
    """One epoch, which ends at the minimum."""

    def epoch(state: State) -> State:
        layer = least_squares(objective.x, objective.y, l2=objective.l2)
        return State(state.epoch + 1, layer, value(objective, layer), ())

    layer = initial_layer(objective.activation, objective.y, objective.x.shape[1])
    return Run(State(0, layer, value(objective, layer), ()), epoch, learning_rate=None)


@np.errstate(over="ignore", invalid="ignore")
def least_squares(x: Array, y: Array, *, l2: float) -> Layer:
    """The identity layer of least penalised squares; of several, the one of smallest |w|.

    Shapes: x (N, n), y (N, m). A column that is constant gets w = 0.
    """
    x_mean, x_centred = _centred(x)
    y_mean, y_centred = _centred(y)
    scale = np.abs(x_centred).max(axis=0)
    constant = scale <= 4 * EPSILON * np.abs(x_mean)
    x_centred[:, constant] = 0.0
    scale[constant] = 1.0
    x_centred /= scale
    penalty = np.sqrt(len(x) * l2) / scale
    weights = _from_gram(x_centred, y_centred, penalty)
    if weights is None:
        weights = _minimum_norm(x_centred, y_centred, penalty, scale)
    w = (weights / scale[:, None]).T
    return Layer(w, y_mean - w @ x_mean, "identity")


def _centred(values: Array) -> tuple[Array, Array]:
    """Means (n,) and deviations (N, n); the second pass removes what rounding left of the mean."""
    mean = values.mean(axis=0)
    centred = values - mean
    rest = centred.mean(axis=0)
    centred -= rest
    return mean + rest, centred


def _from_gram(x: Array, y: Array, penalty: Array) -> Array | None:
    """Weights (n, m) by Cholesky and one refinement step, or None if the condition is bad.

    The Gram matrix is brought to unit diagonal first: near the best condition that scaling can give
    (van der Sluis 1969).
    """
    gram = x.T @ x
    diagonal = np.einsum("ii->i", gram)
    diagonal += np.square(penalty)
    # The right side of a column of zeros is 0: any positive diagonal gives it w = 0.
    diagonal[diagonal == 0.0] = 1.0
    unit = 1.0 / np.sqrt(diagonal)
    gram *= unit
    gram *= unit[:, None]
    if not np.isfinite(gram).all():
        return None
    norm = np.abs(gram).sum(axis=0).max()
    factor, failed = linalg.lapack.dpotrf(gram, lower=True, overwrite_a=False)
    if failed or linalg.lapack.dpocon(factor, norm, uplo="L")[0] < GRAM_CONDITION_MIN:
        return None

    def solve(right: Array) -> Array:
        solution: Array = unit[:, None] * linalg.cho_solve((factor, True), unit[:, None] * right)
        return solution

    weights = solve(x.T @ y)
    residual = x.T @ (y - x @ weights) - np.square(penalty)[:, None] * weights
    return weights + solve(residual)


def _minimum_norm(x: Array, y: Array, penalty: Array, scale: Array) -> Array:
    """Weights (n, m) by a rank-revealing SVD; of several, those of smallest |weights / scale|.

    The rank is decided on columns of unit length, where it does not depend on units. What the data
    leave open, the null space, then makes the weights small in the units of the caller; whatever
    rounding does there, the fit stays the same.
    """
    if penalty.any():
        x = np.vstack((x, np.diag(penalty)))
        y = np.vstack((y, np.zeros((len(penalty), y.shape[1]))))
    length = np.sqrt(np.einsum("ij,ij->j", x, x))
    length[length == 0.0] = 1.0
    u, s, vt = linalg.svd(x / length, full_matrices=len(x) < x.shape[1])
    rank = int(np.sum(s > EPSILON * max(x.shape) * s[0]))
    units = 1.0 / (length * scale)[:, None]
    fitted = vt[:rank].T @ ((u[:, :rank].T @ y) / s[:rank, None])
    if rank < x.shape[1]:
        open_ways = vt[rank:].T
        fitted -= open_ways @ linalg.lstsq(units * open_ways, units * fitted)[0]
    weights: Array = fitted / length[:, None]
    return weights
