from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.errors import ShapeError
from app.numeric.layer import Layer, gradients, mean_cost
from app.numeric.objective import Objective
from app.numeric.rows import rows_of
from tests.numeric.builders import PAIRS, allowed_targets, in_blocks


def problem(
    activation: str, cost: str, seed: int = 0, rows: int = 37
) -> tuple[Array, Array, Array]:
    """P (3, 5), x (rows, 4), y (rows, 3)."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 4))
    return random.normal(size=(3, 5)), x, allowed_targets(seed, rows, 3, activation, cost)


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_value_and_slope_are_those_of_the_plain_formulas(activation: str, cost: str) -> None:
    p, x, y = problem(activation, cost)
    layer = Layer(p[:, :-1], p[:, -1], activation)
    expected = gradients(layer, cost, x, y)

    value, slope = Objective(activation, cost, rows_of(x, y), l2=0.3).value_and_slope(p)

    penalty = 0.15 * np.square(layer.w).sum()
    assert value == pytest.approx(mean_cost(layer, cost, x, y) + penalty, rel=1e-13)
    np.testing.assert_allclose(
        slope[:, :-1], expected.dC_dw / len(x) + 0.3 * layer.w, rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(slope[:, -1], expected.dC_db / len(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_value_is_that_of_value_and_slope_and_of_its_parts(activation: str, cost: str) -> None:
    p, x, y = problem(activation, cost)
    objective = Objective(activation, cost, rows_of(x, y), l2=0.3, l1=0.2)

    value, slope = objective.value_and_slope(p)
    values, slope_again = objective.values_and_slope(p)

    assert objective.value(p) == pytest.approx(value, rel=1e-13)
    assert values.sum() + 0.2 * np.abs(p[:, :-1]).sum() == pytest.approx(value, rel=1e-13)
    assert slope.tolist() == slope_again.tolist()
    assert len(values) == (
        3 if ACTIVATIONS[activation].elementwise or cost != "cross_entropy" else 1
    )


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
@settings(max_examples=10)
@given(size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_streamed_blocks_give_the_sums_of_one_block(
    activation: str, cost: str, size: int, seed: int
) -> None:
    p, x, y = problem(activation, cost, seed)
    weight = np.random.default_rng(seed).random(len(x)) + 0.1
    rows = rows_of(x, y, weight)

    value, slope = Objective(activation, cost, rows).value_and_slope(p)
    streamed = Objective(activation, cost, in_blocks(rows, size)).value_and_slope(p)

    assert streamed[0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(streamed[1], slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_weights_are_repeated_rows(activation: str, cost: str) -> None:
    p, x, y = problem(activation, cost)
    times = np.random.default_rng(5).integers(0, 4, len(x))
    repeated = np.repeat(np.arange(len(x)), times)

    weighted = Objective(activation, cost, rows_of(x, y, times.astype(float))).value_and_slope(p)
    plain = Objective(activation, cost, rows_of(x[repeated], y[repeated])).value_and_slope(p)

    assert weighted[0] == pytest.approx(plain[0], rel=1e-13)
    np.testing.assert_allclose(weighted[1], plain[1], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_float32_rows_give_float64_sums_near_those_of_float64(activation: str, cost: str) -> None:
    p, x, y = problem(activation, cost, rows=2000)

    value, slope = Objective(activation, cost, rows_of(x, y, dtype=np.float32)).value_and_slope(p)

    expected = Objective(activation, cost, rows_of(x, y)).value_and_slope(p)
    assert slope.dtype == np.float64
    assert value == pytest.approx(expected[0], rel=2e-6)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_start_gives_every_row_the_mean_target(activation: str) -> None:
    x = np.ones((2, 3))
    y = np.array([[0.2, 0.8], [0.4, 0.6]])
    objective = Objective(activation, "half_squared_error", rows_of(x, y, np.array([1.0, 3.0])))

    start = objective.start()

    y_hat = ACTIVATIONS[activation].forward(start[:, -1])
    np.testing.assert_allclose(y_hat, [0.35, 0.65])
    assert not start[:, :-1].any()


def test_the_slope_is_the_complex_step_of_the_value() -> None:
    p, x, y = problem("tanh", "half_squared_error")
    _, slope = Objective("tanh", "half_squared_error", rows_of(x, y), l2=0.1).value_and_slope(p)

    design = np.vstack((x.T, np.ones(len(x))))
    for index in np.ndindex(p.shape):
        moved = p.astype(complex)
        moved[index] += 1e-30j
        y_hat = np.tanh(cast("Array", moved @ design))
        cost = 0.5 * np.square(y_hat - y.T).sum() / len(x) + 0.05 * np.square(moved[:, :-1]).sum()
        assert slope[index] == pytest.approx(cost.imag / 1e-30, rel=1e-11, abs=1e-15)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError):
        rows_of(np.ones((3, 2)), np.ones((4, 1)))
    with pytest.raises(ShapeError):
        rows_of(np.ones((3, 2)), np.ones((3, 1)), np.ones(2))
