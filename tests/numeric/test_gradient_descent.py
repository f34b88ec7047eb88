from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import StratifiedKFold

from app.numeric import learning_rate
from app.numeric.activations import Array
from app.numeric.layer import Layer, forward
from app.numeric.objective import Objective, slope, value
from app.numeric.training import StopReason, TrainingPlan
from tests.numeric.builders import PAIRS, PLAN, allowed_targets, data_of, trained

LOGISTIC = PLAN._replace(activation="sigmoid", cost="cross_entropy")


def standardised(x: Array) -> Array:
    scaled: Array = (x - x.mean(axis=0)) / x.std(axis=0)
    return scaled


def diabetes() -> tuple[Array, Array]:
    x, y = load_diabetes(return_X_y=True)
    return standardised(x), standardised(y[:, None])


def breast_cancer() -> tuple[Array, Array]:
    x, y = load_breast_cancer(return_X_y=True)
    return standardised(x), y[:, None].astype(float)


def iris() -> tuple[Array, Array]:
    x, species = load_iris(return_X_y=True)
    return standardised(x), np.eye(3)[species]


def labels(values: Array) -> NDArray[np.intp]:
    largest: NDArray[np.intp] = values.argmax(axis=1)
    return largest if values.shape[1] > 1 else (values[:, 0] > 0.5).astype(np.intp)


def cross_validated_hits(x: Array, y: Array, seed: int) -> tuple[int, int]:
    """Rows that our layer and scikit-learn get right, each row predicted while held out."""
    ours = theirs = 0
    wanted = labels(y)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    for training, held_out in folds.split(x, wanted):
        layer = trained(data_of(x[training], y[training]), LOGISTIC)[-1].layer
        reference = LogisticRegression(max_iter=1000).fit(x[training], wanted[training])
        ours += int(np.sum(labels(forward(layer, x[held_out])) == wanted[held_out]))
        theirs += int(np.sum(reference.predict(x[held_out]) == wanted[held_out]))
    return ours, theirs


@pytest.mark.parametrize("load", [breast_cancer, iris])
def test_held_out_accuracy_is_within_one_point_of_scikit_learn(
    load: Callable[[], tuple[Array, Array]],
) -> None:
    x, y = load()

    hits = np.array([cross_validated_hits(x, y, seed) for seed in range(3)]) / len(x)

    ours, theirs = hits.mean(axis=0)
    assert ours >= theirs - 0.01


def test_linear_descent_reaches_the_r2_of_scikit_learn() -> None:
    x, y = diabetes()

    last = trained(data_of(x, y), PLAN._replace(epochs=3000, tolerance=1e-12))[-1]

    r2 = LinearRegression().fit(x, y).score(x, y)
    assert 1.0 - 2.0 * last.cost == pytest.approx(r2, abs=1e-6)


def test_penalised_logistic_descent_reaches_the_minimum_of_scikit_learn() -> None:
    x, y = breast_cancer()
    l2 = 0.01

    last = trained(data_of(x, y), LOGISTIC._replace(epochs=3000, l2=l2, tolerance=1e-12))[-1]

    reference = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=10_000)
    reference.fit(x, y[:, 0])
    np.testing.assert_allclose(last.layer.w, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(last.layer.b, reference.intercept_, atol=1e-4)


def test_relu_regression_does_as_well_as_scipy_least_squares() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3))
    y = np.maximum(x @ [[1.0], [-2.0], [0.5]] + 1.0, 0.0) + 0.05 * random.random((300, 1))

    last = trained(data_of(x, y), PLAN._replace(activation="relu", epochs=2000))[-1]

    def residuals(p: Array) -> Array:
        residual: Array = np.maximum(x @ p[:3] + p[3], 0.0) - y[:, 0]
        return residual

    reference = least_squares(residuals, np.array([0.0, 0.0, 0.0, float(y.mean())]))
    assert last.cost <= reference.cost / len(x) * (1 + 1e-4)
    assert last.cost < 1e-3


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_the_objective_never_rises_with_the_automatic_rate(activation: str, cost: str) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(60, 4)) * [0.1, 1.0, 3.0, 1.0] + [0.0, 0.0, 5.0, 0.0]
    y = allowed_targets(2, 60, 2, activation, cost)
    plan = PLAN._replace(activation=activation, cost=cost, epochs=200, momentum=0.99, l2=0.01)

    costs = np.array([progress.cost for progress in trained(data_of(x, y), plan)])

    assert (np.diff(costs) <= 1e-12 * costs[:-1]).all()
    assert costs[-1] < costs[0]


