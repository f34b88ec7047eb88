"""The quick kernels against the plain formulas of the tables, which complex steps have proved."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.numeric.kernels import KERNELS, composed, kernel_of
from tests.numeric.builders import PAIRS, allowed_targets


@pytest.mark.parametrize(("activation", "cost"), KERNELS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@settings(max_examples=30)
@given(
    rows=st.integers(1, 700),
    outputs=st.integers(1, 4),
    spread=st.floats(0.1, 30.0),
    weighted=st.booleans(),
    slope=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_kernel_gives_what_the_tables_give(
    activation: str,
    cost: str,
    dtype: type[np.floating[Any]],
    rows: int,
    outputs: int,
    spread: float,
    weighted: bool,
    slope: bool,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    z = (spread * random.normal(size=(outputs, rows))).astype(dtype)
    y = allowed_targets(seed, rows, outputs, activation, cost).T.astype(dtype)
    weight = random.random(rows).astype(dtype) if weighted else None
    expected_z = z.astype(np.float64)
    scratch = np.empty((2, *z.shape), dtype)
    expected = composed(activation, cost)(expected_z, y, scratch, weight, slope)

    with np.errstate(over="ignore", under="ignore"):
        totals = kernel_of(activation, cost)(z, y, scratch, weight, slope)

    precision = 1e-12 if dtype is np.float64 else 1e-5
    assert totals.dtype == np.float64
    np.testing.assert_allclose(
        totals.sum(), expected.sum(), rtol=precision, atol=precision * spread * rows * outputs
    )
    if len(expected) == outputs:
        np.testing.assert_allclose(totals, expected, rtol=precision, atol=precision * spread * rows)
    if slope:
        np.testing.assert_allclose(z, expected_z, rtol=0, atol=10 * precision)


def test_sums_of_many_float32_terms_do_not_drift() -> None:
    rows = 1_000_000
    z = np.random.default_rng(0).normal(size=(1, rows)).astype(np.float32)
    y = np.zeros_like(z)

    totals = kernel_of("identity", "half_squared_error")(
        z.copy(), y, np.empty((2, *z.shape), z.dtype), None, False
    )

    assert totals[0] == pytest.approx(0.5 * np.square(z.astype(np.float64)).sum(), rel=1e-6)


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_saturated_rows_are_silent(activation: str, cost: str) -> None:
    z = np.array([[-2000.0, -800.0, 800.0, 2000.0], [2000.0, 0.0, -800.0, 1.0]])
    y = allowed_targets(1, 4, 2, activation, cost).T.copy()

    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        warnings.simplefilter("error")
        totals = kernel_of(activation, cost)(z, y, np.empty((2, *z.shape), z.dtype), None, True)

    if activation != "exp":
        assert np.isfinite(totals).all()
        assert np.isfinite(z).all()
