import math
import warnings
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.optimize import approx_fprime

from app.numeric.activations import ACTIVATIONS, Array, OutputRange, pullback
from app.numeric.costs import COSTS

ELEMENTWISE = [name for name, row in ACTIVATIONS.items() if row.elementwise]
SMOOTH = [name for name in ELEMENTWISE if ACTIVATIONS[name].smooth]
BOUNDED = [name for name in ELEMENTWISE if np.isfinite(ACTIVATIONS[name].squared_cost_curvature)]
INVERTIBLE = [name for name, row in ACTIVATIONS.items() if row.inverse is not None]
Z = np.linspace(-30.0, 30.0, 241)
ORACLES: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "softplus": lambda z: np.logaddexp(0.0, z),
    "relu": lambda z: (z + np.abs(z)) / 2,
    "leaky_relu": lambda z: np.maximum(z, z / 100),
    "elu": lambda z: np.where(z > 0, z, np.vectorize(math.expm1)(np.minimum(z, 0.0))),
    "exp": np.vectorize(math.exp),
    "softmax": lambda z: special.softmax(z, axis=-1),
}


def derivative(name: str, z: Array) -> Array:
    sigma = ACTIVATIONS[name]
    assert sigma.derivative is not None
    return sigma.derivative(z, sigma.forward(z))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_forward_agrees_with_scipy_to_a_few_units_in_the_last_place(name: str) -> None:
    y = ACTIVATIONS[name].forward(Z)

    np.testing.assert_allclose(y, ORACLES[name](Z), rtol=2e-15, atol=0)


@pytest.mark.parametrize("name", SMOOTH)
def test_derivative_is_the_complex_step_of_forward(name: str) -> None:
    sigma = ACTIVATIONS[name]
    z = np.linspace(-8.0, 8.0, 101)

    stepped = sigma.forward(cast("Array", z + 1e-30j)).imag / 1e-30

    np.testing.assert_allclose(derivative(name, z), stepped, rtol=1e-12, atol=2e-16)


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_derivative_is_a_forward_difference_away_from_the_kink(name: str) -> None:
    z = np.array([-3.0, -0.1, 0.1, 3.0])

    jacobian = approx_fprime(z, ACTIVATIONS[name].forward, 1e-6)

    np.testing.assert_allclose(np.diag(derivative(name, z)), jacobian, atol=1e-9)


def test_pullback_of_softmax_is_the_complex_step_of_its_jacobian() -> None:
    sigma = ACTIVATIONS["softmax"]
    z = np.random.default_rng(0).normal(size=(5, 4))
    slope = np.random.default_rng(1).normal(size=(5, 4))
    expected = np.empty_like(z)
    for output in range(4):
        moved = z + 1e-30j * np.eye(4)[output]
        expected[:, output] = (slope * sigma.forward(cast("Array", moved)).imag).sum(axis=1) / 1e-30

    found = pullback(sigma, z, sigma.forward(z), slope)

    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_inverse_undoes_forward(name: str) -> None:
    sigma = ACTIVATIONS[name]
    assert sigma.inverse is not None
    z = np.linspace(-6.0, 6.0, 101)

    y = sigma.forward(z)

    np.testing.assert_allclose(sigma.inverse(y), z, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_forward_undoes_inverse_far_into_the_tails(name: str) -> None:
    sigma = ACTIVATIONS[name]
    assert sigma.inverse is not None
    y = np.array([1e-300, 1e-20, 1e-5, 0.3, 0.5, 0.99, 1 - 1e-12])

    z = sigma.inverse(y)

    np.testing.assert_allclose(sigma.forward(z), y, rtol=1e-12)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_extreme_pre_activations_give_no_warning_and_stay_in_the_closed_range(name: str) -> None:
    sigma = ACTIVATIONS[name]
    z = np.array([-np.inf, -1e308, -800.0, -0.0, 5e-324, 800.0, 1e308, np.inf])

    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        y = sigma.forward(z)
        slope = derivative(name, z)

    assert (y >= sigma.output_range.low).all()
    assert (y <= sigma.output_range.high).all()
    assert (slope >= 0).all()
    assert (slope <= 1).all() or name == "exp"


def test_softmax_of_extreme_pre_activations_gives_no_warning_and_sums_to_one() -> None:
    z = np.array([[1e308, -1e308, 0.0], [-800.0, 800.0, 5e-324]])

    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        y = ACTIVATIONS["softmax"].forward(z)

    assert y.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("cost", ["half_squared_error", "huber"])
@pytest.mark.parametrize("name", BOUNDED)
def test_curvature_bounds_every_second_derivative(name: str, cost: str) -> None:
    sigma = ACTIVATIONS[name]
    bound = COSTS[cost].curvature(sigma)
    z = np.linspace(-12.0, 12.0, 24_001)
    low, high = max(sigma.output_range.low, -50.0), min(sigma.output_range.high, 50.0)
    step = 1e-4

    def slope(points: Array, target: float) -> Array:
        return COSTS[cost].delta(sigma, points, np.full_like(points, target))

    curvatures = [
        (slope(z + step, target) - slope(z - step, target)) / (2 * step)
        for target in np.linspace(low, high, 21)
    ]

    assert np.max(curvatures) <= bound * (1 + 1e-6)
    assert np.max(curvatures) >= 0.99 * bound


@settings(max_examples=200)
@given(outputs=st.integers(2, 6), spread=st.floats(0.01, 5.0), seed=st.integers(0, 2**32 - 1))
def test_curvature_of_softmax_bounds_its_hessians(outputs: int, spread: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    sigma = ACTIVATIONS["softmax"]
    z = spread * random.normal(size=(1, outputs))
    y = np.eye(outputs)[random.integers(0, outputs, 1)]

    for cost in ("half_squared_error", "cross_entropy"):
        rows = [
            COSTS[cost].delta(sigma, z + step, y) - COSTS[cost].delta(sigma, z - step, y)
            for step in 1e-5 * np.eye(outputs)
        ]
        hessian = np.vstack(rows) / 2e-5
        assert (
            np.linalg.eigvalsh(hessian + hessian.T)[-1] / 2 <= COSTS[cost].curvature(sigma) + 1e-8
        )


@pytest.mark.parametrize(
    ("activation", "cost"),
    [(name, cost) for cost, row in COSTS.items() for name, f in row.second_derivative.items() if f],
)
def test_second_derivatives_are_differences_of_delta(activation: str, cost: str) -> None:
    sigma, row = ACTIVATIONS[activation], COSTS[cost]
    second = row.second_derivative[activation]
    assert second is not None
    z = np.linspace(-3.0, 3.0, 50)[:, np.newaxis]
    y = np.full_like(z, 0.3)

    found = second(z, y)

    stepped = (row.delta(sigma, z + 1e-5, y) - row.delta(sigma, z - 1e-5, y)) / 2e-5
    np.testing.assert_allclose(found, stepped, rtol=1e-8, atol=1e-9)


def test_open_ends_are_outside_and_closed_ends_inside() -> None:
    half_open = OutputRange(0.0, 1.0, low_open=False, high_open=True)

    inside = half_open.contains(np.array([-1e-300, 0.0, 0.5, 1.0, np.nan]))

    assert inside.tolist() == [False, True, True, False, False]
    assert not ACTIVATIONS["identity"].output_range.contains(np.inf)
