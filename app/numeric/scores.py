"""Numbers for people: how good predictions are. y and y_hat are (N, m), N at least 1."""

import math
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.class_scores import (
    CalibrationBin,
    Codes,
    area_under_curve,
    calibration,
    class_log_loss,
    confusion,
    mean_area_under_curve,
    predicted_classes,
)
from app.numeric.errors import NumericError, ShapeError


class Scores(NamedTuple):
    """None where a score has no meaning, nan where these rows do not determine it.

    `cost` is as it was handed in. mse, rmse and mae are in units of the targets, over rows and
    outputs; `r2` is the mean over outputs. `confusion` counts rows by true class (its rows) and
    predicted class (its columns).
    """

    cost: float
    mse: float | None = None
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None
    accuracy: float | None = None
    log_loss: float | None = None
    auc: float | None = None
    confusion: list[list[int]] | None = None
    calibration: list[CalibrationBin] | None = None


def regression(cost: float, y: Array, y_hat: Array, *, probabilities: bool = False) -> Scores:
    """Scores of numeric targets; those of yes and no too, where the targets are such.

    `accuracy` is there if all targets are 0 or 1, `auc` if there is one such output as well.
    `probabilities` says that y_hat are (cost cross_entropy): that adds `log_loss` where the targets
    lie in [0, 1], not in the units of a scaled one, and `calibration` where there is an `auc`.
    r2 is nan if any target is constant.
    Raises ShapeError for no rows or shapes that differ.
    """
    _check(y, y_hat)
    scores = _residual_scores(cost, y, y_hat)
    if probabilities and y.min() >= 0.0 and y.max() <= 1.0:
        scores = scores._replace(log_loss=log_loss(y, y_hat))
    if not ((y == 0.0) | (y == 1.0)).all():
        return scores
    scores = scores._replace(accuracy=accuracy(y, y_hat))
    if y.shape[1] > 1 or np.isnan(y_hat).any():
        return scores
    positive, score = y[:, 0] == 1.0, y_hat[:, 0]
    return scores._replace(
        auc=area_under_curve(positive, score),
        calibration=calibration(positive, score) if probabilities else None,
    )


def classification(
    cost: float, codes: NDArray[Any], y_hat: Array, *, classes: int, probabilities: bool = True
) -> Scores:
    """Scores of class codes (N,), whole numbers from 0, predicted by y_hat.

    y_hat is (N, classes), or (N, 1) for the second of two classes; the predicted class is that of
    the largest prediction, or the second above 0.5. Without `probabilities` (tanh, identity) there
    is no log_loss and no calibration. The bins of `calibration` are over the probability of the
    second of two classes, of more over that of the predicted class and whether it was right.
    `auc` is the mean over classes of each against the rest; None if all rows are of one class.
    If a prediction is nan there is only the cost.
    Raises ShapeError for no rows or shapes that do not fit, NumericError for other codes.
    """
    truth = _checked_codes(codes, y_hat, classes)
    if np.isnan(y_hat).any():
        return Scores(cost)
    predicted = predicted_classes(y_hat)
    counts = confusion(truth, predicted, classes)
    scores = Scores(
        cost,
        accuracy=float(np.trace(counts) / len(truth)),
        auc=mean_area_under_curve(truth, y_hat),
        confusion=counts.tolist(),
    )
    if not probabilities:
        return scores
    came_true, probability = (
        (truth == 1, y_hat[:, -1]) if classes == 2 else (truth == predicted, y_hat.max(axis=1))
    )
    return scores._replace(
        log_loss=class_log_loss(truth, y_hat), calibration=calibration(came_true, probability)
    )


def to_json(scores: Scores) -> dict[str, Any]:
    """Plain values for JSON under the names of the fields; a number that is not finite is None."""
    bins = scores.calibration
    return {
        **{name: _finite_or_none(value) for name, value in scores._asdict().items()},
        "confusion": scores.confusion,
        "calibration": None if bins is None else [asdict(item) for item in bins],
    }


def accuracy(y: Array, y_hat: Array) -> float:
    """The share of rows that are right, for targets of 0 and 1.

    One-hot targets (several outputs, exactly one 1 in every row): right if the largest prediction
    is at the 1.
    Otherwise: right if every output lies on the side of 0.5 that its target lies on (0.5 itself
    counts as 0), which is the nearer of the two also where predictions are no probabilities.
    """
    _check(y, y_hat)
    if y.shape[1] > 1 and (y.sum(axis=1) == 1.0).all():
        right = y.argmax(axis=1) == y_hat.argmax(axis=1)
    else:
        right = ((y_hat > 0.5) == (y > 0.5)).all(axis=1)
    return float(right.mean())


def log_loss(y: Array, probability: Array) -> float:
    """The mean over rows and outputs of -(y log p + (1-y) log(1-p)), p kept 2e-16 inside (0, 1)."""
    _check(y, probability)
    epsilon = np.finfo(np.float64).eps
    p = np.clip(probability, epsilon, 1.0 - epsilon)
    gains = np.log(p)
    gains *= y
    losses = np.log1p(np.negative(p, out=p), out=p)
    losses *= 1.0 - y
    gains += losses
    return float(-gains.mean())


@np.errstate(over="ignore", invalid="ignore")
def _residual_scores(cost: float, y: Array, y_hat: Array) -> Scores:
    """mse, rmse, mae, and r2: the mean over outputs of 1 - SSE / SST, nan where SST is 0."""
    residual = y_hat - y
    mae = float(np.abs(residual).mean())
    squares = np.square(residual, out=residual)
    mse = float(squares.mean())
    deviation = y - y.mean(axis=0)
    total = np.square(deviation, out=deviation).sum(axis=0)
    # The mean of a constant is not always that constant, and small deviations have squares of 0.
    total[(y.max(axis=0) == y.min(axis=0)) | (total == 0.0)] = np.nan
    r2 = float((1.0 - squares.sum(axis=0) / total).mean())
    return Scores(cost, mse=mse, rmse=math.sqrt(mse), mae=mae, r2=r2)


def _check(y: Array, y_hat: Array) -> None:
    if y.ndim != 2 or y.shape != y_hat.shape or not y.size:
        raise ShapeError(f"scores need predictions for at least one row: {y.shape}, {y_hat.shape}")


def _checked_codes(codes: NDArray[Any], y_hat: Array, classes: int) -> Codes:
    widths = (1, 2) if classes == 2 else (classes,)
    fits = codes.ndim == 1 and y_hat.ndim == 2 and len(codes) == len(y_hat)
    if not (fits and len(codes) and classes >= 2 and y_hat.shape[1] in widths):
        raise ShapeError(
            f"scores of {classes} classes (at least 2) need predictions for at least one row: "
            f"{codes.shape}, {y_hat.shape}"
        )
    wrong = ~((codes >= 0) & (codes < classes) & (codes == np.floor(codes)))
    if wrong.any():
        raise NumericError(f"class code {codes[wrong][0]:g} is not one of 0 to {classes - 1}")
    return codes.astype(np.intp)


def _finite_or_none(value: Any) -> float | None:
    return value if isinstance(value, float) and math.isfinite(value) else None
