from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, minimize, nnls
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.method import Run, Settings
from app.numeric.objective import Objective
from app.numeric.proximal_newton import MetricSteps, NewtonSteps, prepare
from app.numeric.rows import rows_of
from tests.numeric.builders import PAIRS, allowed_targets, in_blocks
from tests.numeric.second_order import (
    HARD_INPUTS,
    LOSSES,
    Loss,
    arrived,
    assert_resuming_changes_nothing,
    counts,
    excess,
    flipped_labels,
    hard_inputs,
    hard_targets,
    heavy_tails,
    trajectory,
)

CONVEX = [(activation, cost) for cost, row in COSTS.items() for activation in row.second_derivative]
SMOOTH = [pair for pair in PAIRS if ACTIVATIONS[pair[0]].smooth]
CASES = {
    "cross_entropy": ("sigmoid", flipped_labels),
    "poisson": ("exp", counts),
    "huber": ("identity", heavy_tails),
}
seeds = st.integers(0, 10_000)
limits = st.booleans()


class Penalties(NamedTuple):
    """l1, l2 and w >= 0, as an objective takes them."""

    l1: float
    l2: float
    non_negative: bool


def standardised(x: Array) -> Array:
    unit: Array = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    return unit


def diabetes() -> tuple[Array, Array]:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return x, y[:, None]


def linear(x: Array, y: Array, penalties: Penalties) -> Objective:
    return Objective("identity", "half_squared_error", rows_of(x, y), **penalties._asdict())


def problem(
    seed: int, activation: str, cost: str, penalties: Penalties, *, weight: Array | None = None
) -> Objective:
    """Targets anywhere in the range, which no layer meets."""
    x = np.random.default_rng(seed).normal(size=(60, 4)) * [1.0, 10.0, 0.1, 1.0] + [0, 30, 0, 0]
    y = allowed_targets(seed, 60, 3, activation, cost)
    return Objective(activation, cost, rows_of(x, y, weight), **penalties._asdict())


def stationarity(objective: Objective, parameters: Array) -> float:
    """How far P is from meeting the conditions of a minimum, in columns of unit mean square."""
    _, slope = objective.value_and_slope(parameters)
    w, slope_w = parameters[:, :-1], slope[:, :-1]
    if objective.non_negative:
        pushed = slope_w + objective.l1
        residual = np.where(w > 0.0, np.abs(pushed), np.maximum(-pushed, 0.0))
    else:
        at_zero = np.maximum(np.abs(slope_w) - objective.l1, 0.0)
        residual = np.where(w == 0.0, at_zero, np.abs(slope_w + objective.l1 * np.sign(w)))
    x = np.hstack([block.x[:-1] for block in objective.rows.blocks()])
    sizes = np.maximum(np.sqrt(np.square(x).mean(axis=1)), 1e-12)
    return float(max((residual / sizes).max(), np.abs(slope[:, -1]).max()))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
