"""The gradients, proved by complex steps (Squire and Trapp 1998) through the shipped code."""

import warnings
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.metrics import log_loss, mean_poisson_deviance, mean_squared_error

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.errors import ShapeError
from app.numeric.layer import Layer, forward, gradients, initial_layer, mean_cost, pre_activation
from tests.numeric.builders import PAIRS, allowed_targets, random_layer

STEP = 1e-30
CostAlong = Callable[[Array], complex]
SMOOTH_PAIRS = [pair for pair in PAIRS if ACTIVATIONS[pair[0]].smooth]


def summed_cost(layer: Layer, cost: str, x: Array, y: Array) -> complex:
    terms = COSTS[cost].terms
    return complex(terms(ACTIVATIONS[layer.activation], pre_activation(layer, x), y).sum())


def complex_steps(at: Array, cost_at: CostAlong) -> Array:
    slope = np.empty(at.shape)
    for index in np.ndindex(at.shape):
        moved = at.astype(complex)
        moved[index] += STEP * 1j
        slope[index] = cost_at(cast("Array", moved)).imag / STEP
    return slope


def cost_along(name: str, layer: Layer, cost: str, x: Array, y: Array) -> CostAlong:
    """The summed cost as a function of one of w, b and x, with the others complex too."""
    point = {"w": layer.w.astype(complex), "b": layer.b.astype(complex), "x": x}

    def cost_at(moved: Array) -> complex:
        w, b, moved_x = (point | {name: moved}).values()
        return summed_cost(Layer(w, b, layer.activation), cost, moved_x, y)

    return cost_at


@pytest.mark.parametrize(("activation", "cost"), SMOOTH_PAIRS)
@settings(max_examples=25)
@given(
    rows=st.integers(1, 5),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_gradients_are_the_complex_steps_of_the_cost(
    activation: str, cost: str, rows: int, inputs: int, outputs: int, seed: int
) -> None:
    layer = random_layer(seed, outputs=outputs, inputs=inputs, activation=activation)
    x = np.random.default_rng(seed + 1).normal(size=(rows, inputs))
    y = allowed_targets(seed + 2, rows, outputs, activation, cost)

    found = gradients(layer, cost, x, y)

    for name, slope in zip(("w", "b", "x"), found, strict=True):
        at = x if name == "x" else getattr(layer, name)
        expected = complex_steps(at, cost_along(name, layer, cost, x, y))
        assert np.linalg.norm(slope - expected) <= 1e-12 * np.linalg.norm(expected)


def test_relu_gradients_are_those_of_the_identity_on_the_rows_where_it_rises() -> None:
    layer = random_layer(3, outputs=1, inputs=2, activation="relu")
    x = np.random.default_rng(4).normal(size=(20, 2))
    y = np.ones((20, 1))
    rising = pre_activation(layer, x)[:, 0] > 0

    found = gradients(layer, "half_squared_error", x, y)
    linear = gradients(
        layer._replace(activation="identity"), "half_squared_error", x[rising], y[rising]
    )

    assert 0 < rising.sum() < 20
    np.testing.assert_allclose(found.dC_dw, linear.dC_dw)
    np.testing.assert_allclose(found.dC_dx[rising], linear.dC_dx)
    assert not found.dC_dx[~rising].any()


def test_half_squared_error_is_half_the_summed_square_of_a_row() -> None:
    layer = Layer(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0.0, 1.0]), "identity")

    cost = mean_cost(layer, "half_squared_error", np.array([[3.0, 4.0]]), np.array([[1.0, 2.0]]))

    assert cost == 0.5 * (2.0**2 + 3.0**2)


def test_mean_cost_is_half_the_mean_squared_error_of_scikit_learn() -> None:
    layer = random_layer(0, outputs=1, inputs=3, activation="tanh")
    x = np.random.default_rng(1).normal(size=(50, 3))
    y = allowed_targets(2, 50, 1, "tanh", "half_squared_error")

    cost = mean_cost(layer, "half_squared_error", x, y)

    assert cost == pytest.approx(mean_squared_error(y, forward(layer, x)) / 2, rel=1e-14)


