from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.linear_model import LogisticRegression, Ridge

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.lbfgs import Lbfgs, prepare
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.preconditioner import SIDE_MAX
from app.numeric.rows import rows_of
from tests.numeric.builders import PAIRS, allowed_targets, in_blocks
from tests.numeric.second_order import (
    HARD_INPUTS,
    HARD_PROBLEMS,
    LOSSES,
    arrived,
    assert_resuming_changes_nothing,
    conditioned,
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
SMOOTH = [pair for pair in PAIRS if ACTIVATIONS[pair[0]].smooth and pair[1] != "huber"]
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
    scale: Array | float = 1.0,
    l2: float = 0.1,
    weight: Array | None = None,
) -> Objective:
    """Targets anywhere in the range, which no layer meets."""
    x = np.random.default_rng(seed).normal(size=(60, 4)) * scale
    y = allowed_targets(seed, 60, 3, activation, cost)
    return Objective(activation, cost, rows_of(x, y, weight), l2=l2)


def standardised(x: Array) -> Array:
    unit: Array = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    return unit


def one_hot(classes: Array) -> Array:
    rows: Array = np.eye(int(classes.max()) + 1)[classes.astype(int)]
    return rows


def counted(objective: Objective) -> list[int]:
    """A list with one number that counts the passes which give f and its slope from now on."""
    count, evaluate = [0], objective.value_and_slope

    def value_and_slope(parameters: Array) -> tuple[float, Array]:
        count[0] += 1
        return evaluate(parameters)

    objective.value_and_slope = value_and_slope  # type: ignore[method-assign]
    return count


@pytest.mark.parametrize("cost", CASES)
@pytest.mark.parametrize(("kind", "l2"), HARD_PROBLEMS)
def test_raw_hard_inputs_reach_the_minimum_of_scipy(kind: str, l2: float, cost: str) -> None:
    x = hard_inputs(kind, 0)
    y = hard_targets(x, 1, CASES[cost].draw)
    objective = Objective(CASES[cost].activation, cost, rows_of(x, y), l2=l2)

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert state.epoch <= 30
    assert excess(objective, state, least_value(LOSSES[cost], x, y, l2)) <= 1e-6


@pytest.mark.parametrize("kind", HARD_INPUTS)
def test_raw_hard_inputs_reach_the_softmax_minimum_of_scikit_learn(kind: str) -> None:
    x = hard_inputs(kind, 0)
    scores = hard_targets(x, 1, lambda random, score: score + random.gumbel(size=score.shape))
    y = np.eye(3)[np.where(np.abs(scores[:, 0]) < 0.5, 2, scores.argmax(axis=1))]
    l2 = 1e-2 if kind == "wide" else 0.0
    # Without a penalty the peer may have unit columns, and each only once: the minimum is the same.
    unit = x if l2 else standardised(x)
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
    assert excess(objective, state, float(least)) <= 1e-6


@pytest.mark.parametrize("kind", ["plain", "scales", "offset", "duplicates", "constant"])
@pytest.mark.parametrize(("activation", "cost"), SMOOTH)
def test_scipy_finds_nothing_lower_from_where_a_run_ends(
    activation: str, cost: str, kind: str
) -> None:
    x = hard_inputs(kind, 0)
    y = hard_targets(x, 1, _inside(activation))
    objective = Objective(activation, cost, rows_of(x, y))

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert state.cost <= _lower(activation, cost, x, y, state) * (1.0 + 1e-6)


def _inside(activation: str) -> Callable[[np.random.Generator, Array], Array]:
    """Noisy outputs of a layer, which no layer meets: the minimum is far above 0."""

    def draw(random: np.random.Generator, score: Array) -> Array:
        if activation == "softmax":
            return one_hot((score + random.gumbel(size=score.shape)).argmax(axis=1))
        forward = ACTIVATIONS[activation].forward
        return forward(0.5 * score + 0.3 * random.normal(size=score.shape))

    return draw


def _lower(activation: str, cost: str, x: Array, y: Array, state: State) -> float:
    """Where SciPy's BFGS arrives from P, in an orthonormal basis of the columns and ones."""
    design, _ = conditioned(x, 0.0)
    there = Objective(activation, cost, rows_of(design[:, :-1], y))
    z = state.parameters @ np.vstack((x.T, np.ones(len(x))))
    solution, *_ = np.linalg.lstsq(design, z.T, rcond=None)
    start = np.asarray(solution.T, dtype=np.float64)

    def value(v: Array) -> float:
        return there.value(v.reshape(start.shape))

    def slope(v: Array) -> Array:
        return there.value_and_slope(v.reshape(start.shape))[1].ravel()

    found = minimize(value, start.ravel(), jac=slope, method="BFGS", options={"gtol": 1e-9})
    return float(found.fun)


