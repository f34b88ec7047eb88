import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike
from sklearn.datasets import load_diabetes

from app.numeric import learning_rate
from app.numeric.activations import Array
from app.numeric.costs import is_bounded
from app.numeric.errors import NumericError
from app.numeric.objective import Objective
from app.numeric.rows import Rows, rows_of
from tests.numeric.builders import PAIRS, in_blocks


def least_squares(rows: Rows, l2: float = 0.0) -> Objective:
    return Objective("identity", "half_squared_error", rows, l2=l2)


def diabetes() -> Rows:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return rows_of(x, (y[:, None] - y.mean()) / y.std())


def drawn(rows: int, inputs: int, *, dtype: DTypeLike = np.float64) -> tuple[Array, Rows]:
    x = np.random.default_rng(0).normal(size=(rows, inputs)) + 0.2
    return x, rows_of(x, np.zeros((rows, 1)), dtype=dtype)


def with_ones(x: Array) -> Array:
    return np.column_stack((x, np.ones(len(x))))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("rows", "inputs"), [(50, 8), (300, 511), (40, 700), (600, 550)])
def test_smoothness_is_the_largest_singular_value_rounded_up_at_most(
    rows: int, inputs: int, streamed: bool, dtype: DTypeLike
) -> None:
    x, data = drawn(rows, inputs, dtype=dtype)
    source = in_blocks(data, 17) if streamed else data
    objective = Objective("sigmoid", "cross_entropy", source, l2=0.5)

    found = learning_rate.smoothness(objective)

    exact = 0.25 * np.linalg.norm(with_ones(x), 2) ** 2 / rows + 0.5
    precision = 1e-12 if dtype is np.float64 else 1e-5
    assert exact * (1 - precision) <= found <= exact * 1.02


@pytest.mark.parametrize("inputs", [3, 40, 600])
def test_row_weights_are_repeated_rows(inputs: int) -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(size=(30, inputs)), random.normal(size=(30, 1))
    times = random.integers(1, 4, 30)

    weighted = least_squares(rows_of(x, y, times.astype(float)))
    repeated = least_squares(rows_of(np.repeat(x, times, axis=0), np.repeat(y, times, axis=0)))

    found, expected = (learning_rate.smoothness(each) for each in (weighted, repeated))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("inputs", [5, 600])
def test_a_curvature_that_overflows_makes_the_rate_nan(inputs: int) -> None:
    x = np.full((20, inputs), 1e200)
    objective = least_squares(rows_of(x, np.zeros((20, 1))))

    assert np.isnan(learning_rate.automatic(objective))
    assert np.isnan(learning_rate.automatic_for_batches(objective, [4], momentum=0.5)).all()


def test_expected_smoothness_goes_from_the_worst_row_to_the_whole() -> None:
    rows = diabetes()
    objective = least_squares(rows)

    bounds = learning_rate.expected_smoothness(objective, (1, 10, 100, rows.total))

    (block,) = rows.blocks()
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == pytest.approx(np.square(block.x).sum(axis=0).max())
    assert bounds[-1] == learning_rate.smoothness(objective)


class Enumerated:
    """Least squares small enough to look at every batch of a size."""

    def __init__(self, seed: int, size: int) -> None:
        random = np.random.default_rng(seed)
        self.random = random
        self.x = random.normal(size=(6, 2)) * random.lognormal(size=(6, 1))
        self.y = random.normal(size=6)
        weight = random.random(6) + 0.05
        rows = rows_of(self.x, self.y[:, None], weight)
        self.objective = least_squares(rows, l2=0.1)
        self.weight: Array = weight / weight.mean()
        (self.bound,) = learning_rate.expected_smoothness(self.objective, [size])
        self.batches = [np.array(batch) for batch in itertools.combinations(range(6), size)]
        penalty = np.diag([0.1, 0.1, 0.0])
        design = with_ones(self.x)
        gram = design.T @ (self.weight[:, None] * design) / 6 + penalty
        self.best: Array = np.linalg.solve(gram, design.T @ (self.weight * self.y) / 6)[None]

    def slopes(self, p: Array) -> Array:
        """Of every batch, (batches, 3)."""
        design = with_ones(self.x)
        each = (self.weight * (design @ p[0] - self.y))[:, None] * design
        ridge = 0.1 * np.append(p[0, :-1], 0.0)
        return np.array([each[batch].mean(axis=0) + ridge for batch in self.batches])

    def excess(self, p: Array) -> float:
        return self.objective.value(p) - self.objective.value(self.best)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 6))
