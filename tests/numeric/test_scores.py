import json
import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics

from app.numeric.errors import ShapeError
from app.numeric.scores import Scores, accuracy, classification, regression, to_json


def test_regression_scores_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=(60, 3)) * [1.0, 10.0, 0.1] + 5.0
    y_hat = y + random.normal(size=(60, 3))

    found = regression(0.25, y, y_hat)

    assert found.cost == 0.25
    assert found[1:5] == pytest.approx(
        (
            metrics.mean_squared_error(y, y_hat),
            metrics.root_mean_squared_error(y.ravel(), y_hat.ravel()),
            metrics.mean_absolute_error(y, y_hat),
            metrics.r2_score(y, y_hat),
        ),
        rel=1e-12,
    )
    assert set(found[5:]) == {None}


def test_r2_of_a_constant_target_is_nan() -> None:
    # The mean of three times 0.1 is not 0.1 in float64, so that its sum of squares is not 0.
    y = np.column_stack((np.full(3, 0.1), np.arange(3.0)))

    found = regression(0.0, y, y)

    assert found.r2 is not None
    assert math.isnan(found.r2)
    assert found.mse == 0.0


@pytest.mark.parametrize("unit", [1e-200, 1e200])
@pytest.mark.parametrize("y_hat", [0.0, 1.0])
def test_targets_whose_squares_leave_float64_are_scored_without_a_warning(
    unit: float, y_hat: float
) -> None:
    y = np.array([[1.0], [2.0]]) * unit

    found = regression(0.0, y, np.full((2, 1), y_hat))

    assert found.r2 is not None
    assert math.isnan(found.r2)


@pytest.mark.parametrize("outputs", [1, 3])
def test_accuracy_of_labels_equals_scikit_learn(outputs: int) -> None:
    random = np.random.default_rng(0)
    y = (random.random((80, outputs)) > 0.5).astype(float)
    probability = random.random((80, outputs))

    found = accuracy(y, probability)

    assert found == metrics.accuracy_score(y, (probability > 0.5).astype(float))


def test_accuracy_of_one_hot_targets_asks_for_the_largest_probability() -> None:
    random = np.random.default_rng(0)
    species = random.integers(0, 3, size=80)
    probability = 0.4 * random.random((80, 3))

    found = accuracy(np.eye(3)[species], probability)

    assert found == metrics.accuracy_score(species, probability.argmax(axis=1))


def test_log_loss_of_numeric_targets_equals_scikit_learn_and_stays_finite() -> None:
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    probability = np.array([[0.2], [0.7], [0.0], [1.0]])

    found = regression(1.0, y, probability, probabilities=True)

    assert found.log_loss == pytest.approx(metrics.log_loss(y, probability), rel=1e-12)


def test_log_loss_of_shares_is_the_mean_over_rows_and_outputs() -> None:
    y, probability = np.array([[0.25, 1.0]]), np.array([[0.5, 0.125]])

    found = regression(1.0, y, probability, probabilities=True)

    assert found.log_loss == pytest.approx((math.log(2) + math.log(8)) / 2, rel=1e-15)
    assert found.calibration is None


@pytest.mark.parametrize("y", [[[-0.5], [1.0]], [[0.0], [40.0]]])
def test_targets_in_the_units_of_a_scaled_one_have_no_log_loss(y: list[list[float]]) -> None:
    found = regression(1.0, np.array(y), np.array([[0.2], [0.9]]), probabilities=True)

    assert found.log_loss is None
    assert found.mse is not None


def test_scores_of_yes_and_no_are_given_only_for_targets_of_zero_and_one() -> None:
    y = np.array([[0.0], [1.0]])

    plain, with_half = regression(0.0, y, y), regression(0.0, y / 2, y)

    assert (plain.accuracy, plain.auc, plain.log_loss, plain.calibration) == (1.0, 1.0, None, None)
    assert set(with_half[5:]) == {None}
    assert regression(0.0, np.eye(2), np.eye(2)).auc is None


def test_the_scores_go_to_json_whole() -> None:
    probability = np.array([[0.2], [0.7], [0.65], [0.4]])
    scores = classification(0.5, np.array([0, 1, 0, 1]), probability, classes=2)

    found = json.loads(json.dumps(to_json(scores), allow_nan=False))

    assert tuple(found) == Scores._fields
    assert found["auc"] == scores.auc
    assert found["mse"] is None
    assert found["confusion"] == scores.confusion
    assert scores.calibration is not None
    first = scores.calibration[0]
    assert found["calibration"][0] == {
        "low": first.low,
        "high": first.high,
        "count": first.count,
        "mean_predicted": first.mean_predicted,
        "observed": first.observed,
    }


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    found = to_json(regression(math.nan, np.ones((2, 1)), np.array([[np.inf], [0.0]])))

    assert {name: found[name] for name in ("cost", "mse", "r2", "accuracy", "auc")} == {
        "cost": None, "mse": None, "r2": None, "accuracy": 0.5, "auc": None
    }  # fmt: skip


def test_numeric_targets_predicted_with_nan_have_no_ranks() -> None:
    y_hat = np.array([[0.2], [np.nan]])

    found = to_json(regression(0.0, np.array([[0.0], [1.0]]), y_hat, probabilities=True))

    assert {found[name] for name in ("mse", "r2", "log_loss", "auc", "calibration")} == {None}


def test_scores_take_no_more_than_a_few_copies_of_the_predictions() -> None:
    random = np.random.default_rng(0)
    codes, probability = random.integers(0, 10, size=50_000), random.random((50_000, 10))
    y = probability[::-1]

    assert peak_bytes(lambda: regression(0.0, y, probability)) < 2.5 * y.nbytes
    assert peak_bytes(lambda: regression(0.0, y, probability, probabilities=True)) < 3.5 * y.nbytes
    assert peak_bytes(lambda: classification(0.0, codes, probability, classes=10)) < y.nbytes


def test_no_rows_have_no_scores() -> None:
    with pytest.raises(ShapeError):
        regression(0.0, np.ones((0, 1)), np.ones((0, 1)))
    with pytest.raises(ShapeError):
        classification(0.0, np.ones(0), np.ones((0, 2)), classes=2)


def peak_bytes(score: Callable[[], Scores]) -> int:
    tracemalloc.start()
    try:
        score()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
