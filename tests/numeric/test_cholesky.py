import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from app.numeric.activations import Array
from app.numeric.cholesky import factorised, solved


def gram(seed: int, size: int) -> Array:
    x = np.random.default_rng(seed).normal(size=(3 * size, size))
    product: Array = x.T @ x
    return product


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_the_solution_of_a_good_matrix_is_that_of_lapack(seed: int, size: int) -> None:
    matrix, right = gram(seed, size), np.random.default_rng(seed + 1).normal(size=size)

    factor = factorised(matrix)

    assert factor is not None
    assert factor.jitter == 0.0
    np.testing.assert_allclose(
        solved(factor, right), linalg.solve(matrix, right, assume_a="pos"), rtol=1e-8, atol=1e-12
    )


@given(st.integers(0, 10_000))
def test_units_of_the_columns_only_rescale_the_solution(seed: int) -> None:
    matrix, right = gram(seed, 5), np.random.default_rng(seed + 1).normal(size=5)
    units = 10.0 ** np.array([-6, -2, 0, 3, 6])

    plain, scaled = factorised(matrix), factorised(matrix * units * units[:, None])

    assert plain is not None
    assert scaled is not None
    np.testing.assert_allclose(
        solved(scaled, units * right) * units, solved(plain, right), rtol=1e-9
    )


def test_duplicate_columns_share_a_solution_without_growing_apart() -> None:
    x = np.random.default_rng(0).normal(size=(50, 4))
    x = np.hstack((x, x[:, :1]))
    matrix, right = x.T @ x, x.T @ np.ones(50)

    factor = factorised(matrix)

    assert factor is not None
    assert factor.jitter > 0.0
    solution = solved(factor, right)
    np.testing.assert_allclose(matrix @ solution, right, rtol=1e-9, atol=1e-9)
    assert abs(solution[0] - solution[-1]) < 0.1 * np.abs(solution).max()


def test_a_column_of_zeros_gets_zero() -> None:
    matrix = np.zeros((3, 3))
    matrix[:2, :2] = gram(0, 2)

    factor = factorised(matrix)

    assert factor is not None
    assert solved(factor, np.array([1.0, 2.0, 0.0]))[2] == 0.0


def test_a_matrix_spoilt_by_float32_rounding_is_factored_with_jitter() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    x = np.hstack((x, x + np.float32(1e-6)))
    matrix = (x.T @ x).astype(np.float64)

    factor = factorised(matrix, resolution=float(np.finfo(np.float32).eps))

    assert factor is not None
    assert 0.0 < factor.jitter < 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_matrix_that_is_not_finite_has_no_factor(value: float) -> None:
    matrix = gram(0, 3)
    matrix[1, 1] = value

    assert factorised(matrix) is None
