from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linprog, lsq_linear, minimize

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.errors import LimitsConflict, NotInvertible, OutOfRange, ShapeError
from app.numeric.inversion import Status, attainable, invert_exact, invert_gradient
from app.numeric.layer import Layer, forward, gradients, pre_activation
from tests.numeric.builders import random_layer

ELEMENTWISE = sorted(name for name, row in ACTIVATIONS.items() if row.elementwise)

INVERTIBLE = [name for name, row in ACTIVATIONS.items() if row.strictly_monotone]


class Question(NamedTuple):
    layer: Layer
    start: Array
    target: Array
    low: Array
    high: Array

    @property
    def z_wanted(self) -> Array:
        inverse = ACTIVATIONS[self.layer.activation].inverse
        assert inverse is not None
        return inverse(self.target)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Dependent rows, zero weights, limits of every kind, targets in and out of reach."""
    outputs, inputs = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layer = random_layer(
        int(random.integers(2**32)),
        outputs=outputs,
        inputs=inputs,
        activation=draw(st.sampled_from(INVERTIBLE)),
    )
    if outputs > 1 and draw(st.booleans()):
        layer.w[-1] = 2.0 * layer.w[0]
    layer.w[:, random.random(inputs) < 0.1] = 0.0
    start = random.normal(size=inputs)
    low, high = start - random.exponential(size=inputs), start + random.exponential(size=inputs)
    low[random.random(inputs) < 0.2] = -np.inf
    high[random.random(inputs) < 0.2] = np.inf
    frozen = random.random(inputs) < 0.2
    low[frozen] = high[frozen] = start[frozen]
    inside = np.clip(start + random.normal(size=inputs), low, high)
    z = pre_activation(layer, inside[None])[0] + draw(st.sampled_from([0.0, 0.0, 0.5, 3.0]))
    return Question(layer, start, ACTIVATIONS[layer.activation].forward(z), low, high)


def pairs(question: Question) -> list[tuple[float | None, float | None]]:
    return [
        (None if np.isinf(low) else low, None if np.isinf(high) else high)
        for low, high in zip(question.low, question.high, strict=True)
    ]


def is_reachable(question: Question) -> bool:
    found = linprog(
        np.zeros(len(question.start)),
        A_eq=question.layer.w,
        b_eq=question.z_wanted - question.layer.b,
        bounds=pairs(question),
    )
    assert found.status in {0, 2}
    return bool(found.status == 0)


@settings(deadline=None, derandomize=True, max_examples=300, database=None)
@given(questions())
def test_exact_answers_agree_with_linear_programming_and_keep_the_limits(
    question: Question,
) -> None:
    answer = invert_exact(*question)

    expected = Status.OPTIMAL if is_reachable(question) else Status.INFEASIBLE
    z = pre_activation(question.layer, answer.x[None])[0]
    assert answer.status is expected
    assert (answer.x >= question.low).all()
    assert (answer.x <= question.high).all()
    if expected is Status.OPTIMAL:
        np.testing.assert_allclose(z, question.z_wanted, rtol=1e-9, atol=1e-9)


@settings(deadline=None, derandomize=True, max_examples=100, database=None)
@given(questions())
def test_no_answer_of_slsqp_is_nearer_than_an_optimal_one(question: Question) -> None:
    answer = invert_exact(*question)
    assume(answer.status is Status.OPTIMAL and question.layer.w.any())

    # SLSQP wants independent equations.
    w, start = question.layer.w[: np.linalg.matrix_rank(question.layer.w)], question.start
    wanted = (question.z_wanted - question.layer.b)[: len(w)]

    def half_square(x: Array) -> float:
        return float(0.5 * np.square(x - start).sum())

    def change(x: Array) -> Array:
        return x - start

    reference = minimize(
        half_square,
        np.clip(start, question.low, question.high),
        jac=change,
        bounds=Bounds(question.low, question.high),
        constraints=LinearConstraint(w, wanted, wanted),
        method="SLSQP",
        tol=1e-14,
    )
    assume(reference.success)
    assert np.linalg.norm(answer.x - start) <= np.sqrt(2 * reference.fun) + 1e-6


@settings(deadline=None, derandomize=True, max_examples=100, database=None)
@given(questions())
def test_an_infeasible_answer_is_the_nearest_attainable_point(question: Question) -> None:
    answer = invert_exact(*question)
    assume(answer.status is Status.INFEASIBLE)

    # lsq_linear refuses low == high, so frozen features get a sliver of room.
    room = np.where(question.low == question.high, 1e-12, 0.0)
    reference = lsq_linear(
        question.layer.w,
        question.z_wanted - question.layer.b,
        (question.low - room, question.high + room),
        method="trf",
        tol=1e-14,
    )
    missed = pre_activation(question.layer, answer.x[None])[0] - question.z_wanted
    assert 0.5 * missed @ missed <= reference.cost * (1 + 1e-6) + 1e-9


def test_without_limits_the_answer_is_the_pseudo_inverse() -> None:
    layer = random_layer(0, outputs=3, inputs=7, activation="sigmoid")
    start, target = np.arange(7.0), np.array([0.1, 0.5, 0.999])
    unlimited = np.full(7, np.inf)

    answer = invert_exact(layer, start, target, -unlimited, unlimited)

    wanted = np.log(target / (1 - target)) - layer.b
    expected = start + np.linalg.pinv(layer.w) @ (wanted - layer.w @ start)
    np.testing.assert_allclose(answer.x, expected, rtol=1e-12)
    np.testing.assert_allclose(answer.y, target, rtol=1e-13)
    assert answer.multipliers is not None
    assert not answer.multipliers.any()
    assert answer.cost <= 1e-26


def test_a_target_already_met_changes_nothing() -> None:
    layer = random_layer(0, outputs=2, inputs=4, activation="tanh")
    start = np.ones(4)

    answer = invert_exact(layer, start, forward(layer, start[None])[0], start - 1, start + 1)

    np.testing.assert_allclose(answer.x, start, rtol=1e-13)


def test_an_output_of_nan_is_left_free() -> None:
    layer = random_layer(0, outputs=2, inputs=4, activation="sigmoid")
    low, high = np.full(4, -9.0), np.full(4, 9.0)
    alone = Layer(layer.w[:1], layer.b[:1], "sigmoid")

    both = invert_exact(layer, np.zeros(4), np.array([0.8, np.nan]), low, high)
    single = invert_exact(alone, np.zeros(4), np.array([0.8]), low, high)
    neither = invert_exact(layer, np.full(4, 10.0), np.full(2, np.nan), low, high)

    np.testing.assert_array_equal(both.x, single.x)
    assert both.y.shape == (2,)
    assert neither.x.tolist() == high.tolist()
    assert neither.status is Status.OPTIMAL


def test_the_distance_is_measured_from_a_start_outside_the_limits() -> None:
    layer = Layer(np.array([[1.0, 1.0]]), np.zeros(1), "identity")
    start, low, high = np.array([5.0, 0.0]), np.array([-9.0, -9.0]), np.array([1.0, 9.0])

    answer = invert_exact(layer, start, np.array([3.0]), low, high)

    assert answer.x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("far", "status"), [(1.0, Status.OPTIMAL), (3.0, Status.INFEASIBLE)])
def test_multipliers_are_what_moving_a_limit_wins(far: float, status: Status) -> None:
    layer = random_layer(2, outputs=2, inputs=6, activation="identity")
    start, low, high = np.zeros(6), np.full(6, -0.6), np.full(6, 0.6)
    away = far * np.array([0.6, 0.6, 0.6, 0.5, 0.4, 0.6]) * np.sign(layer.w[0])
    target = forward(layer, away[None])[0]

    def lowest(room: Array) -> float:
        found = invert_exact(layer, start, target, low - room, high + room)
        miss = found.x - start if status is Status.OPTIMAL else found.y - target
        return float(0.5 * miss @ miss)

    answer = invert_exact(layer, start, target, low, high)

    steps = 1e-5 * np.eye(6)
    wins = [(lowest(-step) - lowest(step)) / 2e-5 for step in steps]
    assert answer.status is status
    assert answer.multipliers is not None
    np.testing.assert_allclose(answer.multipliers, wins, atol=1e-4)
    assert np.count_nonzero(answer.multipliers) >= 2


def test_of_equally_near_misses_the_one_nearest_to_the_start_is_given() -> None:
    layer = Layer(np.ones((2, 2)), np.zeros(2), "identity")
    start, low, high = np.array([5.0, 0.0]), np.array([-9.0, -9.0]), np.array([1.0, 9.0])

    answer = invert_exact(layer, start, np.array([0.0, 1.0]), low, high)

    assert answer.status is Status.INFEASIBLE
    np.testing.assert_allclose(answer.x, [1.0, -0.5], rtol=1e-12)


def test_outputs_in_very_different_units_are_still_proved_out_of_reach() -> None:
    units = np.array([1e-6, 1.0, 1e6])
    layer = random_layer(0, outputs=3, inputs=5, activation="identity")
    layer = Layer(layer.w * units[:, None], layer.b * units, "identity")
    low, high = np.full(5, -1.0), np.full(5, 1.0)
    target = forward(layer, np.full((1, 5), 0.9))[0]
    target[0] = attainable(layer, low, high)[1][0] + 1e-6

    answer = invert_exact(layer, np.zeros(5), target, low, high)

    assert answer.status is Status.INFEASIBLE


def test_a_target_in_the_corner_of_the_box_is_reached() -> None:
    layer = random_layer(0, outputs=1, inputs=5, activation="softplus")
    low, high = np.full(5, -1.0), np.full(5, 2.0)

    answer = invert_exact(layer, np.zeros(5), attainable(layer, low, high)[1], low, high)

    assert answer.status is Status.OPTIMAL
    np.testing.assert_allclose(answer.x, np.where(layer.w[0] > 0, high, low), atol=1e-9)


def test_exact_inversion_refuses_what_has_no_exact_answer() -> None:
    box = np.zeros(1), np.ones(1)
    layer = Layer(np.ones((1, 1)), np.zeros(1), "sigmoid")

    with pytest.raises(NotInvertible, match="relu"):
        invert_exact(layer._replace(activation="relu"), np.zeros(1), np.ones(1), *box)
    for end in (0.0, 1.0, 1.5, np.inf):
        with pytest.raises(OutOfRange) as caught:
            invert_exact(layer, np.zeros(1), np.array([end]), *box)
        assert (caught.value.output, caught.value.low, caught.value.high) == (0, 0.0, 1.0)
    with pytest.raises(LimitsConflict) as conflict:
        invert_exact(layer, np.zeros(1), np.array([0.5]), np.ones(1), np.zeros(1))
    assert conflict.value.feature == 0
    with pytest.raises(ShapeError):
        invert_exact(layer, np.zeros(2), np.array([0.5]), *box)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_gradient_step_goes_against_dC_dx(activation: str) -> None:
    layer = random_layer(1, outputs=2, inputs=4, activation=activation)
    start, target = np.full(4, 0.1), np.array([0.9, 0.6])
    unlimited = np.full(4, np.inf)

    answer = invert_gradient(
        layer, start, target, -unlimited, unlimited, learning_rate=0.25, steps_max=1, tolerance=0.0
    )

    slope = gradients(layer, "half_squared_error", start[None], target[None]).dC_dx[0]
    np.testing.assert_allclose(answer.x, start - 0.25 * slope, rtol=1e-13)
    assert answer.steps == 1
    assert answer.trace.shape == (2,)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_automatic_rate_never_raises_the_cost_and_reaches_the_target(activation: str) -> None:
    layer = random_layer(1, outputs=2, inputs=4, activation=activation)
    start = np.full(4, 0.1)
    low, high = start - 3.0, start + 3.0
    target = forward(layer, (start + np.array([0.5, -0.3, 0.2, 0.4]))[None])[0]

    answer = invert_gradient(
        layer, start, target, low, high, learning_rate=None, steps_max=20_000, tolerance=1e-6
    )

    assert (np.diff(answer.trace) <= 0).all()
    assert answer.trace.shape == (answer.steps + 1,)
    assert answer.status is Status.FEASIBLE
    np.testing.assert_allclose(answer.y, target, atol=1e-6)


def test_the_gradient_keeps_the_limits_and_says_when_it_does_not_arrive() -> None:
    layer = random_layer(0, outputs=1, inputs=3, activation="sigmoid")
    low, high = np.array([0.0, -0.1, 0.3]), np.array([0.1, 0.1, 0.3])

    answer = invert_gradient(
        layer,
        np.zeros(3),
        np.array([1.0]),
        low,
        high,
        learning_rate=None,
        steps_max=500,
        tolerance=1e-9,
    )

    assert answer.status is Status.STEP_LIMIT
    assert answer.y == pytest.approx(attainable(layer, low, high)[1])
    assert answer.steps < 500


@pytest.mark.parametrize("learning_rate", [1e10, 1e308])
def test_a_gradient_run_never_leaves_the_finite_numbers(learning_rate: float) -> None:
    layer = random_layer(0, outputs=2, inputs=3, activation="identity")
    unlimited = np.full(3, np.inf)

    answer = invert_gradient(
        layer,
        np.zeros(3),
        np.array([3.0, -1.0]),
        -unlimited,
        unlimited,
        learning_rate=learning_rate,
        steps_max=1000,
        tolerance=1e-9,
    )

    assert answer.status is Status.STEP_LIMIT
    assert np.isfinite(answer.x).all()
    assert np.isfinite(answer.trace).all()


def test_the_gradient_allows_a_target_on_the_end_of_the_range_but_not_beyond() -> None:
    layer = random_layer(0, outputs=1, inputs=2, activation="sigmoid")
    box = np.full(2, -1.0), np.full(2, 1.0)

    with pytest.raises(OutOfRange):
        invert_gradient(
            layer,
            np.zeros(2),
            np.array([1.1]),
            *box,
            learning_rate=None,
            steps_max=5,
            tolerance=1e-6,
        )


@settings(deadline=None, derandomize=True, max_examples=100, database=None)
@given(seed=st.integers(0, 2**32 - 1), activation=st.sampled_from(ELEMENTWISE))
def test_attainable_is_the_range_over_all_corners(seed: int, activation: str) -> None:
    layer = random_layer(seed, outputs=3, inputs=4, activation=activation)
    random = np.random.default_rng(seed)
    low = random.normal(size=4)
    high = low + random.exponential(size=4)
    corners = np.stack(np.meshgrid(*np.stack((low, high), axis=1)), axis=-1).reshape(-1, 4)

    least, greatest = attainable(layer, low, high)

    y = forward(layer, corners)
    np.testing.assert_allclose(least, y.min(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(greatest, y.max(axis=0), rtol=1e-12, atol=1e-15)


def test_attainable_knows_infinite_limits_and_zero_weights() -> None:
    layer = Layer(np.array([[0.0, 2.0], [-1.0, 1.0]]), np.array([1.0, 0.0]), "sigmoid")
    low, high = np.array([-np.inf, 0.0]), np.array([np.inf, 1.0])

    least, greatest = attainable(layer, low, high)

    assert least.tolist() == pytest.approx([1 / (1 + np.exp(-1.0)), 0.0])
    assert greatest.tolist() == pytest.approx([1 / (1 + np.exp(-3.0)), 1.0])