def test_breast_cancer_in_raw_units_gets_the_coefficients_of_scikit_learn() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, y[:, None].astype(float)), l2=1e-2)

    state = arrived(prepare(objective, Settings(tolerance=0.0)), steps_max=500)

    peer = LogisticRegression(
        C=1.0 / (len(x) * 1e-2), solver="newton-cholesky", tol=1e-12, max_iter=1000
    ).fit(x, y)
    np.testing.assert_allclose(state.parameters[:, :-1], peer.coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.parameters[:, -1], peer.intercept_, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_digits_reach_the_minimum_of_scikit_learn(dtype: type) -> None:
    x, classes = load_digits(return_X_y=True)
    x, y, l2 = standardised(x), one_hot(classes), 1e-3
    objective = Objective("softmax", "cross_entropy", rows_of(x, y, dtype=dtype), l2=l2)

    state = arrived(prepare(objective, Settings()))

    peer = LogisticRegression(C=1.0 / (len(x) * l2), tol=1e-6, solver="newton-cg").fit(x, classes)
    least = -np.log(peer.predict_proba(x)[np.arange(len(x)), classes]).mean()
    least += 0.5 * l2 * np.sum(peer.coef_**2)
    exact = Objective("softmax", "cross_entropy", rows_of(x, y), l2=l2)
    assert state.converged
    assert excess(exact, state, float(least)) <= 1e-6


@pytest.mark.parametrize("kind", ["plain", "scales", "offset", "duplicates"])
def test_float32_rows_reach_the_minimum_of_the_same_rows_in_float64(kind: str) -> None:
    x = hard_inputs(kind, 0, rows=2000).astype(np.float32).astype(np.float64)
    y = hard_targets(x, 1, flipped_labels)
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, y, dtype=np.float32))

    state = arrived(prepare(objective, Settings()))

    exact = Objective("sigmoid", "cross_entropy", rows_of(x, y))
    assert state.converged
    assert excess(exact, state, least_value(LOSSES["cross_entropy"], x, y, 0.0)) <= 1e-6


# Counted in the prototype this one had to beat: passes to a cost within 1e-6 of the minimum.
@pytest.mark.parametrize(
    ("load", "activation", "cost", "l2", "passes_max"),
    [
        (load_digits, "softmax", "cross_entropy", 1 / 1797, 76),
        (load_digits, "sigmoid", "half_squared_error", 1e-3, 40),
        (load_iris, "sigmoid", "half_squared_error", 1e-4, 24),
    ],
)
def test_few_passes_are_enough(
    load: Callable[..., tuple[Array, Array]],
    activation: str,
    cost: str,
    l2: float,
    passes_max: int,
) -> None:
    x, classes = load(return_X_y=True)
    objective = Objective(activation, cost, rows_of(standardised(x), one_hot(classes)), l2=l2)
    least = arrived(prepare(objective, Settings(tolerance=0.0)), steps_max=1000).cost
    passes = counted(objective)

    run = prepare(objective, Settings())
    state = run.start
    while state.cost > least * (1.0 + 1e-6):
        state = run.step(state)

    assert passes[0] <= passes_max


def test_more_inputs_than_a_gram_matrix_can_have_reach_the_minimum_of_ridge() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(30, SIDE_MAX))
    y = x[:, :1] + random.normal(size=(30, 1))
    objective = Objective("identity", "half_squared_error", rows_of(x, y), l2=10.0)

    state = arrived(prepare(objective, Settings(tolerance=1e-12)))

    peer = Ridge(alpha=300.0, solver="svd").fit(x, y)
    residual = peer.predict(x).ravel() - y[:, 0]
    least = 0.5 * np.mean(residual**2) + 5.0 * np.sum(peer.coef_**2)
    assert state.converged
    assert excess(objective, state, float(least)) <= 1e-9


@pytest.mark.parametrize("scale", [1e2, 1e3])
@pytest.mark.parametrize("kind", ["plain", "scales"])
def test_huber_arrives_where_no_residual_is_within_its_parabola(kind: str, scale: float) -> None:
    x = hard_inputs(kind, 5)
    y = scale * hard_targets(x, 6, heavy_tails)
    objective = Objective("identity", "huber", rows_of(x, y))

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert excess(objective, state, least_value(LOSSES["huber"], x, y, 0.0)) <= 1e-6


def test_outputs_of_unlike_sizes_all_get_there() -> None:
    x = hard_inputs("plain", 0)
    y = hard_targets(x, 1, counts) * [1.0, 1e6]
    objective = Objective("exp", "poisson", rows_of(x, y))
    alone = [Objective("exp", "poisson", rows_of(x, y[:, [k]])) for k in (0, 1)]

    state = arrived(prepare(objective, Settings(tolerance=1e-12)))

    costs = [arrived(prepare(one, Settings(tolerance=0.0))).cost for one in alone]
    assert state.cost == pytest.approx(sum(costs), rel=1e-9)
    assert alone[0].value(state.parameters[:1]) == pytest.approx(costs[0], rel=1e-3)


