import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar, nnls
from sklearn.linear_model import Lasso

from app.numeric.activations import Array
from app.numeric.lasso import Quadratic, kkt_residual, lowest
from app.numeric.proximal_model import Penalty, unshifted

seeds = st.integers(0, 10_000)


def random_problem(seed: int, *, entries: int, rank: int, non_negative: bool) -> Quadratic:
    """A positive semidefinite problem; of a rank below its size, a singular one."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(rank, entries)) + random.normal(size=(rank, 1))
    root /= np.linalg.norm(root, axis=0)
    linear = root.T @ random.normal(size=rank)
    penalty = random.random(entries) * random.choice([0.02, 0.3])
    return Quadratic(root.T @ root, linear, penalty, non_negative)


def value(problem: Quadratic, v: Array) -> float:
    matrix, linear, penalty, _ = problem
    return float(0.5 * v @ matrix @ v + linear @ v + penalty @ np.abs(v))


@settings(max_examples=150)
@given(seeds, st.integers(1, 25), st.integers(1, 25), st.booleans())
def test_the_lowest_point_meets_its_conditions_to_rounding(
    seed: int, entries: int, rank: int, non_negative: bool
) -> None:
    problem = random_problem(seed, entries=entries, rank=rank, non_negative=non_negative)

    v = lowest(problem, np.zeros(entries))

    residual = kkt_residual(problem, v, problem.matrix @ v + problem.linear)
    assert residual.max() <= 1e-11 * (1.0 + np.abs(v).sum())
    assert not non_negative or v.min() >= 0.0


@settings(max_examples=50)
@given(seeds, st.integers(1, 12), st.booleans())
def test_where_the_search_starts_does_not_change_the_lowest_value(
    seed: int, entries: int, non_negative: bool
) -> None:
    problem = random_problem(seed, entries=entries, rank=20, non_negative=non_negative)
    start = np.abs(np.random.default_rng(seed).normal(size=entries)) * 10.0

    one, other = lowest(problem, np.zeros(entries)), lowest(problem, start)

    assert value(problem, one) == pytest.approx(value(problem, other), rel=1e-12, abs=1e-14)


def test_entries_of_any_sign_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 15))
    x /= np.linalg.norm(x, axis=0)
    y = random.normal(size=40)
    problem = Quadratic(x.T @ x, -x.T @ y, np.full(15, 0.3), False)

    v = lowest(problem, np.zeros(15))

    peer = Lasso(alpha=0.3 / 40, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(v, peer.coef_, atol=1e-10)
    assert ((v == 0.0) == (peer.coef_ == 0.0)).all()


@pytest.mark.parametrize("rows", [60, 12])
def test_non_negative_entries_fit_as_well_as_those_of_scipy(rows: int) -> None:
    random = np.random.default_rng(1)
    x = np.abs(random.normal(size=(rows, 30)))
    x /= np.linalg.norm(x, axis=0)
    y = x @ np.maximum(random.normal(size=30), 0.0) + random.normal(size=rows)
    problem = Quadratic(x.T @ x, -x.T @ y, np.zeros(30), True)

    v = lowest(problem, np.zeros(30))

    _, distance = nnls(x, y)
    assert np.linalg.norm(x @ v - y) == pytest.approx(distance, rel=1e-9)


@settings(max_examples=60)
@given(seeds, st.integers(2, 6), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.7]))
def test_no_shift_of_softmax_weights_costs_less(
    seed: int, outputs: int, l1: float, l2: float
) -> None:
    w = np.random.default_rng(seed).normal(size=(outputs, 3)).round(1)

    found = unshifted(w, l2, Penalty(l1, False))

    def cost(weights: Array) -> float:
        return float(l1 * np.abs(weights).sum() + 0.5 * l2 * np.square(weights).sum())

    for column in range(3):
        other = minimize_scalar(lambda s, k=column: cost(w[:, k] - s), tol=1e-12)
        assert cost(found[:, column]) <= other.fun + 1e-9
    np.testing.assert_allclose(np.diff(found, axis=0), np.diff(w, axis=0), atol=1e-14)


def test_weights_that_need_no_shift_keep_their_zeros() -> None:
    w = np.array([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0], [-1.0, 0.0]])

    found = unshifted(w, 0.0, Penalty(0.1, False))

    np.testing.assert_array_equal(found, w)
    np.testing.assert_array_equal(unshifted(w + 1.0, 0.1, Penalty(0.0, True)).min(axis=0), 0.0)
