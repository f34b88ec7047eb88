import numpy as np
import pytest

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.inversion.gradient import Descent, Goal, descend
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Status
from app.numeric.layer import Layer, forward
from tests.numeric.builders import random_layer

SECONDS = 30.0
SMOOTH = sorted(name for name, row in ACTIVATIONS.items() if row.smooth)


def at(target: Array, near: float = 0.0) -> Goal:
    return Goal(target, target, np.ones(len(target)), np.full(len(target), near))


def run(
    layer: Layer,
    start: Array,
    goal: Goal,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    learning_rate: float | None = None,
    steps_max: int = 1000,
) -> Descent:
    return descend(
        layer,
        start,
        goal,
        np.full(len(start), low),
        np.full(len(start), high),
        learning_rate=learning_rate,
        steps_max=steps_max,
        clock=Clock(SECONDS),
    )


def cost(layer: Layer, goal: Goal, x: Array) -> complex:
    """1/2 sum (weight x distance)^2 for complex x, so that a complex step differentiates it."""
    z = layer.w @ x + layer.b
    y = ACTIVATIONS[layer.activation].forward(z)
    below, above = np.real(y) < goal.low, np.real(y) > goal.high
    beside = np.where(below, y - goal.low, 0.0) + np.where(above, y - goal.high, 0.0)
    return complex(0.5 * np.sum((goal.weight * beside) ** 2))


@pytest.mark.parametrize("activation", SMOOTH)
def test_a_step_goes_against_the_complex_step_derivative_of_the_cost(activation: str) -> None:
    layer = random_layer(1, outputs=3, inputs=4, activation=activation)
    start = np.full(4, 0.1)
    y = forward(layer, start[None])[0]
    below, above = np.array([0.1, -np.inf, -0.2]), np.array([0.2, -0.1, 0.2])
    goal = Goal(y + below, y + above, np.array([1.0, 3.0, 2.0]), np.zeros(3))

    found = run(layer, start, goal, learning_rate=0.25, steps_max=1)

    slope = [cost(layer, goal, start + 1e-30j * one).imag / 1e-30 for one in np.eye(4)]
    np.testing.assert_allclose(found.x, start - 0.25 * np.array(slope), rtol=1e-12)
    assert found.trace == pytest.approx([cost(layer, goal, x).real for x in (start, found.x)])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_automatic_rate_never_raises_the_cost_and_arrives(activation: str) -> None:
    layer = random_layer(1, outputs=2, inputs=4, activation=activation)
    start = np.full(4, 0.1)
    target = forward(layer, (start + np.array([0.5, -0.3, 0.2, 0.4]))[None])[0]

    found = run(layer, start, at(target, 1e-6), low=-2.9, high=3.1, steps_max=20_000)

    assert (np.diff(found.trace) <= 0.0).all()
    assert found.status is Status.FEASIBLE
    np.testing.assert_allclose(forward(layer, found.x[None])[0], target, atol=1e-6)


def test_where_the_slope_grows_on_the_way_the_rate_is_halved_until_the_cost_falls() -> None:
    layer = Layer(np.ones((1, 1)), np.zeros(1), "exp")

    found = run(layer, np.array([-3.0]), at(np.array([5.0]), 1e-6))

    assert found.status is Status.FEASIBLE
    assert (np.diff(found.trace) <= 0.0).all()
    assert found.x[0] == pytest.approx(np.log(5.0), abs=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softmax"])
@pytest.mark.parametrize("z", [-300.0, 300.0])
def test_a_saturated_start_stands_still_and_says_so(activation: str, z: float) -> None:
    layer = Layer(np.array([[1.0], [0.0]]), np.zeros(2), activation)
    start = np.array([z])
    target = 0.5 * np.ones(2)

    found = run(layer, start, at(target, 1e-6), steps_max=50)

    assert found.status is Status.STEP_LIMIT
    assert np.isfinite(found.trace).all()
    np.testing.assert_allclose(found.x, start, rtol=1e-9)


def test_what_is_reached_already_takes_no_step() -> None:
    layer = random_layer(0, outputs=2, inputs=3, activation="sigmoid")
    goal = Goal(np.array([-np.inf, 0.0]), np.array([np.inf, 1.0]), np.ones(2), np.zeros(2))

    found = run(layer, np.ones(3), goal)

    assert found.status is Status.FEASIBLE
    assert found.x.tolist() == [1.0] * 3
    assert found.trace.tolist() == [0.0]


def test_the_start_and_every_step_stay_within_the_limits() -> None:
    layer = random_layer(0, outputs=1, inputs=3, activation="sigmoid")
    low, high = np.array([0.0, -0.1, 0.3]), np.array([0.1, 0.1, 0.3])

    found = descend(
        layer,
        np.full(3, 5.0),
        at(np.array([1.0])),
        low,
        high,
        learning_rate=None,
        steps_max=500,
        clock=Clock(SECONDS),
    )

    highest = forward(layer, np.where(layer.w[0] > 0.0, high, low)[None])[0]
    assert found.status is Status.STEP_LIMIT
    assert len(found.trace) < 500
    assert (found.x >= low).all()
    assert (found.x <= high).all()
    assert forward(layer, found.x[None])[0] == pytest.approx(highest)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("learning_rate", [1e10, 1e308, None])
def test_a_run_never_leaves_the_finite_numbers(
    activation: str, learning_rate: float | None
) -> None:
    layer = random_layer(0, outputs=2, inputs=3, activation=activation)
    layer = layer._replace(w=1e3 * layer.w)

    found = run(layer, np.ones(3), at(np.array([0.9, 0.1])), learning_rate=learning_rate)

    assert np.isfinite(found.x).all()
    assert np.isfinite(found.trace[1:]).all()


def test_steps_and_time_end_a_run() -> None:
    layer = random_layer(0, outputs=1, inputs=3, activation="tanh")
    goal = at(np.array([0.99]))

    steps = run(layer, np.zeros(3), goal, steps_max=7)
    time = descend(
        layer,
        np.zeros(3),
        goal,
        np.full(3, -9.0),
        np.full(3, 9.0),
        learning_rate=None,
        steps_max=10**9,
        clock=Clock(0.05),
    )

    assert (steps.status, len(steps.trace)) == (Status.STEP_LIMIT, 8)
    assert time.status in {Status.STEP_LIMIT, Status.FEASIBLE}
    assert len(time.trace) < 10**6
