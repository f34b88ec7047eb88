"""Numbers for people: how good predictions are. y and y_hat are (N, m)."""

import math

import numpy as np

from app.numeric.activations import Array
from app.numeric.errors import ShapeError


def scores(cost: str, y: Array, y_hat: Array) -> dict[str, float]:
    """Regression scores; `accuracy` if all targets are 0 or 1; `log_loss` for cross_entropy."""
    result = regression_scores(y, y_hat)
    if np.isin(y, (0.0, 1.0)).all():
        result["accuracy"] = accuracy(y, y_hat)
    if cost == "cross_entropy":
        result["log_loss"] = log_loss(y, y_hat)
    return result


@np.errstate(over="ignore", invalid="ignore")
def regression_scores(y: Array, y_hat: Array) -> dict[str, float]:
    """mse, rmse, mae over rows and outputs, and r2: the mean over outputs of 1 - SSE / SST.

    r2 is nan if any target is constant, because SST is 0 there. Raises ShapeError for no rows.
    """
    _check(y, y_hat)
    residual = y_hat - y
    squares = np.square(residual)
    mse = float(squares.mean())
    total = np.square(y - y.mean(axis=0)).sum(axis=0)
    total[y.max(axis=0) == y.min(axis=0)] = np.nan
    r2 = float((1.0 - squares.sum(axis=0) / total).mean())
    return {"mse": mse, "rmse": math.sqrt(mse), "mae": float(np.abs(residual).mean()), "r2": r2}


def accuracy(y: Array, probability: Array) -> float:
    """The share of rows that are right, for targets of 0 and 1.

    One-hot targets (several outputs, exactly one 1 in every row): right if the largest probability
    is at the 1.
    Otherwise: right if every output lies on the side of 0.5 that its target lies on (0.5 itself
    counts as 0).
    """
    _check(y, probability)
    if y.shape[1] > 1 and (y.sum(axis=1) == 1.0).all():
        right = y.argmax(axis=1) == probability.argmax(axis=1)
    else:
        right = ((probability > 0.5) == (y > 0.5)).all(axis=1)
    return float(right.mean())


def log_loss(y: Array, probability: Array) -> float:
    """The mean over rows and outputs of -(y log p + (1-y) log(1-p)), p kept 2e-16 inside (0, 1)."""
    _check(y, probability)
    epsilon = np.finfo(np.float64).eps
    p = np.clip(probability, epsilon, 1.0 - epsilon)
    return float(-(y * np.log(p) + (1.0 - y) * np.log1p(-p)).mean())


def _check(y: Array, y_hat: Array) -> None:
    if y.ndim != 2 or y.shape != y_hat.shape or not y.size:
        raise ShapeError(f"scores need predictions for at least one row: {y.shape}, {y_hat.shape}")
