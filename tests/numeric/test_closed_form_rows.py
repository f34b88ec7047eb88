"""How the closed form reads its rows: in blocks, with weights, in float32, in few passes."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score

from app.numeric.activations import Array
from app.numeric.closed_form import least_squares, prepare
from app.numeric.layer import forward
from app.numeric.method import Settings
from app.numeric.objective import Objective
from app.numeric.rows import Rows, rows_of
from tests.numeric.builders import in_blocks
from tests.numeric.regression import (
    SPOILS,
    duplicated,
    far_from_zero,
    fitted,
    overwritten,
    problem,
    solved,
    unchanged,
    with_constants,
)

SEEDS = st.integers(0, 10**6)


@pytest.mark.parametrize("spoil", [unchanged, *SPOILS])
@pytest.mark.parametrize("rows", [5000, 60])
def test_weighted_rows_fit_as_well_as_in_scikit_learn(
    rows: int, spoil: Callable[[Array], Array]
) -> None:
    x, y = problem(rows, 6)
    x = spoil(x)
    weight = np.random.default_rng(2).exponential(size=rows)

    ours = r2_score(y, forward(fitted(x, y, weight), x), sample_weight=weight)
    reference = LinearRegression(tol=1e-14).fit(x, y, sample_weight=weight)

    theirs = r2_score(y, reference.predict(x), sample_weight=weight)
    assert ours == pytest.approx(theirs, abs=1e-10)


@pytest.mark.parametrize("rows", [5000, 60])
def test_weights_and_penalty_equal_scikit_learn_ridge(rows: int) -> None:
    x, y = problem(rows, 6)
    weight = np.random.default_rng(2).exponential(size=rows)

    layer = fitted(x, y, weight, l2=0.3)

    reference = Ridge(alpha=rows * 0.3).fit(x, y, sample_weight=weight / weight.mean())
    np.testing.assert_allclose(layer.w, reference.coef_, rtol=1e-10)
    np.testing.assert_allclose(layer.b, reference.intercept_, rtol=1e-10)


@pytest.mark.parametrize("spoil", [unchanged, duplicated, far_from_zero])
@given(seed=SEEDS)
@settings(max_examples=20)
def test_a_weight_is_a_number_of_repetitions(spoil: Callable[[Array], Array], seed: int) -> None:
    x, y = problem(40, 4, seed=seed)
    x = spoil(x)
    times = np.random.default_rng(seed).integers(0, 4, size=40)
    times[:8] = 1

    weighted = fitted(x, y, times.astype(np.float64), l2=0.1)
    repeated = fitted(np.repeat(x, times, axis=0), np.repeat(y, times, axis=0), l2=0.1)

    np.testing.assert_allclose(weighted.w, repeated.w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(forward(weighted, x), forward(repeated, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows", [5000, 60])
def test_rows_of_weight_zero_are_as_good_as_absent(rows: int) -> None:
    x, y = problem(rows, 5)
    x[rows // 2 :, 4] = 7.0
    weight = np.repeat([0.0, 1.0], rows // 2)
    x[0, 0], y[0, 0] = 1e200, -1e200

    layer = fitted(x, y, weight)

    rest = fitted(x[rows // 2 :], y[rows // 2 :])
    np.testing.assert_allclose(layer.w, rest.w, rtol=1e-11, atol=1e-13)
    assert not layer.w[:, 4].any()


@pytest.mark.parametrize("spoil", [unchanged, *SPOILS])
@given(seed=SEEDS, size=st.integers(1, 60), weighted=st.booleans(), l2=st.sampled_from([0.0, 0.1]))
@settings(max_examples=15)
def test_many_blocks_give_what_one_block_gives(
    spoil: Callable[[Array], Array], seed: int, size: int, weighted: bool, l2: float
) -> None:
    x, y = problem(60, 4, seed=seed)
    x = spoil(x)
    weight = np.random.default_rng(seed).exponential(size=60) if weighted else None
    rows = rows_of(x, y, weight)

    streamed = solved(overwritten(rows, size), l2=l2)

    whole = solved(rows, l2=l2)
    np.testing.assert_allclose(forward(streamed, x), forward(whole, x), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(streamed.w, whole.w, rtol=1e-9, atol=1e-11 * np.abs(whole.w).max())


@pytest.mark.parametrize("rows", [4000, 60])
@given(seed=SEEDS, size=st.integers(7, 500), weighted=st.booleans())
@settings(max_examples=10)
def test_many_blocks_agree_to_twelve_digits_where_the_condition_is_good(
    rows: int, seed: int, size: int, weighted: bool
) -> None:
    x, y = problem(rows, 6, seed=seed)
    weight = np.random.default_rng(seed).uniform(0.5, 2.0, size=rows) if weighted else None
    whole = rows_of(x, y, weight)

    streamed = least_squares(overwritten(whole, size), l2=0.0)

    np.testing.assert_allclose(streamed, least_squares(whole, l2=0.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "bits", "tolerance"), [(np.float64, 26, 1e-8), (np.float32, 12, 1e-6)]
)
@pytest.mark.parametrize("rows", [10_000, 60])
def test_twins_are_told_apart_whatever_little_they_differ_by(
    rows: int, dtype: DTypeLike, bits: int, tolerance: float
) -> None:
    random = np.random.default_rng(3)
    # Of few bits, so that neither y nor a twin is rounded and the weights are known.
    x = np.round(random.normal(size=(rows, 3)) * 2.0**bits) / 2.0**bits
    for power in range(2, bits, 3):
        x[:, 2] = x[:, 0] + random.integers(-8, 9, size=rows) / 2.0**power
        y = x @ [[2.0], [-1.0], [1.0]] + 3.0

        parameters = least_squares(rows_of(x, y, dtype=dtype), l2=0.0)

        np.testing.assert_allclose(parameters, [[2.0, -1.0, 1.0, 3.0]], rtol=tolerance)


@pytest.mark.parametrize("rows", [5000, 60])
@pytest.mark.parametrize("spoil", [unchanged, *SPOILS])
def test_float32_rows_fit_as_well_as_the_same_values_in_float64(
    rows: int, spoil: Callable[[Array], Array]
) -> None:
    x, y = problem(rows, 6)
    x, y = (values.astype(np.float32).astype(np.float64) for values in (spoil(x), y))

    layer = solved(rows_of(x, y, dtype=np.float32))

    exact = fitted(x, y)
    assert r2_score(y, forward(layer, x)) >= r2_score(y, forward(exact, x)) - 1e-10


def test_float32_rows_of_good_condition_give_five_digits() -> None:
    x, y = problem(5000, 6)

    layer = solved(rows_of(x, y, dtype=np.float32))

    np.testing.assert_allclose(layer.w, fitted(x, y).w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("spoil", "passes"), [(unchanged, 2), (with_constants, 3)])
def test_a_good_condition_takes_one_pass_for_the_sums_and_one_for_the_residuals(
    spoil: Callable[[Array], Array], passes: int
) -> None:
    x, y = problem(5000, 6)
    rows = rows_of(spoil(x), y)
    taken: list[int] = []

    def blocks() -> Any:
        taken.append(1)
        return rows.blocks()

    least_squares(rows._replace(blocks=blocks), l2=0.0)

    assert len(taken) == passes


@pytest.mark.parametrize("spoil", [unchanged, duplicated, far_from_zero])
def test_memory_is_bounded_by_the_columns_and_one_block(spoil: Callable[[Array], Array]) -> None:
    x, y = problem(40_000, 40)
    rows = in_blocks(rows_of(spoil(x), y), 1000)
    width = rows.inputs + rows.outputs + 1
    block_bytes, square_bytes = 8 * 1000 * width, 8 * width**2

    tracemalloc.start()
    least_squares(rows, l2=0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # A block as it was read, and one that is centred or weighted, while the next one is read.
    assert peak <= 4 * block_bytes + 10 * square_bytes + 100_000


@pytest.mark.parametrize("rows", [5000, 60])
def test_a_cost_that_overflows_is_an_outcome(rows: int) -> None:
    x, y = problem(rows, 3)
    run = prepare(objective_of(rows_of(x, 1e300 * y)), Settings())

    state = run.step(run.start)

    assert not np.isfinite(state.cost)


def objective_of(rows: Rows, *, l2: float = 0.0) -> Objective:
    return Objective("identity", "half_squared_error", rows, l2=l2)


@pytest.mark.parametrize("rows", [5000, 60])
def test_one_epoch_ends_at_a_minimum_and_says_so(rows: int) -> None:
    x, y = problem(rows, 6)
    objective = objective_of(rows_of(x, y, np.linspace(0.5, 1.5, rows)), l2=0.2)
    run = prepare(objective, Settings())

    state = run.step(run.start)

    cost, slope = objective.value_and_slope(state.parameters)
    assert np.abs(slope).max() <= 1e-13
    assert (state.epoch, state.batch, state.converged) == (1, 0, True)
    assert state.cost == pytest.approx(cost, rel=1e-14)
    assert not run.start.converged
    assert state.cost < run.start.cost
