from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.numeric import preconditioner
from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.curvature_matrices import (
    bound_matrix,
    centre_of,
    local_matrices,
    second_derivatives,
    softmax_second_derivatives,
)
from app.numeric.lbfgs import applied, remembered
from app.numeric.objective import Objective
from app.numeric.preconditioner import Coordinates
from app.numeric.proximal_model import Penalty, lowest_rows, model_of
from app.numeric.rows import rows_of
from tests.numeric.builders import PAIRS, allowed_targets, in_blocks
from tests.numeric.second_order import complex_step_matrix, hard_inputs

BOUNDED = [
    (activation, cost)
    for activation, cost in PAIRS
    if np.isfinite(COSTS[cost].curvature(ACTIVATIONS[activation]))
]
NO_CENTRE = np.zeros(4)
seeds = st.integers(0, 10_000)


def problem(
    activation: str, cost: str, *, l2: float = 0.0, weight: Array | None = None, seed: int = 0
) -> Objective:
    x = np.random.default_rng(seed).normal(size=(40, 3)) + np.arange(3.0)
    y = allowed_targets(seed, 40, 2, activation, cost)
    return Objective(activation, cost, rows_of(x, y, weight), l2=l2)


def some_parameters(objective: Objective, seed: int = 1) -> Array:
    return 0.5 * np.random.default_rng(seed).normal(size=objective.shape)


def textbook_slope(objective: Objective, parameters: NDArray[Any]) -> NDArray[Any]:
    """The slope (m, q) of f without l1, for complex P too."""
    x, y, weight = next(iter(objective.rows.blocks()))
    z = parameters @ x
    if objective.activation == "softmax":
        grown = np.exp(z - z.real.max(axis=0))
        fitted = grown / grown.sum(axis=0)
    else:
        fitted = 1.0 / (1.0 + np.exp(-z)) if objective.activation == "sigmoid" else np.exp(z)
    delta = (fitted - y) * (1.0 if weight is None else weight)
    slope: NDArray[Any] = delta @ x.T / x.shape[1]
    slope[:, :-1] += objective.l2 * parameters[:, :-1]
    return slope


@pytest.mark.parametrize(
    ("activation", "cost"),
    [("sigmoid", "cross_entropy"), ("softmax", "cross_entropy"), ("exp", "poisson")],
)
def test_second_derivatives_are_complex_steps_of_the_slope(activation: str, cost: str) -> None:
    weight = np.random.default_rng(2).random(40) + 0.1
    objective = problem(activation, cost, l2=0.3, weight=weight)
    parameters = some_parameters(objective)

    if activation == "softmax":
        found = softmax_second_derivatives(objective, parameters, centre=NO_CENTRE)
    else:
        one, two = second_derivatives(objective, parameters, np.arange(2), centre=NO_CENTRE)
        found = np.block([[one, np.zeros((4, 4))], [np.zeros((4, 4)), two]])

    wanted = complex_step_matrix(lambda p: textbook_slope(objective, p), parameters)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("activation", "cost"), BOUNDED)
