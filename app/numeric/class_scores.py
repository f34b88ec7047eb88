"""Scores of predicted classes. Classes are codes 0 to K-1, (N,); predictions of them are (N, K)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array

Codes = NDArray[np.intp]

# k / 10 and not multiples of 0.1, so that a boundary prints as it is meant.
BIN_EDGES = tuple(edge / 10 for edge in range(11))


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The rows whose predicted probability p has low < p <= high (the first bin holds 0 too).

    `mean_predicted` is their mean p, `observed` the share of them that came true: equal, up to
    chance, for an honest model.
    """

    low: float
    high: float
    count: int
    mean_predicted: float
    observed: float


def predicted_classes(y_hat: Array) -> Codes:
    """The class of the largest prediction, the first of equals.

    A single column (N, 1) predicts the second of two classes: above 0.5 it is that class.
    """
    if y_hat.shape[1] == 1:
        return (y_hat[:, 0] > 0.5).astype(np.intp)
    largest: Codes = y_hat.argmax(axis=1)
    return largest


def confusion(codes: Codes, predicted: Codes, classes: int) -> NDArray[np.intp]:
    """Counts of rows (K, K): by true class down, by predicted class across."""
    cells = np.bincount(codes * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def area_under_curve(positive: NDArray[np.bool_], score: Array) -> float | None:
    """The share of pairs (a positive row, another row) whose positive row has the larger score.

    That is the area under the ROC curve (Hanley and McNeil 1982); a tie counts 1/2. The counts are
    integers, so that only the last division rounds. None if all rows are on one side.
    """
    needles, others = np.sort(score[positive]), np.sort(score[~positive])
    few_positives = len(needles) <= len(others)
    if not few_positives:
        needles, others = others, needles
    pairs = 2 * len(needles) * len(others)
    if not pairs:
        return None
    beaten = np.searchsorted(others, needles, side="left").sum()
    beaten_or_tied = np.searchsorted(others, needles, side="right").sum()
    wins = int(beaten) + int(beaten_or_tied)
    return (wins if few_positives else pairs - wins) / pairs


def mean_area_under_curve(codes: Codes, y_hat: Array) -> float | None:
    """The mean over classes of the area of each against the rest; of two, that of the second.

    A class that all or none of the rows have does not count; None if no class is left.
    """
    if y_hat.shape[1] <= 2:
        return area_under_curve(codes == 1, y_hat[:, -1])
    areas = [area_under_curve(codes == index, column) for index, column in enumerate(y_hat.T)]
    known = [area for area in areas if area is not None]
    return sum(known) / len(known) if known else None


def class_log_loss(codes: Codes, probability: Array) -> float:
    """The mean over rows of -log p of the true class, p kept 2e-16 inside (0, 1).

    Rows that do not sum to 1 are taken as they are.
    """
    if probability.shape[1] == 1:
        second = probability[:, 0]
        p = np.where(codes == 1, second, 1.0 - second)
    else:
        p = probability[np.arange(len(codes)), codes]
    epsilon = np.finfo(np.float64).eps
    return float(-np.log(np.clip(p, epsilon, 1.0 - epsilon)).mean())


def calibration(came_true: NDArray[np.bool_], probability: Array) -> list[CalibrationBin]:
    """Ten bins of equal width over the predicted probabilities (N,); empty ones are left out."""
    places = np.searchsorted(BIN_EDGES[1:-1], probability, side="left")
    bins = len(BIN_EDGES) - 1
    counts = np.bincount(places, minlength=bins)
    predicted = np.bincount(places, weights=probability, minlength=bins)
    observed = np.bincount(places[came_true], minlength=bins)
    return [
        CalibrationBin(
            low=BIN_EDGES[place],
            high=BIN_EDGES[place + 1],
            count=int(counts[place]),
            mean_predicted=float(predicted[place] / counts[place]),
            observed=float(observed[place] / counts[place]),
        )
        for place in np.flatnonzero(counts).tolist()
    ]