@pytest.mark.parametrize("positive", [False, True])
def test_diabetes_in_raw_units_gets_the_coefficients_of_scikit_learn(
    positive: bool, share: float
) -> None:
    x, y = diabetes()
    peer = ElasticNet(alpha=1.5, l1_ratio=share, positive=positive, tol=1e-13, max_iter=1_000_000)
    peer.fit(x, y[:, 0])
    objective = linear(x, y, Penalties(1.5 * share, 1.5 * (1.0 - share), positive))

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert state.epoch <= 3
    np.testing.assert_allclose(state.parameters[0, :-1], peer.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(state.parameters[0, -1], peer.intercept_, rtol=1e-6)
    np.testing.assert_array_equal(state.parameters[0, :-1] == 0.0, peer.coef_ == 0.0)


def test_non_negative_weights_without_penalty_are_those_of_scipy() -> None:
    x, y = diabetes()

    state = arrived(prepare(linear(x, y, Penalties(0.0, 0.0, True)), Settings()))

    weights, distance = nnls(x - x.mean(axis=0), y[:, 0] - y.mean())
    np.testing.assert_allclose(state.parameters[0, :-1], weights, rtol=1e-8, atol=1e-10)
    assert state.cost == pytest.approx(0.5 * distance**2 / len(x), rel=1e-12)


def test_the_last_weight_goes_where_the_penalty_reaches_the_largest_slope() -> None:
    x, y = diabetes()
    x = standardised(x)
    largest = float(np.abs(x.T @ (y - y.mean()) / len(x)).max())

    above = arrived(prepare(linear(x, y, Penalties(largest * 1.0001, 0.0, False)), Settings()))
    below = arrived(prepare(linear(x, y, Penalties(largest * 0.9999, 0.0, False)), Settings()))

    assert np.count_nonzero(above.parameters[:, :-1]) == 0
    assert np.count_nonzero(below.parameters[:, :-1]) == 1


def test_each_output_is_a_lasso_of_its_own() -> None:
    x, y = diabetes()
    targets = np.hstack((y, x[:, :1] * y, y**2))

    state = arrived(prepare(linear(x[:, 1:], targets, Penalties(30.0, 0.0, False)), Settings()))

    for row, target in zip(state.parameters, targets.T, strict=True):
        peer = Lasso(alpha=30.0, tol=1e-13, max_iter=1_000_000).fit(x[:, 1:], target)
        np.testing.assert_allclose(row[:-1], peer.coef_, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("steps", [NewtonSteps, MetricSteps])
@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_is_that_of_scikit_learn(
    classes: int, steps: type[NewtonSteps | MetricSteps], share: float
) -> None:
    x, species = load_iris(return_X_y=True)
    x, strength = standardised(x), 0.02
    labels = species if classes == 3 else (species == 1).astype(int)
    y = np.eye(3)[labels] if classes == 3 else labels[:, None].astype(float)
    objective = Objective(
        "softmax" if classes == 3 else "sigmoid",
        "cross_entropy",
        rows_of(x, y),
        l1=strength * share,
        l2=strength * (1.0 - share),
    )
    peer = LogisticRegression(
        C=1.0 / (len(x) * strength), l1_ratio=share, solver="saga", tol=1e-10, max_iter=100_000
    ).fit(x, labels)
    method = steps(objective, 1e-12)

    state = arrived(Run(method.state_at(objective.start()), method.step, None), steps_max=500)

    theirs = np.column_stack((peer.coef_, peer.intercept_))
    assert state.cost == pytest.approx(objective.value(theirs), rel=1e-10)
    np.testing.assert_allclose(state.parameters[:, :-1], peer.coef_, atol=1e-4)
    np.testing.assert_array_equal(state.parameters[:, :-1] == 0.0, peer.coef_ == 0.0)


def least_split(loss: Loss, x: Array, y: Array, penalties: Penalties) -> float:
    """The minimum by SciPy's L-BFGS-B over positive and negative parts, in centred unit columns."""
    deviation = x.std(axis=0)
    scale = np.where(deviation > 1e-9 * np.abs(x).max(axis=0), deviation, 1.0)
    unit = (x - x.mean(axis=0)) / scale
    l1, l2, inputs = penalties.l1 / scale, penalties.l2 / scale**2, x.shape[1]
    upper = 0.0 if penalties.non_negative else np.inf
    low = np.append(np.zeros(2 * inputs), -np.inf)
    high = np.concatenate((np.full(inputs, np.inf), np.full(inputs, upper), [np.inf]))

    def fit(target: Array) -> float:
        def value(v: Array) -> float:
            w = v[:inputs] - v[inputs:-1]
            fitted = float(loss.value(unit @ w + v[-1], target).mean())
            return fitted + 0.5 * float((l2 * w) @ w) + float(l1 @ (v[:inputs] + v[inputs:-1]))

        def slope(v: Array) -> Array:
            w = v[:inputs] - v[inputs:-1]
            slope_z = loss.slope(unit @ w + v[-1], target) / len(x)
            slope_w = unit.T @ slope_z + l2 * w
            return np.concatenate((slope_w + l1, l1 - slope_w, [slope_z.sum()]))

        found = minimize(
            value,
            np.zeros(2 * inputs + 1),
            jac=slope,
            method="L-BFGS-B",
            bounds=Bounds(low, high),
            options={"maxiter": 20_000, "maxfun": 100_000, "ftol": 0.0, "gtol": 1e-10},
        )
        return float(found.fun)

    return sum(fit(target) for target in y.T)


@pytest.mark.parametrize(
    "penalties",
    [Penalties(0.02, 0.0, False), Penalties(0.01, 0.01, False), Penalties(0.005, 0.0, True)],
)
@pytest.mark.parametrize("cost", CASES)
@pytest.mark.parametrize("kind", HARD_INPUTS)
def test_raw_hard_inputs_reach_the_minimum_of_scipy(
    kind: str, cost: str, penalties: Penalties
) -> None:
    activation, draw = CASES[cost]
    x = hard_inputs(kind, 0)
    y = hard_targets(x, 1, draw)
    objective = Objective(activation, cost, rows_of(x, y), **penalties._asdict())

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert excess(objective, state, least_split(LOSSES[cost], x, y, penalties)) <= 1e-6


@pytest.mark.parametrize("kind", HARD_INPUTS)
@pytest.mark.parametrize("non_negative", [False, True])
def test_a_metric_reaches_the_softmax_minimum_of_second_derivatives(
    kind: str, non_negative: bool
) -> None:
    x = hard_inputs(kind, 0)
    scores = hard_targets(x, 1, lambda random, score: score + random.gumbel(size=score.shape))
    y = np.eye(3)[np.where(np.abs(scores[:, 0]) < 0.5, 2, scores.argmax(axis=1))]
    objective = Objective(
        "softmax", "cross_entropy", rows_of(x, y), l1=0.01, l2=1e-4, non_negative=non_negative
    )
    newton, metric = NewtonSteps(objective, 1e-8), MetricSteps(objective, 1e-8)

    one = arrived(Run(newton.state_at(objective.start()), newton.step, None))
    other = arrived(Run(metric.state_at(objective.start()), metric.step, None), steps_max=500)

    assert one.converged
    assert other.converged
    assert other.cost == pytest.approx(one.cost, rel=1e-6)
    assert stationarity(objective, one.parameters) <= 1e-4


@settings(max_examples=60)
@given(seeds, st.sampled_from(SMOOTH), st.floats(0.001, 0.3), st.sampled_from([0.0, 0.1]), limits)
def test_a_run_ends_where_the_conditions_of_a_minimum_hold(
    seed: int, pair: tuple[str, str], l1: float, l2: float, non_negative: bool
) -> None:
    objective = problem(seed, *pair, Penalties(l1, l2, non_negative))

    state = arrived(prepare(objective, Settings(tolerance=1e-13)), steps_max=500)

    assert state.converged
    assert stationarity(objective, state.parameters) <= 1e-5
    assert not non_negative or state.parameters[:, :-1].min() >= 0.0


@settings(max_examples=40)
@given(seeds, st.sampled_from(PAIRS), limits)
def test_no_step_raises_the_cost_from_wherever_it_starts(
    seed: int, pair: tuple[str, str], non_negative: bool
) -> None:
    objective = problem(seed, *pair, Penalties(0.01, 0.0, non_negative))
    parameters = np.abs(np.random.default_rng(seed).normal(size=objective.shape))
    method = MetricSteps(objective, 1e-8)

    states = trajectory(Run(method.state_at(parameters), method.step, None), steps_max=20)

    assert np.isfinite(states[-1].parameters).all()
    assert states[-1].cost < states[0].cost


@settings(max_examples=25)
@given(seeds, st.sampled_from(CONVEX), limits)
def test_weights_do_what_repeated_rows_do(
    seed: int, pair: tuple[str, str], non_negative: bool
) -> None:
    times = np.random.default_rng(seed).integers(0, 4, size=60)
    times[:30] += 1
    penalties = Penalties(0.02, 0.1, non_negative)
    weighted = problem(seed, *pair, penalties, weight=times.astype(float))
    block = next(iter(problem(seed, *pair, penalties).rows.blocks()))
    x, y = np.repeat(block.x[:-1].T, times, axis=0), np.repeat(block.y.T, times, axis=0)
    repeated = Objective(*pair, rows_of(x, y), **penalties._asdict())

    one, other = (arrived(prepare(o, Settings(tolerance=1e-13))) for o in (weighted, repeated))

    assert one.cost == pytest.approx(other.cost, rel=1e-11)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-4, atol=1e-5)


@settings(max_examples=25)
@given(seeds, st.sampled_from(CONVEX), st.integers(1, 40), limits)
def test_streamed_blocks_give_what_one_block_gives(
    seed: int, pair: tuple[str, str], size: int, non_negative: bool
) -> None:
    penalties = Penalties(0.02, 0.1, non_negative)
    weight = np.random.default_rng(seed).random(60) + 0.1
    whole = problem(seed, *pair, penalties, weight=weight)
    streamed = Objective(*pair, in_blocks(whole.rows, size), **penalties._asdict())

    one, other = (arrived(prepare(o, Settings(tolerance=1e-13))) for o in (whole, streamed))

    assert one.cost == pytest.approx(other.cost, rel=1e-11)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-4, atol=1e-5)