def test_momentum_needs_fewer_epochs_than_the_plain_step() -> None:
    x, y = diabetes()
    plan = PLAN._replace(epochs=150, tolerance=0.0)

    with_momentum = trained(data_of(x, y), plan)[-1]
    plain = trained(data_of(x, y), plan._replace(momentum=0.0))[-1]

    assert with_momentum.cost < plain.cost


def test_heavy_ball_takes_the_steps_that_polyak_wrote() -> None:
    x, y = diabetes()
    objective = Objective("identity", "half_squared_error", x, y, 0.1)
    plan = PLAN._replace(learning_rate=0.01, momentum=0.5, epochs=3, l2=0.1)

    layers = [progress.layer for progress in trained(data_of(x, y), plan)]

    before, at = layers[0], layers[0]
    for found in layers[1:]:
        pull = slope(objective, at)
        w = at.w - 0.01 * pull.dC_dw + 0.5 * (at.w - before.w)
        before, at = at, Layer(w, at.b - 0.01 * pull.dC_db + 0.5 * (at.b - before.b), "identity")
        np.testing.assert_allclose(found.w, at.w, rtol=1e-12)
        np.testing.assert_allclose(found.b, at.b, atol=1e-15)


def test_slope_of_the_objective_is_a_difference_of_its_values() -> None:
    x, y = breast_cancer()
    objective = Objective("sigmoid", "cross_entropy", x, y, 0.3)
    random = np.random.default_rng(0)
    layer = Layer(random.normal(size=(1, 30)), np.array([0.2]), "sigmoid")
    way = Layer(random.normal(size=(1, 30)), np.array([-0.7]), "sigmoid")
    step = 1e-5

    ahead = value(objective, Layer(layer.w + step * way.w, layer.b + step * way.b, "sigmoid"))
    behind = value(objective, Layer(layer.w - step * way.w, layer.b - step * way.b, "sigmoid"))
    pull = slope(objective, layer)

    along = float(np.sum(pull.dC_dw * way.w) + pull.dC_db @ way.b)
    assert along == pytest.approx((ahead - behind) / (2 * step), rel=1e-7)


@pytest.mark.parametrize("batch_size", [1, 32, 441])
def test_mini_batches_of_the_same_seed_give_the_same_bits(batch_size: int) -> None:
    x, y = diabetes()
    plan = PLAN._replace(batch_size=batch_size, epochs=3, seed=7)

    first, second = (trained(data_of(x, y), plan)[-1].layer for _ in range(2))
    other = trained(data_of(x, y), plan._replace(seed=8))[-1].layer

    assert first.w.tobytes() == second.w.tobytes()
    assert first.b.tobytes() == second.b.tobytes()
    assert first.w.tobytes() != other.w.tobytes()


def test_mini_batches_follow_the_documented_order_and_steps() -> None:
    x, y = diabetes()
    plan = PLAN._replace(batch_size=100, epochs=2, seed=3, learning_rate=0.01, l2=0.2)

    found = trained(data_of(x, y), plan)[-1].layer

    w, b, v_w, v_b = np.zeros((1, 10)), y.mean(axis=0), 0.0, 0.0
    for epoch in (1, 2):
        bits = np.random.Philox(np.random.SeedSequence([3, epoch]))
        order = np.random.Generator(bits).permutation(len(x))
        for rows in np.split(order, range(100, len(x), 100)):
            residual = x[rows] @ w.T + b - y[rows]
            v_w = 0.9 * v_w - 0.01 * (residual.T @ x[rows] / len(rows) + 0.2 * w)
            v_b = 0.9 * v_b - 0.01 * residual.mean(axis=0)
            w, b = w + v_w, b + v_b
    np.testing.assert_allclose(found.w, w, rtol=1e-10)
    np.testing.assert_allclose(found.b, b, rtol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 10, 100])