def test_cross_entropy_is_the_log_loss_of_scikit_learn() -> None:
    layer = random_layer(0, outputs=1, inputs=3, activation="sigmoid")
    x = 3 * np.random.default_rng(1).normal(size=(50, 3))
    y = (np.random.default_rng(2).random((50, 1)) > 0.5).astype(float)

    cost = mean_cost(layer, "cross_entropy", x, y)

    assert cost == pytest.approx(log_loss(y[:, 0], forward(layer, x)[:, 0]), rel=1e-12)


def test_cross_entropy_of_softmax_is_the_log_loss_of_scikit_learn() -> None:
    layer = random_layer(0, outputs=4, inputs=3, activation="softmax")
    x = 3 * np.random.default_rng(1).normal(size=(50, 3))
    codes = np.random.default_rng(2).integers(0, 4, 50)

    cost = mean_cost(layer, "cross_entropy", x, np.eye(4)[codes])

    assert cost == pytest.approx(log_loss(codes, forward(layer, x)), rel=1e-12)


def test_poisson_is_half_the_deviance_of_scikit_learn() -> None:
    layer = random_layer(0, outputs=1, inputs=3, activation="exp")
    x = np.random.default_rng(1).normal(size=(50, 3))
    y = np.random.default_rng(2).poisson(2.0, (50, 1)).astype(float)

    cost = mean_cost(layer, "poisson", x, y)

    expected = mean_poisson_deviance(y, forward(layer, x)) / 2
    assert cost == pytest.approx(expected, rel=1e-12)


def test_huber_is_that_of_scipy() -> None:
    layer = random_layer(0, outputs=2, inputs=3, activation="identity")
    x = np.random.default_rng(1).normal(size=(50, 3))
    y = 3 * np.random.default_rng(2).normal(size=(50, 2))

    cost = mean_cost(layer, "huber", x, y)

    expected = special.huber(1.0, forward(layer, x) - y).sum(axis=1).mean()
    assert cost == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_keeps_its_digits_where_the_probability_rounds_to_the_target() -> None:
    z = np.array([[40.0], [-40.0], [1e308], [-1e308], [1000.1]])
    y = np.array([[1.0], [0.0], [0.0], [1.0], [1.0 - 2.0**-50]])

    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        cost = COSTS["cross_entropy"].terms(ACTIVATIONS["sigmoid"], z, y)[:, 0]

    np.testing.assert_allclose(
        cost, [np.exp(-40.0), np.exp(-40.0), 1e308, 1e308, 1000.1 * 2.0**-50], rtol=1e-14
    )


def test_many_chunks_cost_the_same_as_one_pass() -> None:
    layer = random_layer(0, outputs=2, inputs=1, activation="softplus")
    x = np.random.default_rng(1).normal(size=(1_200_000, 1))
    y = np.zeros((len(x), 2))

    cost = mean_cost(layer, "half_squared_error", x, y)

    assert cost == pytest.approx(0.5 * np.square(forward(layer, x)).sum() / len(x), rel=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_initial_layer_gives_every_row_the_mean_target(activation: str) -> None:
    y = np.array([[0.2, 0.8], [0.4, 0.6]])

    layer = initial_layer(activation, y, 3)

    np.testing.assert_allclose(forward(layer, np.ones((1, 3))), [[0.3, 0.7]])


@pytest.mark.parametrize(("activation", "end"), [("sigmoid", 1.0), ("tanh", -1.0), ("relu", 0.0)])
def test_the_initial_layer_has_a_slope_even_if_all_targets_are_at_the_end(
    activation: str, end: float
) -> None:
    y = np.full((4, 1), end)
    layer = initial_layer(activation, y, 2)

    slope = gradients(layer, "half_squared_error", np.ones((4, 2)), y)

    assert np.isfinite(slope.dC_db).all()
    assert slope.dC_db.all()


def test_arrays_that_do_not_fit_are_refused() -> None:
    layer = random_layer(0, outputs=2, inputs=3, activation="identity")

    with pytest.raises(ShapeError, match="x must be"):
        forward(layer, np.ones((4, 2)))
    with pytest.raises(ShapeError, match="y must be"):
        mean_cost(layer, "half_squared_error", np.ones((4, 3)), np.ones((4, 1)))