@settings(max_examples=30)
@given(seeds, st.sampled_from(PAIRS), st.integers(0, 1000), limits)
def test_resuming_gives_the_same_bits_as_never_stopping(
    seed: int, pair: tuple[str, str], cut: int, non_negative: bool
) -> None:
    penalties = Penalties(0.003, 1e-4, non_negative)
    rows = problem(seed, *pair, penalties).rows

    def fresh() -> Run:
        objective = Objective(*pair, in_blocks(rows, 25), **penalties._asdict())
        return prepare(objective, Settings(tolerance=1e-12))

    assert_resuming_changes_nothing(fresh, cut)


def test_equal_columns_share_the_weight_of_one() -> None:
    x, y = diabetes()
    x = standardised(x)
    penalties = Penalties(2.0, 0.1, False)

    twice = arrived(prepare(linear(np.hstack((x, x)), y, penalties), Settings(tolerance=0.0)))

    # Two halves of a weight cost half as much l2 as the whole.
    once = arrived(prepare(linear(x, y, penalties._replace(l2=0.05)), Settings(tolerance=0.0)))
    weights = twice.parameters[0, :-1]
    np.testing.assert_allclose(weights[:10] + weights[10:], once.parameters[0, :-1], atol=1e-9)
    np.testing.assert_allclose(weights[:10], weights[10:], atol=1e-7)
    assert twice.cost == pytest.approx(once.cost, rel=1e-12)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_digits_get_sparse_weights_in_few_steps(activation: str) -> None:
    x, digit = load_digits(return_X_y=True)
    objective = Objective(
        activation, "cross_entropy", rows_of(x / 16.0, np.eye(10)[digit]), l1=2e-3
    )

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert state.epoch <= 15
    assert stationarity(objective, state.parameters) <= 1e-5
    assert np.mean(state.parameters[:, :-1] == 0.0) > 0.5