def test_expected_smoothness_bounds_the_slopes_of_all_batches(seed: int, size: int) -> None:
    problem = Enumerated(seed, size)
    p = problem.random.normal(size=(1, 3)) * 3

    apart = np.square(problem.slopes(p) - problem.slopes(problem.best)).sum(axis=1).mean()

    assert apart <= 2 * problem.bound * problem.excess(p) * (1 + 1e-9) + 1e-12


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 6),
    momentum=st.floats(0.0, 0.99),
)
def test_a_heavy_ball_step_at_the_automatic_rate_falls_but_for_the_noise(
    seed: int, size: int, momentum: float
) -> None:
    problem = Enumerated(seed, size)
    before, p = problem.random.normal(size=(2, 1, 3))
    (rate,) = learning_rate.automatic_for_batches(problem.objective, [size], momentum=momentum)
    plain, inertia = rate / (1 - momentum), momentum / (1 - momentum)

    after = p + momentum * (p - before) - rate * problem.slopes(p)

    ahead, ahead_before = after + inertia * (after - p), p + inertia * (p - before)
    energy = np.square(ahead - problem.best).sum(axis=1).mean()
    energy += 2 * plain * inertia * problem.excess(p)
    energy_before = np.square(ahead_before - problem.best).sum()
    energy_before += 2 * plain * inertia * problem.excess(before)
    noise = np.square(problem.slopes(problem.best)).sum(axis=1).mean()
    assert energy <= (energy_before + 2 * plain**2 * noise) * (1 + 1e-9)


@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_pairs_said_to_have_a_rate_for_batches_have_one_and_the_others_are_refused(
    activation: str, cost: str
) -> None:
    random = np.random.default_rng(0)
    rows = rows_of(random.normal(size=(20, 3)), np.full((20, 2), 0.5))
    objective = Objective(activation, cost, rows)

    assert learning_rate.automatic(objective) > 0.0
    if is_bounded(activation, cost):
        assert learning_rate.automatic_for_batches(objective, [5], momentum=0.9)[0] > 0.0
    else:
        with pytest.raises(NumericError, match="give a learning_rate, or use solver lbfgs"):
            learning_rate.automatic_for_batches(objective, [5], momentum=0.9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_curvature_along_the_slope_is_that_of_the_quadratic(dtype: DTypeLike) -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=(50, 4)), random.normal(size=(50, 2))
    objective = least_squares(rows_of(x, y, dtype=dtype), l2=0.3)
    start = objective.start()

    found = learning_rate.curvature_along_slope(objective, start)

    _, slope = objective.value_and_slope(start)
    hessian = with_ones(x).T @ with_ones(x) / 50 + 0.3 * np.diag([1, 1, 1, 1, 0])
    exact = np.sum((slope @ hessian) * slope) / np.sum(slope * slope)
    assert found == pytest.approx(exact, rel=1e-8 if dtype is np.float64 else 1e-3)


def test_a_start_without_slope_has_curvature_one() -> None:
    objective = Objective("exp", "poisson", rows_of(np.zeros((5, 2)), np.zeros((5, 1))))
    flat = np.array([[0.0, 0.0, -800.0]])

    assert learning_rate.curvature_along_slope(objective, flat) == 1.0


@pytest.mark.parametrize("full_batch", [True, False])
def test_the_rate_of_adam_grows_with_the_targets(full_batch: bool) -> None:
    x, y = load_diabetes(return_X_y=True)
    objectives = [least_squares(rows_of(x, scale * y[:, None])) for scale in (1.0, 1e6)]

    small, large = (
        learning_rate.automatic_for_adam(each, full_batch=full_batch) for each in objectives
    )

    assert large == pytest.approx(1e6 * small)


def test_the_rate_of_adam_is_the_customary_one_on_standardised_data() -> None:
    objective = least_squares(diabetes())

    assert 0.005 < learning_rate.automatic_for_adam(objective, full_batch=True) < 0.05
    assert 0.0005 < learning_rate.automatic_for_adam(objective, full_batch=False) < 0.005
