from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score

from app.numeric.activations import Array
from app.numeric.closed_form import least_squares
from app.numeric.layer import forward


def problem(rows: int, inputs: int, *, outputs: int = 2, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, inputs)) + random.normal(size=inputs)
    y = x @ random.normal(size=(inputs, outputs)) + 3.0 + 0.5 * random.normal(size=(rows, outputs))
    return x, y


def duplicated(x: Array) -> Array:
    return np.column_stack((x, x[:, 0], x[:, 1]))


def with_constants(x: Array) -> Array:
    return np.column_stack((x, np.full(len(x), 0.1), np.zeros(len(x))))


def badly_scaled(x: Array) -> Array:
    return x * np.logspace(-6, 6, x.shape[1])


def far_from_zero(x: Array) -> Array:
    return x + 1e6


@pytest.mark.parametrize("spoil", [duplicated, with_constants, badly_scaled, far_from_zero])
@pytest.mark.parametrize("rows", [200, 7])
def test_r2_equals_scikit_learn_linear_regression(
    rows: int, spoil: Callable[[Array], Array]
) -> None:
    x, y = problem(rows, 6)
    x = spoil(x)

    ours = r2_score(y, forward(least_squares(x, y, l2=0.0), x))
    # The default tol of scikit-learn 1.9 drops columns of 1e-6 beside 1e6: R2 0.35 for 0.91.
    theirs = r2_score(y, LinearRegression(tol=1e-14).fit(x, y).predict(x))

    assert ours == pytest.approx(theirs, abs=1e-10)


def test_weights_equal_scikit_learn_on_a_well_conditioned_table() -> None:
    x, y = load_diabetes(return_X_y=True)

    layer = least_squares(x, y[:, None], l2=0.0)
    reference = LinearRegression().fit(x, y)

    np.testing.assert_allclose(layer.w[0], reference.coef_, rtol=1e-10)
    assert layer.b[0] == pytest.approx(reference.intercept_, rel=1e-13)


@pytest.mark.parametrize(("rows", "inputs"), [(5, 12), (40, 6)])
def test_of_several_minima_the_smallest_weights_are_taken(rows: int, inputs: int) -> None:
    x, y = problem(rows, inputs)
    x = np.column_stack((x, 3.0 * x[:, 0]))

    layer = least_squares(x, y, l2=0.0)

    smallest = np.linalg.pinv(x - x.mean(axis=0)) @ (y - y.mean(axis=0))
    np.testing.assert_allclose(layer.w, smallest.T, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("l2", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("rows", [100, 4])
def test_weights_equal_scikit_learn_ridge_with_alpha_rows_times_l2(rows: int, l2: float) -> None:
    x, y = problem(rows, 6)
    x = with_constants(duplicated(x))

    layer = least_squares(x, y, l2=l2)

    reference = Ridge(alpha=rows * l2, solver="svd").fit(x, y)
    np.testing.assert_allclose(layer.w, reference.coef_, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(layer.b, reference.intercept_, rtol=1e-7)


def test_rank_is_judged_without_regard_to_units() -> None:
    x, y = problem(60, 4, outputs=1)
    scale = np.array([1e-8, 1e-3, 1e3, 1e8, 1e-8])
    x = np.column_stack((x, x[:, 0]))

    scaled = forward(least_squares(x * scale, y, l2=0.0), x * scale)

    np.testing.assert_allclose(scaled, forward(least_squares(x, y, l2=0.0), x), rtol=1e-9)


@pytest.mark.parametrize("magnitude", [1e-200, 1e200])
def test_squares_neither_overflow_nor_vanish(magnitude: float) -> None:
    x, y = problem(30, 3)

    layer = least_squares(x * magnitude, y, l2=0.0)

    np.testing.assert_allclose(layer.w * magnitude, least_squares(x, y, l2=0.0).w, rtol=1e-12)


def test_features_that_nearly_coincide_cost_few_digits() -> None:
    x, y = problem(200, 4)
    twin = x[:, :1] + 5e-4 * np.random.default_rng(1).normal(size=(200, 1))
    x = np.column_stack((x, twin))

    layer = least_squares(x, y, l2=0.0)

    reference = np.linalg.lstsq(np.column_stack((x, np.ones(200))), y)[0]
    np.testing.assert_allclose(layer.w, reference[:-1].T, rtol=1e-11)