def test_the_model_of_the_bound_lies_above_the_objective(activation: str, cost: str) -> None:
    objective = problem(activation, cost, l2=0.1)
    matrix = bound_matrix(objective, np.float64)[0]

    for seed in range(200):
        here = 2.0 * some_parameters(objective, seed)
        step = 10.0 ** np.random.default_rng(seed).uniform(-2, 1) * some_parameters(
            objective, -~seed
        )
        value, slope = objective.value_and_slope(here)
        model = value + np.vdot(slope, step) + 0.5 * np.einsum("ji,ik,jk->", step, matrix, step)
        assert objective.value(here + step) <= model + 1e-12 * abs(model)


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_matrices_do_not_depend_on_the_blocks(activation: str, cost: str) -> None:
    whole = problem(activation, cost, l2=0.1, weight=np.random.default_rng(0).random(40))
    streamed = Objective(activation, cost, in_blocks(whole.rows, 40), l2=0.1)
    parameters = some_parameters(whole)

    for one, other in (
        (bound_matrix(whole, np.float64), bound_matrix(streamed, np.float64)),
        (
            local_matrices(whole, parameters, np.float64),
            local_matrices(streamed, parameters, np.float64),
        ),
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@settings(max_examples=40)
@given(seeds, st.booleans())
def test_a_centre_does_not_move_the_lowest_point(seed: int, non_negative: bool) -> None:
    objective = problem("softmax", "cross_entropy", l2=0.01, seed=seed)
    parameters = np.abs(some_parameters(objective, seed))
    _, slope = objective.value_and_slope(parameters)
    found = []

    for centre in (NO_CENTRE, centre_of(objective.rows)):
        model = model_of(
            softmax_second_derivatives(objective, parameters, centre=centre), centre, 2
        )
        assert model is not None
        found.append(lowest_rows(model, parameters, slope, Penalty(0.02, non_negative)))

    one, other = (lowest.rows for lowest in found)
    np.testing.assert_allclose(one[:, :-1], other[:, :-1], atol=1e-9)
    # The same shift of all b changes no probability.
    np.testing.assert_allclose(np.diff(one[:, -1]), np.diff(other[:, -1]), atol=1e-9)
    assert found[0].gain == pytest.approx(found[1].gain, rel=1e-9, abs=1e-12)


@settings(max_examples=40)
@given(seeds, st.sampled_from([("sigmoid", "cross_entropy"), ("exp", "poisson")]))
def test_the_gain_is_how_much_lower_the_model_is(seed: int, pair: tuple[str, str]) -> None:
    objective = problem(*pair, l2=0.1, seed=seed)
    parameters = some_parameters(objective, seed)[:1]
    hessian = second_derivatives(
        objective, np.vstack((parameters,) * 2), np.arange(1), centre=NO_CENTRE
    )[0]
    _, slope = objective.value_and_slope(np.vstack((parameters,) * 2))
    model = model_of(hessian, NO_CENTRE)
    assert model is not None

    found = lowest_rows(model, parameters, slope[:1], Penalty(0.05, False), scale=3.0)

    step = (found.rows - parameters)[0]
    change = slope[0] @ step + 1.5 * step @ hessian @ step
    change += 0.05 * (np.abs(found.rows[0, :-1]).sum() - np.abs(parameters[0, :-1]).sum())
    assert found.gain == pytest.approx(-change, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["plain", "scales", "offset", "near duplicates"])
def test_the_curvature_is_one_in_the_coordinates_made_for_it(kind: str) -> None:
    x = hard_inputs(kind, 0)
    y = allowed_targets(0, len(x), 2, "sigmoid", "cross_entropy")
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, y))
    matrix = bound_matrix(objective, np.float64)[0]

    coordinates = preconditioner.bounded(objective, preconditioner.Basis(objective))

    assert isinstance(coordinates, Coordinates)
    factor, inverse = coordinates.factor[0], coordinates.inverse[0]
    # Of near duplicates the Gram matrix itself has lost the digits of the smallest direction.
    tolerance = 1e-6 if kind != "near duplicates" else 0.5
    np.testing.assert_allclose(factor @ matrix @ factor.T, np.eye(len(factor)), atol=tolerance)
    np.testing.assert_allclose(factor @ inverse, np.eye(len(factor)), atol=1e-6)


def test_steps_and_pulls_moved_to_other_coordinates_are_the_same_steps_and_pulls() -> None:
    objective = problem("sigmoid", "cross_entropy", l2=0.1)
    one = preconditioner.bounded(objective, preconditioner.Basis(objective))
    other = preconditioner.local(preconditioner.Basis(objective), some_parameters(objective))
    assert isinstance(one, Coordinates)
    assert other is not None
    steps, pulls = np.random.default_rng(0).normal(size=(2, 3, 8))
    slope = np.random.default_rng(1).normal(size=(2, 4))

    moved_steps, moved_pulls = one.moved(steps, pulls, other)

    for step, moved in zip(steps, moved_steps, strict=True):
        np.testing.assert_allclose(
            one.way(step.reshape(2, 4)), other.way(moved.reshape(2, 4)), atol=1e-12
        )
    products = np.einsum("kp,kp->k", steps, pulls)
    np.testing.assert_allclose(np.einsum("kp,kp->k", moved_steps, moved_pulls), products)
    _, pull = one.moved(steps[:1], one.pull(slope)[np.newaxis], other)
    np.testing.assert_allclose(pull[0], other.pull(slope), atol=1e-12)


@settings(max_examples=50)
@given(seeds, st.integers(1, 8), st.integers(2, 6))
def test_a_history_is_applied_as_bfgs_updates_of_a_matrix(seed: int, pairs: int, size: int) -> None:
    random = np.random.default_rng(seed)
    root = random.normal(size=(size, size))
    curvature = root @ root.T + 0.1 * np.eye(size)
    steps = random.normal(size=(pairs, size))
    history = np.empty((2, 0, size))

    for step in steps:
        history = remembered(history, step, curvature @ step, 10)

    newest = history[1, -1]
    inverse = np.eye(size) / (newest @ newest)
    for step, change in zip(*history, strict=True):
        left = np.eye(size) - np.outer(step, change)
        inverse = left @ inverse @ left.T + np.outer(step, step)
    vector = random.normal(size=size)
    np.testing.assert_allclose(applied(history, vector), inverse @ vector, rtol=1e-6, atol=1e-8)
