from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from app.numeric.activations import Array
from app.numeric.costs import COSTS
from app.numeric.errors import NumericError
from app.numeric.method import Run, Settings
from app.numeric.newton import Newton, curve_of, prepare
from app.numeric.objective import Objective
from app.numeric.output_blocks import OutputBlocks
from app.numeric.rows import rows_of
from app.numeric.softmax_newton import SoftmaxNewton
from tests.numeric.builders import allowed_targets, in_blocks
from tests.numeric.second_order import (
    HARD_INPUTS,
    HARD_PROBLEMS,
    LOSSES,
    arrived,
    assert_resuming_changes_nothing,
    complex_step_matrix,
    counts,
    excess,
    flipped_labels,
    hard_inputs,
    hard_targets,
    heavy_tails,
    least_value,
    trajectory,
)

CONVEX = [(activation, cost) for cost, row in COSTS.items() for activation in row.second_derivative]
SEPARATE = [pair for pair in CONVEX if pair[0] != "softmax"]
seeds = st.integers(0, 10_000)


class Case(NamedTuple):
    activation: str
    draw: Callable[[np.random.Generator, Array], Array]


CASES = {
    "cross_entropy": Case("sigmoid", flipped_labels),
    "poisson": Case("exp", counts),
    "huber": Case("identity", heavy_tails),
}


def problem(
    seed: int,
    activation: str,
    cost: str,
    *,
    rows: int = 60,
    inputs: int = 4,
    outputs: int = 3,
    l2: float = 0.0,
    weight: Array | None = None,
) -> Objective:
    """Targets anywhere in the range, which no layer meets."""
    x = np.random.default_rng(seed).normal(size=(rows, inputs))
    y = allowed_targets(seed, rows, outputs, activation, cost)
    return Objective(activation, cost, rows_of(x, y, weight), l2=l2)


def slope_of(objective: Objective) -> Callable[[Array], Array]:
    """The slope of an objective by plain formulas that take complex P."""
    blocks = list(objective.rows.blocks())
    x, y = blocks[0].x, blocks[0].y
    weight = 1.0 if blocks[0].weight is None else blocks[0].weight
    penalised = np.append(np.ones(objective.rows.inputs), 0.0)

    def slope(parameters: Array) -> Array:
        delta = COSTS[objective.cost].delta(objective.sigma, (parameters @ x).T, y.T).T
        return (weight * delta) @ x.T / objective.rows.total + objective.l2 * penalised * parameters

    return slope


