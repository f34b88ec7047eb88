import math

import numpy as np
import pytest
from sklearn import metrics

from app.numeric.errors import ShapeError
from app.numeric.scores import accuracy, regression_scores, scores


def test_regression_scores_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=(60, 3)) * [1.0, 10.0, 0.1] + 5.0
    y_hat = y + random.normal(size=(60, 3))

    found = regression_scores(y, y_hat)

    assert found == pytest.approx(
        {
            "mse": metrics.mean_squared_error(y, y_hat),
            "rmse": math.sqrt(metrics.mean_squared_error(y, y_hat)),
            "mae": metrics.mean_absolute_error(y, y_hat),
            "r2": metrics.r2_score(y, y_hat),
        },
        rel=1e-12,
    )


def test_r2_of_a_constant_target_is_nan() -> None:
    y = np.column_stack((np.full(5, 0.1), np.arange(5.0)))

    found = regression_scores(y, y)

    assert math.isnan(found["r2"])
    assert found["mse"] == 0.0


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


def test_log_loss_equals_scikit_learn_and_stays_finite() -> None:
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    probability = np.array([[0.2], [0.7], [0.0], [1.0]])

    found = scores("cross_entropy", y, probability)

    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, probability), rel=1e-12)


def test_accuracy_is_given_only_for_targets_of_zero_and_one() -> None:
    y = np.array([[0.0], [1.0]])

    assert scores("half_squared_error", y, y)["accuracy"] == 1.0
    assert "accuracy" not in scores("half_squared_error", y + 0.5, y)
    assert "log_loss" not in scores("half_squared_error", y, y)


def test_no_rows_have_no_scores() -> None:
    with pytest.raises(ShapeError):
        regression_scores(np.ones((0, 1)), np.ones((0, 1)))
