from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import least_squares
from sklearn.datasets import load_digits, load_iris

from app.numeric.activations import ACTIVATIONS, Activation, Array
from app.numeric.costs import COSTS
from app.numeric.errors import NumericError
from app.numeric.levenberg_marquardt import (
    LevenbergMarquardt,
    gauss_newton_curve,
    prepare,
    whole_curve,
)
from app.numeric.method import Run, Settings
from app.numeric.objective import Objective
from app.numeric.output_blocks import OutputBlocks
from app.numeric.rows import rows_of
from tests.numeric.builders import allowed_targets, in_blocks
from tests.numeric.second_order import (
    HARD_PROBLEMS,
    arrived,
    assert_resuming_changes_nothing,
    conditioned,
    excess,
    hard_inputs,
    hard_targets,
    trajectory,
)

ELEMENTWISE = [name for name, sigma in ACTIVATIONS.items() if sigma.elementwise]
# Typed for real z; complex steps are what they are made for.
COMPLEX: Any = ACTIVATIONS
HALF_SQUARES: Any = COSTS["half_squared_error"]
SMOOTH = [name for name in ELEMENTWISE if ACTIVATIONS[name].smooth]
seeds = st.integers(0, 10_000)


def squared(
    activation: str, x: Array, y: Array, *, l2: float = 0.0, weight: Array | None = None
) -> Objective:
    return Objective(activation, "half_squared_error", rows_of(x, y, weight), l2=l2)


def problem(
    seed: int,
    activation: str,
    *,
    rows: int = 60,
    outputs: int = 3,
    l2: float = 0.0,
    weight: Array | None = None,
) -> Objective:
    """Targets anywhere in the range, which no layer meets."""
    x = np.random.default_rng(seed).normal(size=(rows, 4))
    y = allowed_targets(seed, rows, outputs, activation, "half_squared_error")
    return squared(activation, x, y, l2=l2, weight=weight)


def noisy(random: np.random.Generator, z: Array, activation: str) -> Array:
    """What a layer gives, with noise, inside the range; one target in twenty is anything."""
    sigma = ACTIVATIONS[activation]
    y = sigma.forward(z) + 0.1 * random.normal(size=z.shape)
    spoilt = random.random(z.shape) < 0.05
    y[spoilt] = sigma.forward(random.normal(size=z.shape))[spoilt]
    low, high = sigma.output_range.low, sigma.output_range.high
    return np.clip(y, low + 1e-3, high - 1e-3)


def fit(sigma: Activation, design: Array, y: Array, penalty: Array, start: Array) -> float:
    """Where SciPy's trust region arrives from one start: mean 1/2 r^2 + 1/2 penalty v^2."""
    root = np.sqrt(len(y) * penalty)
    derivative = sigma.derivative
    assert derivative is not None

    def slopes(v: Array) -> Array:
        z = design @ v
        return np.vstack((design * derivative(z, sigma.forward(z))[:, None], np.diag(root)))

    def residuals(v: Array) -> Array:
        return np.append(sigma.forward(design @ v) - y, root * v)

    found = least_squares(
        residuals,
        start,
        jac=slopes,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=100,
    )
    return float(found.cost) / len(y)