@pytest.mark.parametrize("cost", ["cross_entropy", "half_squared_error"])
def test_float32_rows_reach_the_minimum_of_the_same_rows_in_float64(cost: str) -> None:
    x, malignant = load_breast_cancer(return_X_y=True)
    x = standardised(x).astype(np.float32).astype(np.float64)
    y = malignant[:, None].astype(np.float64)
    exact = Objective("sigmoid", cost, rows_of(x, y), l1=0.01)
    single = Objective("sigmoid", cost, rows_of(x, y, dtype=np.float32), l1=0.01)

    state = arrived(prepare(single, Settings()))

    least = arrived(prepare(exact, Settings(tolerance=1e-12))).cost
    assert state.converged
    assert excess(exact, state, least) <= 1e-6


@pytest.mark.parametrize(("inputs", "targets"), [(1.0, 1e200), (1e200, 1.0)])
def test_a_cost_that_overflows_ends_as_not_finite(inputs: float, targets: float) -> None:
    x = hard_inputs("plain", 0)
    run = prepare(linear(inputs * x, targets * x[:, :1], Penalties(0.1, 0.0, False)), Settings())

    state = run.start
    while np.isfinite(state.cost) and state.epoch < 10:
        state = run.step(state)

    assert not np.isfinite(state.cost)
    assert not state.converged


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_where_the_start_is_the_minimum_all_weights_stay_zero(activation: str, cost: str) -> None:
    y = np.tile([0.1, 0.9], (300, 1))
    objective = Objective(activation, cost, rows_of(hard_inputs("plain", 0), y), l1=0.01)

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert not state.parameters[:, :-1].any()
