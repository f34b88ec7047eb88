import warnings
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from scipy import special
from scipy.optimize import approx_fprime

from app.numeric.activations import ACTIVATIONS, Array, OutputRange

SMOOTH = [name for name, row in ACTIVATIONS.items() if row.smooth]
INVERTIBLE = [name for name, row in ACTIVATIONS.items() if row.inverse is not None]
Z = np.linspace(-30.0, 30.0, 241)
ORACLES: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "softplus": lambda z: np.logaddexp(0.0, z),
    "relu": lambda z: (z + np.abs(z)) / 2,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_forward_agrees_with_scipy_to_a_few_units_in_the_last_place(name: str) -> None:
    y = ACTIVATIONS[name].forward(Z)

    np.testing.assert_allclose(y, ORACLES[name](Z), rtol=2e-15, atol=0)


@pytest.mark.parametrize("name", SMOOTH)
def test_derivative_is_the_complex_step_of_forward(name: str) -> None:
    sigma = ACTIVATIONS[name]
    z = np.linspace(-8.0, 8.0, 101)

    stepped = sigma.forward(cast("Array", z + 1e-30j)).imag / 1e-30

    np.testing.assert_allclose(
        sigma.derivative(z, sigma.forward(z)), stepped, rtol=1e-12, atol=2e-16
    )


def test_derivative_of_relu_is_a_forward_difference_away_from_the_kink() -> None:
    sigma = ACTIVATIONS["relu"]
    z = np.array([-3.0, -0.1, 0.1, 3.0])

    jacobian = approx_fprime(z, sigma.forward, 1e-6)

    found = sigma.derivative(z, sigma.forward(z))
    np.testing.assert_allclose(np.diag(found), jacobian, atol=1e-9)


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


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_extreme_pre_activations_give_no_warning_and_stay_in_the_closed_range(name: str) -> None:
    sigma = ACTIVATIONS[name]
    z = np.array([-np.inf, -1e308, -800.0, -0.0, 5e-324, 800.0, 1e308, np.inf])

    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        y = sigma.forward(z)
        slope = sigma.derivative(z, y)

    assert (y >= sigma.output_range.low).all()
    assert (y <= sigma.output_range.high).all()
    assert (slope >= 0).all()
    assert (slope <= 1).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_squared_cost_curvature_bounds_every_second_derivative(name: str) -> None:
    sigma = ACTIVATIONS[name]
    z = np.linspace(-12.0, 12.0, 4001)
    low, high = max(sigma.output_range.low, -50.0), min(sigma.output_range.high, 50.0)
    step = 1e-4

    def slope(points: Array, target: float) -> Array:
        y = sigma.forward(points)
        return sigma.derivative(points, y) * (y - target)

    curvatures = [
        (slope(z + step, target) - slope(z - step, target)) / (2 * step)
        for target in np.linspace(low, high, 21)
    ]

    assert np.max(curvatures) <= sigma.squared_cost_curvature * (1 + 1e-6)
    assert np.max(curvatures) >= 0.99 * sigma.squared_cost_curvature


def test_open_ends_are_outside_and_closed_ends_inside() -> None:
    half_open = OutputRange(0.0, 1.0, low_open=False, high_open=True)

    inside = half_open.contains(np.array([-1e-300, 0.0, 0.5, 1.0, np.nan]))

    assert inside.tolist() == [False, True, True, False, False]
    assert not ACTIVATIONS["identity"].output_range.contains(np.inf)
