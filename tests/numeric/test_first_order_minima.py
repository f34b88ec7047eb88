"""Where the first-order solvers end: beside scikit-learn and SciPy, on all rows."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
)
from sklearn.model_selection import StratifiedKFold

from app.numeric import first_order
from app.numeric.activations import Array
from app.numeric.layer import forward
from app.numeric.method import Prepare, Schedule, Settings, State
from app.numeric.objective import Objective
from app.numeric.rows import rows_of
from app.numeric.training import StopReason
from app.numeric.updates import UPDATES
from tests.numeric.builders import PLAN, data_of, settings_of, trained

SOLVERS: dict[str, Prepare] = {name: getattr(first_order, name) for name in UPDATES}
LOWERING = ["gradient_descent", "momentum", "nesterov"]
LOGISTIC = PLAN._replace(activation="sigmoid", cost="cross_entropy")


def standardised(x: Array) -> Array:
    """Constant columns become 0."""
    deviation = x.std(axis=0)
    scaled: Array = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
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


def minimum(name: str, objective: Objective, settings: Settings) -> State:
    run = SOLVERS[name](objective, settings)
    state = run.start
    while state.epoch < settings.epochs and not state.converged:
        state = run.step(state)
    return state


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


@pytest.mark.parametrize("name", LOWERING)
def test_linear_descent_reaches_the_r2_of_scikit_learn(name: str) -> None:
    x, y = diabetes()
    objective = Objective("identity", "half_squared_error", rows_of(x, y))

    last = minimum(name, objective, Settings(epochs=3000, momentum=0.95))

    r2 = LinearRegression().fit(x, y).score(x, y)
    assert 1.0 - 2.0 * last.cost == pytest.approx(r2, abs=1e-6 if name != LOWERING[0] else 1e-4)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_penalised_logistic_descent_reaches_the_minimum_of_scikit_learn(name: str) -> None:
    x, y = breast_cancer()
    l2 = 0.01
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, y), l2=l2)

    last = minimum(name, objective, Settings(epochs=3000))

    reference = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=10_000)
    reference.fit(x, y[:, 0])
    expected = np.append(reference.coef_[0], reference.intercept_)
    np.testing.assert_allclose(last.parameters[0], expected, atol=1e-4)


def labelled(kind: str) -> tuple[Array, Array]:
    """Two classes of a known trouble with 5 % of the labels wrong, standardised."""
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 60) if kind == "more inputs than rows" else (300, 8))
    if kind == "scales from 1e-6 to 1e6":
        x *= 10.0 ** np.linspace(-6, 6, 8)
    elif kind == "means 1e3 deviations away":
        x += 1e3
    elif kind == "duplicate columns":
        x[:, 1] = x[:, 0]
    elif kind == "a constant column":
        x[:, 2] = 5.0
    x = standardised(x)
    above = x[:, :3].sum(axis=1) + 0.5 * random.normal(size=len(x)) > 0
    wrong = random.random(len(x)) < 0.05
    return x, (above ^ wrong)[:, None].astype(float)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(
    "kind",
    [
        "scales from 1e-6 to 1e6",
        "means 1e3 deviations away",
        "duplicate columns",
        "a constant column",
        "more inputs than rows",
    ],
)
def test_standardised_troubles_end_at_the_minimum_of_scikit_learn(kind: str, name: str) -> None:
    x, y = labelled(kind)
    l2 = 0.01
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, y), l2=l2)
    schedule = Schedule("cosine" if name == "adam" else "constant")

    last = minimum(name, objective, Settings(epochs=1500, schedule=schedule))

    solver = LogisticRegression(C=1 / (l2 * len(x)), solver="newton-cholesky", tol=1e-12)
    reference = solver.fit(x, y[:, 0])
    best = objective.value(np.append(reference.coef_[0], reference.intercept_)[None])
    assert last.cost <= best * (1 + 1e-9)
    assert last.cost >= best * (1 - 1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_float32_rows_end_within_a_millionth_of_the_minimum(name: str) -> None:
    x, y = labelled("duplicate columns")
    rows = rows_of(x, y)
    exact = Objective("sigmoid", "cross_entropy", rows, l2=0.01)
    rounded = Objective("sigmoid", "cross_entropy", rows_of(x, y, dtype=np.float32), l2=0.01)
    schedule = Schedule("cosine" if name == "adam" else "constant")

    last = minimum(name, rounded, Settings(epochs=800, schedule=schedule))

    best = minimum("nesterov", exact, Settings()).cost
    assert exact.value(last.parameters) <= best * (1 + 1e-6)


def test_relu_regression_does_as_well_as_scipy_least_squares() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3))
    y = np.maximum(x @ [[1.0], [-2.0], [0.5]] + 1.0, 0.0) + 0.05 * random.random((300, 1))

    plan = settings_of(PLAN._replace(activation="relu"), epochs=2000)
    last = trained(data_of(x, y), plan)[-1]

    def residuals(p: Array) -> Array:
        residual: Array = np.maximum(x @ p[:3] + p[3], 0.0) - y[:, 0]
        return residual

    reference = least_squares(residuals, np.array([0.0, 0.0, 0.0, float(y.mean())]))
    assert last.cost <= reference.cost / len(x) * (1 + 1e-4)
    assert last.cost < 1e-3


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_squared_error_through_a_sigmoid_reaches_the_minimum_of_scipy(name: str) -> None:
    x, y = breast_cancer()
    objective = Objective("sigmoid", "half_squared_error", rows_of(x, y), l2=0.001)
    schedule = Schedule("cosine" if name == "adam" else "constant")

    last = minimum(name, objective, Settings(epochs=3000, schedule=schedule))

    def at(p: Array) -> tuple[float, Array]:
        value, slope = objective.value_and_slope(p[None])
        return value, slope[0]

    start = objective.start()[0]
    reference = minimize(at, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15})
    assert last.cost <= reference.fun * (1 + 1e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_counts_reach_the_minimum_of_scikit_learn_without_a_bound_of_the_curvature(
    name: str,
) -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(300, 5))
    y = random.poisson(np.exp(x @ [[0.8], [-0.5], [0.3], [0.0], [1.0]] - 0.5)).astype(float)
    objective = Objective("exp", "poisson", rows_of(x, y), l2=0.05)
    schedule = Schedule("cosine" if name == "adam" else "constant")

    last = minimum(name, objective, Settings(epochs=1000, schedule=schedule))

    reference = PoissonRegressor(alpha=0.05, solver="newton-cholesky", tol=1e-12).fit(x, y[:, 0])
    best = objective.value(np.append(reference.coef_, reference.intercept_)[None])
    assert last.cost == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.2])
@pytest.mark.parametrize("name", LOWERING)
def test_penalties_on_sizes_reach_the_minimum_of_scikit_learn(
    name: str, l2: float, non_negative: bool
) -> None:
    x, y = diabetes()
    objective = Objective(
        "identity", "half_squared_error", rows_of(x, y), l2=l2, l1=0.1, non_negative=non_negative
    )

    last = minimum(name, objective, Settings(epochs=1500))

    share = 0.1 / (0.1 + l2)
    reference = ElasticNet(alpha=0.1 + l2, l1_ratio=share, positive=non_negative, tol=1e-14)
    reference.fit(x, y[:, 0])
    np.testing.assert_allclose(last.parameters[0, :-1], reference.coef_, atol=1e-6)
    assert ((last.parameters[0, :-1] == 0.0) == (reference.coef_ == 0.0)).all()


@pytest.mark.parametrize(
    ("activation", "cost"),
    [("sigmoid", "cross_entropy"), ("softmax", "cross_entropy"), ("exp", "poisson")],
)
@pytest.mark.parametrize("name", LOWERING)
def test_penalties_on_sizes_end_where_no_weight_gains_by_moving(
    name: str, activation: str, cost: str
) -> None:
    """The conditions of Karush, Kuhn and Tucker: |slope| <= l1, and = l1 against its sign."""
    x, y = iris()
    objective = Objective(activation, cost, rows_of(x, y), l1=0.02)

    last = minimum(name, objective, Settings(epochs=6000, momentum=0.95))

    _, slope = objective.value_and_slope(last.parameters)
    w, pull = last.parameters[:, :-1], slope[:, :-1]
    assert np.abs(slope[:, -1]).max() < 1e-5
    assert (np.abs(pull[w == 0.0]) <= 0.02 + 1e-5).all()
    np.testing.assert_allclose(pull[w != 0.0], -0.02 * np.sign(w[w != 0.0]), atol=1e-5)
    assert (w == 0.0).any()


@pytest.mark.parametrize("batch_size", [None, 50])
@pytest.mark.parametrize("name", LOWERING)
def test_a_rate_far_too_large_ends_as_diverged_with_a_finite_layer(
    name: str, batch_size: int | None
) -> None:
    x, y = diabetes()
    plan = settings_of(
        PLAN._replace(solver=name), learning_rate=50.0, epochs=5000, batch_size=batch_size
    )

    last = trained(data_of(x, y), plan)[-1]

    assert last.stop_reason is StopReason.DIVERGED
    assert not np.isfinite(last.cost)
    assert np.isfinite(last.layer.w).all()


@pytest.mark.parametrize("batch_size", [None, 50])
@pytest.mark.parametrize("name", SOLVERS)
def test_inputs_whose_squares_overflow_end_as_diverged(name: str, batch_size: int | None) -> None:
    x, y = diabetes()

    plan = settings_of(PLAN._replace(solver=name), batch_size=batch_size)
    last = trained(data_of(x * 1e200, y), plan)[-1]

    assert last.stop_reason is StopReason.DIVERGED