@pytest.mark.parametrize(("activation", "cost"), SEPARATE)
@pytest.mark.parametrize("weighted", [False, True])
def test_matrices_are_the_derivatives_of_the_slope(
    activation: str, cost: str, weighted: bool
) -> None:
    weight = np.random.default_rng(1).random(60) + 0.1 if weighted else None
    objective = problem(0, activation, cost, l2=0.3, weight=weight)
    parameters = np.random.default_rng(2).normal(size=objective.shape)

    found = OutputBlocks(objective).evaluate(
        parameters, np.ones(3), [(curve_of(activation, cost), range(3))]
    )

    wanted = complex_step_matrix(slope_of(objective), parameters)
    by_output = wanted.reshape(3, 5, 3, 5)
    for output in range(3):
        np.testing.assert_allclose(
            found.matrices[output], by_output[output, :, output], rtol=1e-12, atol=1e-13
        )
    np.testing.assert_allclose(found.slope, slope_of(objective)(parameters), atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_softmax_matrix_is_the_derivative_of_the_slope(weighted: bool) -> None:
    weight = np.random.default_rng(1).random(60) + 0.1 if weighted else None
    objective = problem(0, "softmax", "cross_entropy", l2=0.3, weight=weight)
    parameters = np.random.default_rng(2).normal(size=objective.shape)

    found = SoftmaxNewton(objective, 0.0).evaluate(parameters)

    wanted = complex_step_matrix(slope_of(objective), parameters)
    np.testing.assert_allclose(found.matrix, wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.slope, slope_of(objective)(parameters), atol=1e-13)
    assert found.value == pytest.approx(objective.value(parameters), rel=1e-14)


@pytest.mark.parametrize("cost", CASES)
@pytest.mark.parametrize(("kind", "l2"), HARD_PROBLEMS)
def test_raw_hard_inputs_reach_the_minimum_of_scipy(kind: str, l2: float, cost: str) -> None:
    x = hard_inputs(kind, 0)
    y = hard_targets(x, 1, CASES[cost].draw)
    objective = Objective(CASES[cost].activation, cost, rows_of(x, y), l2=l2)

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert state.epoch <= 25
    assert excess(objective, state, least_value(LOSSES[cost], x, y, l2)) <= 1e-6


@pytest.mark.parametrize("kind", HARD_INPUTS)
def test_raw_hard_inputs_reach_the_softmax_minimum_of_scikit_learn(kind: str) -> None:
    x = hard_inputs(kind, 0)
    classes = hard_targets(x, 1, lambda random, score: score + random.gumbel(size=score.shape))
    y = np.eye(3)[np.where(np.abs(classes[:, 0]) < 0.5, 2, classes.argmax(axis=1))]
    l2 = 1e-2 if kind == "wide" else 0.0
    # Without a penalty the peer may have unit columns, and each only once: the minimum is the same.
    unit = x if l2 else (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    if kind in ("duplicates", "constant"):
        unit = unit[:, :6]
    objective = Objective("softmax", "cross_entropy", rows_of(x, y), l2=l2)
    peer = LogisticRegression(
        C=1.0 / (len(x) * l2) if l2 else np.inf, solver="newton-cholesky", tol=1e-12, max_iter=1000
    )

    state = arrived(prepare(objective, Settings()))

    probability = peer.fit(unit, y.argmax(axis=1)).predict_proba(unit)
    least = -np.log((probability * y).sum(axis=1)).mean() + 0.5 * l2 * np.sum(peer.coef_**2)
    assert state.converged
    assert state.epoch <= 25
    assert excess(objective, state, float(least)) <= 1e-6


def test_breast_cancer_in_raw_units_gets_the_coefficients_of_scikit_learn() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, y[:, None].astype(float)), l2=1e-2)

    state = arrived(prepare(objective, Settings(tolerance=1e-14)))

    peer = LogisticRegression(
        C=1.0 / (len(x) * 1e-2), solver="newton-cholesky", tol=1e-12, max_iter=1000
    ).fit(x, y)
    np.testing.assert_allclose(state.parameters[:, :-1], peer.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(state.parameters[:, -1], peer.intercept_, rtol=1e-6)


def test_iris_gets_the_coefficients_of_scikit_learn() -> None:
    x, species = load_iris(return_X_y=True)
    objective = Objective("softmax", "cross_entropy", rows_of(x, np.eye(3)[species]), l2=1e-2)

    state = arrived(prepare(objective, Settings(tolerance=1e-14)))

    peer = LogisticRegression(
        C=1.0 / (len(x) * 1e-2), solver="newton-cholesky", tol=1e-12, max_iter=1000
    ).fit(x, species)
    np.testing.assert_allclose(state.parameters[:, :-1], peer.coef_, rtol=1e-6)
    b = peer.intercept_ - peer.intercept_.mean()
    np.testing.assert_allclose(state.parameters[:, -1], b, rtol=1e-6)


def test_counts_get_the_coefficients_of_scikit_learn() -> None:
    x = hard_inputs("plain", 3)
    y = hard_targets(x, 4, counts)
    objective = Objective("exp", "poisson", rows_of(x, y), l2=1e-2)

    state = arrived(prepare(objective, Settings(tolerance=1e-14)))

    for row, target in zip(state.parameters, y.T, strict=True):
        peer = PoissonRegressor(alpha=1e-2, solver="newton-cholesky", tol=1e-12).fit(x, target)
        np.testing.assert_allclose(row, np.append(peer.coef_, peer.intercept_), rtol=1e-6)


def test_huber_arrives_where_every_residual_starts_far_out() -> None:
    x = hard_inputs("offset", 5)
    y = 1e4 * hard_targets(x, 6, heavy_tails)
    objective = Objective("identity", "huber", rows_of(x, y))

    state = arrived(prepare(objective, Settings(tolerance=1e-12)))

    assert state.converged
    assert excess(objective, state, _least_absolute_deviation(x, y)) <= 1e-6


def _least_absolute_deviation(x: Array, y: Array) -> float:
    """A lower bound of the Huber minimum: |r| - 1/2 is nowhere above the Huber cost."""
    rows, design = len(x), np.hstack((x - x.mean(axis=0), np.ones((len(x), 1))))
    weights = np.concatenate((np.zeros(design.shape[1]), np.full(2 * rows, 1.0 / rows)))
    equal = np.hstack((design, np.eye(rows), -np.eye(rows)))
    free = [(None, None)] * design.shape[1] + [(0, None)] * (2 * rows)
    found = [linprog(weights, A_eq=equal, b_eq=target, bounds=free).fun for target in y.T]
    return sum(float(least or 0.0) - 0.5 for least in found)


@settings(max_examples=25)
@given(seeds, st.sampled_from(CONVEX))
def test_weights_do_what_repeated_rows_do(seed: int, pair: tuple[str, str]) -> None:
    times = np.random.default_rng(seed).integers(0, 4, size=60)
    times[:30] += 1
    weighted = problem(seed, *pair, l2=0.1, weight=times.astype(float))
    block = next(iter(problem(seed, *pair).rows.blocks()))
    x, y = block.x[:-1].T, block.y.T
    repeated = Objective(
        *pair, rows_of(np.repeat(x, times, axis=0), np.repeat(y, times, axis=0)), l2=0.1
    )

    one, other = (arrived(prepare(o, Settings(tolerance=0.0))) for o in (weighted, repeated))

    assert one.cost == pytest.approx(other.cost, rel=1e-12)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-6, atol=1e-6)