def test_mini_batches_with_the_automatic_rate_come_near_the_minimum(batch_size: int) -> None:
    x, y = diabetes()

    last = trained(data_of(x, y), PLAN._replace(batch_size=batch_size, epochs=60))[-1]

    best = (1.0 - LinearRegression().fit(x, y).score(x, y)) / 2.0
    assert last.cost <= 1.1 * best


def test_a_batch_of_all_rows_is_full_batch() -> None:
    x, y = diabetes()
    plan = PLAN._replace(epochs=5)

    whole = trained(data_of(x, y), plan)[-1]
    large = trained(data_of(x, y), plan._replace(batch_size=10_000))[-1]

    assert whole.layer.w.tobytes() == large.layer.w.tobytes()


@pytest.mark.parametrize("batch_size", [None, 16])
def test_the_callers_arrays_and_earlier_layers_stay_as_they_were(batch_size: int | None) -> None:
    x, y = diabetes()
    before = x.copy(), y.copy()

    history = trained(data_of(x, y), PLAN._replace(batch_size=batch_size, epochs=3))

    assert (x == before[0]).all()
    assert (y == before[1]).all()
    assert not history[0].layer.w.any()
    assert (history[1].layer.w != history[2].layer.w).all()


def test_a_rate_far_too_large_ends_as_diverged_with_a_finite_layer() -> None:
    x, y = diabetes()

    last = trained(data_of(x, y), PLAN._replace(learning_rate=50.0, epochs=5000))[-1]

    assert last.stop_reason is StopReason.DIVERGED
    assert not np.isfinite(last.cost)
    assert np.isfinite(last.layer.w).all()


def test_inputs_whose_squares_overflow_end_as_diverged() -> None:
    x, y = diabetes()

    last = trained(data_of(x * 1e200, y), PLAN)[-1]

    assert last.stop_reason is StopReason.DIVERGED


@pytest.mark.parametrize(("rows", "inputs"), [(50, 8), (40, 700), (600, 550)])
def test_smoothness_is_the_largest_singular_value_rounded_up_at_most(
    rows: int, inputs: int
) -> None:
    x = np.random.default_rng(0).normal(size=(rows, inputs)) + 0.2
    objective = Objective("sigmoid", "cross_entropy", x, np.zeros((rows, 1)), l2=0.5)

    found = learning_rate.smoothness(objective)

    largest = np.linalg.norm(np.column_stack((x, np.ones(rows))), 2)
    exact = 0.25 * largest**2 / rows + 0.5
    assert exact * (1 - 1e-12) <= found <= exact * 1.02


def test_expected_smoothness_goes_from_the_worst_row_to_the_whole() -> None:
    x, y = diabetes()
    objective = Objective("identity", "half_squared_error", x, y, 0.0)

    bounds = [learning_rate.expected_smoothness(objective, size) for size in (1, 10, 100, len(x))]

    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == pytest.approx(np.square(x).sum(axis=1).max() + 1.0)
    assert bounds[-1] == learning_rate.smoothness(objective)


def test_squared_error_through_a_sigmoid_reaches_the_minimum_of_scipy() -> None:
    x, y = breast_cancer()
    plan = TrainingPlan(**(PLAN._asdict() | {"activation": "sigmoid", "l2": 0.001, "epochs": 3000}))
    objective = Objective("sigmoid", "half_squared_error", x, y, 0.001)

    last = trained(data_of(x, y), plan)[-1]

    def at(p: Array) -> float:
        return value(objective, Layer(p[None, :-1], p[-1:], "sigmoid"))

    def pull_at(p: Array) -> Array:
        pull = slope(objective, Layer(p[None, :-1], p[-1:], "sigmoid"))
        return np.append(pull.dC_dw, pull.dC_db)

    reference = minimize(at, np.zeros(31), jac=pull_at, method="BFGS")
    assert last.cost == pytest.approx(reference.fun, rel=1e-3)
