import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression

from app.numeric.activations import Array
from app.numeric.errors import NumericError, ShapeError
from app.numeric.scores import Scores, classification, regression


def test_scores_of_two_classes_equal_scikit_learn_on_breast_cancer() -> None:
    x, codes = load_breast_cancer(return_X_y=True)
    probability = (
        LogisticRegression(max_iter=5000).fit(x[:, :3], codes).predict_proba(x[:, :3])[:, 1]
    )

    found = classification(0.5, codes, probability[:, None], classes=2)

    assert_scores_of_classes(found, codes, probability > 0.5)
    assert found.log_loss == pytest.approx(metrics.log_loss(codes, probability), rel=1e-12)
    assert found.auc == pytest.approx(metrics.roc_auc_score(codes, probability), rel=1e-12)
    assert_calibration(found, codes, probability)


def test_scores_of_three_classes_equal_scikit_learn_on_iris() -> None:
    x, codes = load_iris(return_X_y=True)
    probability = LogisticRegression(max_iter=5000).fit(x[:, :2], codes).predict_proba(x[:, :2])
    predicted = probability.argmax(axis=1)

    found = classification(0.5, codes.astype(float), probability, classes=3)

    assert_scores_of_classes(found, codes, predicted)
    assert found.log_loss == pytest.approx(metrics.log_loss(codes, probability), rel=1e-12)
    assert found.auc == pytest.approx(
        metrics.roc_auc_score(codes, probability, multi_class="ovr", average="macro"), rel=1e-12
    )
    assert_calibration(found, codes == predicted, probability.max(axis=1))


def test_two_columns_score_as_the_second_of_them_alone() -> None:
    codes, probability = two_classes(300)

    found = classification(0.1, codes, np.hstack((1.0 - probability, probability)), classes=2)

    assert found == classification(0.1, codes, probability, classes=2)


def test_two_columns_that_do_not_add_up_to_one_are_ranked_by_the_second() -> None:
    y_hat = np.array([[0.9, 0.1], [0.1, 0.2], [0.9, 0.3]])

    found = classification(0.0, np.array([0, 0, 1]), y_hat, classes=2, probabilities=False)

    assert found.auc == 1.0
    assert found.confusion == [[1, 1], [1, 0]]


def test_a_half_predicts_the_first_of_two_classes() -> None:
    half = np.full((1, 1), 0.5)

    assert classification(0.0, np.zeros(1), half, classes=2).accuracy == 1.0
    assert regression(0.0, np.zeros((1, 1)), half).accuracy == 1.0


def test_a_numeric_target_of_zero_and_one_scores_as_two_classes_do() -> None:
    codes, probability = two_classes(500)

    numeric = regression(0.4, codes[:, None].astype(float), probability, probabilities=True)
    classes = classification(0.4, codes, probability, classes=2)

    assert numeric.log_loss == pytest.approx(classes.log_loss, rel=1e-12)
    assert (
        numeric._replace(
            log_loss=classes.log_loss,
            confusion=classes.confusion,
            mse=None,
            rmse=None,
            mae=None,
            r2=None,
        )
        == classes
    )


def test_classes_have_no_residuals() -> None:
    codes, probability = two_classes(10)

    found = classification(0.7, codes, probability, classes=2)

    assert found.cost == 0.7
    assert set(found[1:5]) == {None}


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 1.0, 7.0]))).filter(
        lambda rows: len({positive for positive, _ in rows}) == 2
    )
)
def test_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[bool, float]]) -> None:
    codes, score = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    above = score[codes][:, None] > score[~codes]
    tied = score[codes][:, None] == score[~codes]

    found = classification(0.0, codes, score[:, None], classes=2, probabilities=False)

    assert found.auc == np.mean(above + 0.5 * tied)


@given(seed=st.integers(0, 2**32), decimals=st.integers(1, 4), classes=st.integers(3, 6))
def test_auc_of_many_tied_classes_equals_scikit_learn(
    seed: int, decimals: int, classes: int
) -> None:
    random = np.random.default_rng(seed)
    codes = np.concatenate((np.arange(classes), random.integers(0, classes, size=60)))
    probability = random.random((len(codes), classes)).round(decimals) + 1.0
    probability /= probability.sum(axis=1, keepdims=True)

    found = classification(0.0, codes, probability, classes=classes)

    expected = metrics.roc_auc_score(codes, probability, multi_class="ovr", average="macro")
    assert found.auc == pytest.approx(expected, rel=1e-12)