@settings(max_examples=25)
@given(seeds, st.sampled_from(CONVEX))
def test_weights_do_what_repeated_rows_do(seed: int, pair: tuple[str, str]) -> None:
    times = np.random.default_rng(seed).integers(0, 4, size=60)
    times[:30] += 1
    weighted = problem(seed, *pair, weight=times.astype(float))
    block = next(iter(problem(seed, *pair).rows.blocks()))
    x, y = block.x[:-1].T, block.y.T
    repeated = Objective(
        *pair, rows_of(np.repeat(x, times, axis=0), np.repeat(y, times, axis=0)), l2=0.1
    )

    one, other = (arrived(prepare(o, Settings(tolerance=0.0))) for o in (weighted, repeated))

    assert one.cost == pytest.approx(other.cost, rel=1e-12)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-5, atol=1e-5)


@settings(max_examples=25)
@given(seeds, st.sampled_from(CONVEX), st.integers(1, 40))
def test_streamed_blocks_give_what_one_block_gives(
    seed: int, pair: tuple[str, str], size: int
) -> None:
    weight = np.random.default_rng(seed).random(60) + 0.1
    whole = problem(seed, *pair, weight=weight)
    streamed = Objective(*pair, in_blocks(whole.rows, size), l2=0.1)

    one, other = (arrived(prepare(o, Settings(tolerance=0.0))) for o in (whole, streamed))

    assert one.cost == pytest.approx(other.cost, rel=1e-12)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-5, atol=1e-5)


@settings(max_examples=25)
@given(seeds, st.sampled_from(CONVEX), st.lists(st.integers(-20, 20), min_size=4, max_size=4))
def test_the_units_of_the_inputs_do_not_change_the_costs_on_the_way(
    seed: int, pair: tuple[str, str], exponents: list[int]
) -> None:
    # Powers of 2 round nothing: the same problem in other units.
    units = np.ldexp(1.0, exponents)
    plain, scaled = problem(seed, *pair, l2=0.0), problem(seed, *pair, l2=0.0, scale=units)

    one, other = (trajectory(prepare(o, Settings()), steps_max=9) for o in (plain, scaled))

    shared = min(len(one), len(other))
    np.testing.assert_allclose(
        [state.cost for state in one[:shared]], [state.cost for state in other[:shared]], rtol=1e-7
    )


@settings(max_examples=40)
@given(seeds, st.sampled_from(PAIRS), st.floats(0.1, 5.0))
def test_no_step_raises_the_cost_from_wherever_it_starts(
    seed: int, pair: tuple[str, str], size: float
) -> None:
    objective = problem(seed, *pair, l2=0.01)
    parameters = size * np.random.default_rng(seed).normal(size=objective.shape)
    method = Lbfgs(objective, 1e-8)

    states = trajectory(Run(method.state_at(parameters), method.step, None), steps_max=30)

    assert np.isfinite(states[-1].parameters).all()
    assert states[-1].cost < states[0].cost


@settings(max_examples=20)
@given(seeds, st.sampled_from(PAIRS), st.integers(0, 1000))
def test_resuming_gives_the_same_bits_as_never_stopping(
    seed: int, pair: tuple[str, str], cut: int
) -> None:
    rows = problem(seed, *pair).rows

    assert_resuming_changes_nothing(
        lambda: prepare(Objective(*pair, in_blocks(rows, 25), l2=1e-4), Settings(tolerance=1e-12)),
        cut,
    )


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_where_the_start_is_the_minimum_the_run_stays_there(activation: str, cost: str) -> None:
    y = np.tile([0.1, 0.9], (300, 1))
    objective = Objective(activation, cost, rows_of(hard_inputs("plain", 0), y))

    run = prepare(objective, Settings())
    state = arrived(run)

    assert state.converged
    np.testing.assert_allclose(state.parameters, run.start.parameters, atol=1e-14)


def test_separable_labels_lower_the_cost_until_nothing_is_left() -> None:
    x = np.linspace(-1.0, 1.0, 40)[:, None]
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, (x > 0).astype(float)))

    states = trajectory(prepare(objective, Settings()))

    assert states[-1].cost < 1e-9
    assert np.isfinite(states[-1].parameters).all()


@pytest.mark.parametrize(("inputs", "targets"), [(1.0, 1e200), (1e200, 1.0), (1e160, 1.0)])
def test_a_cost_that_overflows_ends_as_not_finite(inputs: float, targets: float) -> None:
    x = hard_inputs("plain", 0)
    rows = rows_of(inputs * x, targets * x[:, :1])
    run = prepare(Objective("identity", "half_squared_error", rows), Settings())

    state = run.start
    while np.isfinite(state.cost) and state.epoch < 10:
        state = run.step(state)

    assert not np.isfinite(state.cost)
    assert not state.converged