@settings(max_examples=25)
@given(seeds, st.sampled_from(CONVEX), st.integers(1, 40))
def test_streamed_blocks_give_what_one_block_gives(
    seed: int, pair: tuple[str, str], size: int
) -> None:
    weight = np.random.default_rng(seed).random(60) + 0.1
    whole = problem(seed, *pair, l2=0.1, weight=weight)
    streamed = Objective(*pair, in_blocks(whole.rows, size), l2=0.1)

    one, other = (arrived(prepare(o, Settings(tolerance=0.0))) for o in (whole, streamed))

    assert one.cost == pytest.approx(other.cost, rel=1e-13)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-6, atol=1e-7)


@settings(max_examples=40)
@given(seeds, st.sampled_from(CONVEX), st.integers(0, 1000), st.sampled_from([0.0, 0.1]))
def test_resuming_gives_the_same_bits_as_never_stopping(
    seed: int, pair: tuple[str, str], cut: int, l2: float
) -> None:
    objective = problem(seed, *pair, outputs=5, l2=l2)
    # Outputs of unlike difficulty, so that they leave the products one by one.
    for block in objective.rows.blocks():
        if pair[0] != "softmax":
            block.y[1:3] = block.y[1:3].mean(axis=1, keepdims=True)

    assert_resuming_changes_nothing(
        lambda: prepare(
            Objective(*pair, in_blocks(objective.rows, 25), l2=l2), Settings(tolerance=1e-10)
        ),
        cut,
    )


@settings(max_examples=40)
@given(seeds, st.sampled_from(CONVEX), st.floats(0.1, 30.0))
def test_no_step_raises_the_cost_from_wherever_it_starts(
    seed: int, pair: tuple[str, str], size: float
) -> None:
    objective = problem(seed, *pair, l2=0.01)
    parameters = size * np.random.default_rng(seed).normal(size=objective.shape)
    method: Newton | SoftmaxNewton
    method = SoftmaxNewton(objective, 1e-8) if pair[0] == "softmax" else Newton(objective, 1e-8)

    states = trajectory(Run(method.state_at(parameters), method.step, None), steps_max=30)

    assert np.isfinite(states[-1].parameters).all()
    assert states[-1].cost < states[0].cost


def test_an_output_that_has_arrived_stands_still_while_others_go_on() -> None:
    x = hard_inputs("plain", 0)
    easy = np.full((300, 1), 0.5)
    hard = hard_targets(x, 1, flipped_labels)
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, np.hstack((easy, hard))))

    states = trajectory(prepare(objective, Settings(tolerance=1e-12)))

    assert len(states) > 4
    for state in states[2:]:
        assert state.parameters[0].tobytes() == states[1].parameters[0].tobytes()
    alone = arrived(
        prepare(Objective("sigmoid", "cross_entropy", rows_of(x, hard)), Settings(tolerance=1e-12))
    )
    np.testing.assert_allclose(states[-1].parameters[1:], alone.parameters, rtol=1e-9)


@pytest.mark.parametrize("kind", ["plain", "duplicates", "offset"])
@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_a_softmax_layer_does_not_drift(kind: str, l2: float) -> None:
    x = hard_inputs(kind, 0)
    random = np.random.default_rng(1)
    y = np.eye(4)[(x[:, :4] - x[:, :4].mean(axis=0) + random.gumbel(size=(300, 4))).argmax(axis=1)]
    objective = Objective("softmax", "cross_entropy", rows_of(x, y), l2=l2)

    state = arrived(prepare(objective, Settings(tolerance=0.0)))

    size = np.abs(state.parameters).max()
    np.testing.assert_allclose(state.parameters.sum(axis=0), 0.0, atol=1e-10 * size)


def test_float32_rows_reach_the_minimum_of_float64() -> None:
    x = hard_inputs("plain", 0, rows=2000, inputs=20)
    y = hard_targets(x, 1, flipped_labels)
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, y, dtype=np.float32), l2=1e-3)

    state = arrived(prepare(objective, Settings()))

    exact = Objective("sigmoid", "cross_entropy", rows_of(x, y), l2=1e-3)
    assert state.converged
    assert excess(exact, state, least_value(LOSSES["cross_entropy"], x, y, 1e-3)) <= 1e-6


def test_separable_labels_lower_the_cost_until_the_steps_run_out() -> None:
    x = np.linspace(-1.0, 1.0, 40)[:, None]
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, (x > 0).astype(float)))

    states = trajectory(prepare(objective, Settings()), steps_max=25)

    assert states[-1].cost < 1e-9
    assert np.isfinite(states[-1].parameters).all()


def test_a_cost_that_overflows_ends_as_not_finite() -> None:
    x = hard_inputs("plain", 0)
    objective = Objective(
        "identity", "half_squared_error", rows_of(x, np.full((300, 1), 1e200) * x[:, :1])
    )

    state = arrived(prepare(objective, Settings()))

    assert not np.isfinite(state.cost)


@pytest.mark.parametrize(
    ("activation", "cost"), [("sigmoid", "half_squared_error"), ("tanh", "huber")]
)
def test_a_cost_that_is_not_convex_is_refused(activation: str, cost: str) -> None:
    with pytest.raises(NumericError, match="needs a convex cost"):
        prepare(problem(0, activation, cost), Settings())