def test_a_class_that_no_row_has_leaves_the_auc_to_the_others() -> None:
    random = np.random.default_rng(0)
    codes = random.choice([0, 2, 3], size=90)
    probability = softmax(random.normal(size=(90, 4)), axis=1)

    found = classification(0.0, codes, probability, classes=4)

    areas = [metrics.roc_auc_score(codes == index, probability[:, index]) for index in (0, 2, 3)]
    assert found.auc == pytest.approx(np.mean(areas), rel=1e-12)
    assert found.log_loss == pytest.approx(
        metrics.log_loss(codes, probability, labels=[0, 1, 2, 3]), rel=1e-12
    )
    assert (
        found.confusion
        == metrics.confusion_matrix(codes, probability.argmax(axis=1), labels=[0, 1, 2, 3]).tolist()
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_rows_of_one_class_have_no_auc_and_the_other_scores(classes: int) -> None:
    probability = np.full((4, classes), 1.0 / classes)

    found = classification(0.0, np.ones(4), probability, classes=classes)

    assert found.auc is None
    assert found.accuracy == 0.0
    assert found.log_loss == pytest.approx(math.log(classes), rel=1e-15)


def test_log_loss_of_certain_and_wrong_predictions_is_finite_and_that_of_scikit_learn() -> None:
    three, two = np.array([0, 1, 2]), np.array([1, 0])
    one_hot, single = np.eye(3)[[1, 1, 0]], np.array([[0.0], [1.0]])

    of_three = classification(0.0, three, one_hot, classes=3)
    of_two = classification(0.0, two, single, classes=2)

    assert of_three.log_loss == pytest.approx(metrics.log_loss(three, one_hot), rel=1e-12)
    assert of_two.log_loss == pytest.approx(metrics.log_loss(two, single), rel=1e-12)


def test_predictions_that_are_no_probabilities_belong_to_the_nearer_code() -> None:
    codes = np.array([0, 0, 1, 1])
    y_hat = np.tanh([[-3.0], [0.4], [0.7], [0.2]])

    found = classification(0.0, codes, y_hat, classes=2, probabilities=False)

    assert found.confusion == [[2, 0], [1, 1]]
    assert found.accuracy == 0.75 == regression(0.0, codes[:, None] * 1.0, y_hat).accuracy
    assert found.auc == metrics.roc_auc_score(codes, y_hat[:, 0])
    assert (found.log_loss, found.calibration) == (None, None)


def test_bins_of_calibration_hold_their_upper_end_and_zero() -> None:
    probability = np.array([[0.0], [0.1], [np.nextafter(0.1, 1)], [0.3], [1.0]])

    found = classification(0.0, np.array([0, 0, 1, 0, 1]), probability, classes=2).calibration

    assert found is not None
    assert [(item.low, item.high, item.count, item.observed) for item in found] == [
        (0.0, 0.1, 2, 0.0),
        (0.1, 0.2, 1, 1.0),
        (0.2, 0.3, 1, 0.0),
        (0.9, 1.0, 1, 1.0),
    ]


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.floats(0, 1), min_size=3, max_size=3)), min_size=1
    )
)
def test_counts_of_bins_and_classes_add_up_to_the_rows(
    rows: list[tuple[int, list[float]]],
) -> None:
    codes, probability = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])

    found = classification(0.0, codes, probability, classes=3)

    assert found.calibration is not None
    assert sum(item.count for item in found.calibration) == len(rows)
    for item in found.calibration:
        assert item.count > 0
        assert item.low - 1e-12 <= item.mean_predicted <= item.high + 1e-12
        assert 0.0 <= item.observed <= 1.0
    assert found.confusion is not None
    assert np.sum(found.confusion, axis=1).tolist() == np.bincount(codes, minlength=3).tolist()
    hits = sum(item.count * item.observed for item in found.calibration)
    assert found.accuracy == pytest.approx(hits / len(rows))


@pytest.mark.parametrize("classes", [2, 3])
def test_of_predictions_with_nan_only_the_cost_is_known(classes: int) -> None:
    y_hat = np.full((3, classes), 0.5)
    y_hat[1, -1] = np.nan

    assert classification(2.0, np.arange(3) % 2, y_hat, classes=classes) == Scores(2.0)


@pytest.mark.parametrize(
    ("codes", "shape", "classes"),
    [
        ((3,), (3, 1), 3),
        ((3,), (3, 3), 2),
        ((3,), (2, 2), 2),
        ((3,), (3,), 2),
        ((3, 1), (3, 2), 2),
        ((3,), (3, 1), 1),
    ],
)
def test_predictions_of_other_classes_or_rows_are_refused(
    codes: tuple[int, ...], shape: tuple[int, ...], classes: int
) -> None:
    with pytest.raises(ShapeError):
        classification(0.0, np.zeros(codes), np.zeros(shape), classes=classes)


@pytest.mark.parametrize("code", [-1, 2, 0.5, math.nan])
def test_a_code_of_no_class_is_refused(code: float) -> None:
    with pytest.raises(NumericError, match="class code"):
        classification(0.0, np.array([0.0, code]), np.zeros((2, 2)), classes=2)


def two_classes(rows: int) -> tuple[NDArray[np.intp], Array]:
    """Codes (rows,) and the probability (rows, 1) of the second class."""
    random = np.random.default_rng(0)
    z = random.normal(size=rows)
    return (random.random(rows) < expit(z)).astype(np.intp), expit(2.0 * z)[:, None]


def assert_scores_of_classes(
    found: Scores, codes: NDArray[np.intp], predicted: NDArray[np.generic]
) -> None:
    assert found.accuracy == metrics.accuracy_score(codes, predicted)
    assert found.confusion == metrics.confusion_matrix(codes, predicted).tolist()


def assert_calibration(found: Scores, came_true: NDArray[np.generic], probability: Array) -> None:
    observed, predicted = calibration_curve(came_true, probability, n_bins=10)

    assert found.calibration is not None
    assert [item.observed for item in found.calibration] == pytest.approx(observed, rel=1e-12)
    assert [item.mean_predicted for item in found.calibration] == pytest.approx(
        predicted, rel=1e-12
    )