def best_of_starts(sigma: Activation, x: Array, y: Array, starts: int) -> float:
    """The sum over outputs of the lowest cost that SciPy finds from starts of all sizes."""
    random = np.random.default_rng(0)
    design, penalty = conditioned(x, 0.0)
    sizes = np.geomspace(1e-2, 3.0, starts)
    return sum(
        min(
            fit(sigma, design, target, penalty, size * random.normal(size=design.shape[1]))
            for size in sizes
        )
        for target in y.T
    )


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("near", [False, True])
def test_matrices_are_those_of_complex_steps(activation: str, weighted: bool, near: bool) -> None:
    """sigma' is a step of sigma; the whole second derivative, one of the slope of the cost."""
    weight = np.random.default_rng(1).random(60) + 0.1 if weighted else None
    objective = problem(0, activation, l2=0.3, weight=weight)
    block = next(iter(objective.rows.blocks()))
    parameters = np.random.default_rng(2).normal(size=objective.shape)
    curve = (whole_curve(activation) if near else None) or gauss_newton_curve(activation)

    found = OutputBlocks(objective).evaluate(parameters, np.ones(3), [(curve, range(3))])

    z = (parameters @ block.x + 1e-30j).T
    slope: Array = COMPLEX[activation].forward(z).imag / 1e-30
    whole: Array = HALF_SQUARES.delta(COMPLEX[activation], z, block.y.T).imag / 1e-30
    curvature = (whole if near else slope**2).T
    curvature = curvature * (1.0 if block.weight is None else block.weight)
    penalty = np.diag(np.append(np.full(4, 0.3), 0.0))
    for output in range(3):
        wanted = (curvature[output] * block.x) @ block.x.T / 60 + penalty
        np.testing.assert_allclose(found.matrices[output], wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus", "elu", "exp", "identity"])
@pytest.mark.parametrize(("kind", "l2"), HARD_PROBLEMS)
def test_raw_hard_inputs_reach_the_minimum_of_scipy(activation: str, kind: str, l2: float) -> None:
    x = hard_inputs(kind, 0)
    y = hard_targets(x, 1, lambda random, z: noisy(random, z, activation))
    objective = squared(activation, x, y, l2=l2)

    state = arrived(prepare(objective, Settings()))

    sigma = ACTIVATIONS[activation]
    design, penalty = conditioned(x, l2)
    least = 0.0
    for target, b in zip(y.T, objective.start()[:, -1], strict=True):
        start = np.append(np.zeros(len(penalty) - 1), b)
        least += fit(sigma, design, target, penalty, start)
    assert state.converged
    assert state.epoch <= 60
    assert excess(objective, state, least) <= 1e-6


def saturated_problem() -> tuple[Objective, Array]:
    """A start so far out that sigma is flat on 95 % of the rows."""
    x = hard_inputs("plain", 11, rows=500, inputs=8)
    y = hard_targets(x, 12, lambda random, z: noisy(random, 2.0 * z, "sigmoid"))
    objective = squared("sigmoid", x, y)
    return objective, 50.0 * np.random.default_rng(13).normal(size=objective.shape)


def test_a_saturated_start_reaches_the_best_of_twenty_starts_of_scipy() -> None:
    objective, parameters = saturated_problem()
    method = LevenbergMarquardt(objective, 1e-8)
    start = method.state_at(parameters)

    state = arrived(Run(start, method.step, None))

    block = next(iter(objective.rows.blocks()))
    least = best_of_starts(objective.sigma, block.x[:-1].T, block.y.T, 20)
    assert start.cost > 10.0 * least
    assert excess(objective, state, least) <= 1e-6


def test_a_saturated_start_holds_gradient_descent() -> None:
    """What the test above is worth: 2,000 steps of 1 / L do not come half of the way."""
    objective, parameters = saturated_problem()
    start = objective.value(parameters)
    block = next(iter(objective.rows.blocks()))
    largest = np.linalg.eigvalsh(block.x @ block.x.T / objective.rows.total)[-1]
    rate = 1.0 / (objective.curvature * largest)

    for _ in range(2000):
        parameters = parameters - rate * objective.value_and_slope(parameters)[1]

    method = LevenbergMarquardt(objective, 1e-8)
    least = arrived(Run(method.start, method.step, None)).cost
    assert objective.value(parameters) > 0.5 * (start + least)


@pytest.mark.parametrize(
    ("load", "l2", "steps"), [(load_iris, 1.0 / 150.0, 9), (load_digits, 1e-3, 35)]
)
def test_labels_fitted_by_a_sigmoid_take_few_steps(
    load: Callable[..., tuple[Array, NDArray[np.intp]]], l2: float, steps: int
) -> None:
    """The Gauss-Newton matrix alone takes 32 and 58: it sees half of the curvature of the tails."""
    x, codes = load(return_X_y=True)

    state = arrived(
        prepare(squared("sigmoid", x, np.eye(codes.max() + 1)[codes], l2=l2), Settings())
    )

    assert state.converged
    assert state.epoch <= steps


@settings(max_examples=25)
@given(seeds, st.sampled_from(SMOOTH))
def test_weights_do_what_repeated_rows_do(seed: int, activation: str) -> None:
    times = np.random.default_rng(seed).integers(0, 4, size=60)
    times[:30] += 1
    weighted = problem(seed, activation, l2=0.1, weight=times.astype(float))
    block = next(iter(weighted.rows.blocks()))
    x, y = block.x[:-1].T, block.y.T
    repeated = squared(activation, np.repeat(x, times, axis=0), np.repeat(y, times, axis=0), l2=0.1)

    one, other = (arrived(prepare(o, Settings(tolerance=1e-14))) for o in (weighted, repeated))

    assert one.cost == pytest.approx(other.cost, rel=1e-11)


@settings(max_examples=25)
@given(seeds, st.sampled_from(SMOOTH), st.integers(1, 40))
def test_streamed_blocks_give_what_one_block_gives(seed: int, activation: str, size: int) -> None:
    weight = np.random.default_rng(seed).random(60) + 0.1
    whole = problem(seed, activation, l2=0.1, weight=weight)
    streamed = Objective(activation, "half_squared_error", in_blocks(whole.rows, size), l2=0.1)

    one, other = (arrived(prepare(o, Settings(tolerance=1e-14))) for o in (whole, streamed))

    assert one.cost == pytest.approx(other.cost, rel=1e-11)


@settings(max_examples=50)
@given(seeds, st.sampled_from(ELEMENTWISE), st.integers(0, 1000), st.sampled_from([0.0, 0.1]))
def test_resuming_gives_the_same_bits_as_never_stopping(
    seed: int, activation: str, cut: int, l2: float
) -> None:
    rows = in_blocks(problem(seed, activation, outputs=5).rows, 25)

    assert_resuming_changes_nothing(
        lambda: prepare(
            Objective(activation, "half_squared_error", rows, l2=l2), Settings(tolerance=1e-10)
        ),
        cut,
    )


@settings(max_examples=50)
@given(seeds, st.sampled_from(ELEMENTWISE), st.floats(0.1, 50.0))
def test_no_step_raises_the_cost_from_wherever_it_starts(
    seed: int, activation: str, size: float
) -> None:
    objective = problem(seed, activation)
    parameters = size * np.random.default_rng(seed).normal(size=objective.shape)
    method = LevenbergMarquardt(objective, 1e-8)

    states = trajectory(Run(method.state_at(parameters), method.step, None), steps_max=40)

    assert np.isfinite(states[-1].parameters).all()
    assert states[-1].cost < states[0].cost


def test_an_output_that_has_arrived_stands_still_while_others_go_on() -> None:
    x = hard_inputs("plain", 0)
    hard = hard_targets(x, 1, lambda random, z: noisy(random, 3.0 * z, "sigmoid"))
    y = np.hstack((np.full((300, 1), 0.25), hard))

    states = trajectory(prepare(squared("sigmoid", x, y), Settings(tolerance=1e-12)))

    assert len(states) > 5
    for state in states[2:]:
        assert state.parameters[0].tobytes() == states[1].parameters[0].tobytes()
    alone = arrived(prepare(squared("sigmoid", x, hard), Settings(tolerance=1e-12)))
    np.testing.assert_allclose(states[-1].parameters[1:], alone.parameters, rtol=1e-4)


def test_an_output_that_fails_does_not_hold_up_the_others() -> None:
    objective, parameters = saturated_problem()
    method = LevenbergMarquardt(objective, 1e-8)
    parameters[0] = method.start.parameters[0]

    states = trajectory(Run(method.state_at(parameters), method.step, None))

    dampings = np.array([state.memory[3] for state in states])
    assert (np.diff(dampings[:, 1]) > 0).any()
    assert (np.diff(dampings[:, 0]) <= 0).all()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_an_activation_with_a_kink_finds_the_layer_that_made_the_targets(activation: str) -> None:
    x = hard_inputs("plain", 0)
    y = hard_targets(x, 1, lambda _, z: ACTIVATIONS[activation].forward(z + 0.5))

    state = arrived(prepare(squared(activation, x, y), Settings()))

    assert state.converged
    assert state.cost < 1e-20


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus", "exp", "identity"])
def test_a_fit_through_every_target_ends(activation: str) -> None:
    x = hard_inputs("wide", 0)
    sigma = ACTIVATIONS[activation]
    y = sigma.forward(np.random.default_rng(1).normal(size=(len(x), 2)))

    state = arrived(prepare(squared(activation, x, y), Settings()))

    assert state.converged
    assert state.epoch <= 30
    assert state.cost < 1e-28


def test_float32_rows_reach_the_minimum_of_float64() -> None:
    x = hard_inputs("plain", 0, rows=2000, inputs=20)
    y = hard_targets(x, 1, lambda random, z: noisy(random, z, "sigmoid"))
    rows = rows_of(x, y, dtype=np.float32)

    state = arrived(prepare(Objective("sigmoid", "half_squared_error", rows), Settings()))

    exact = squared("sigmoid", x, y)
    least = arrived(prepare(exact, Settings(tolerance=0.0))).cost
    assert state.converged
    assert excess(exact, state, least) <= 1e-6


def test_a_cost_that_overflows_ends_as_not_finite() -> None:
    x = hard_inputs("plain", 0)

    state = arrived(prepare(squared("identity", x, 1e200 * x[:, :1]), Settings()))

    assert not np.isfinite(state.cost)


@pytest.mark.parametrize(
    ("activation", "cost"), [("softmax", "half_squared_error"), ("sigmoid", "cross_entropy")]
)
def test_what_has_no_residual_of_each_output_is_refused(activation: str, cost: str) -> None:
    y = allowed_targets(0, 60, 3, activation, cost)
    objective = Objective(activation, cost, rows_of(hard_inputs("plain", 0, rows=60), y))

    with pytest.raises(NumericError, match="Levenberg-Marquardt needs cost half_squared_error"):
        prepare(objective, Settings())
