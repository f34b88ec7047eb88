"""Matrices from a sample of the rows of a large table; test_lbfgs has those from all rows."""

import numpy as np
import pytest

from app.numeric.lbfgs import prepare
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.preconditioner import basis_of
from app.numeric.rows import Rows, rows_of


def objective_of(rows: Rows) -> Objective:
    return Objective("sigmoid", "cross_entropy", rows, l2=1e-6)


def table(dtype: type[np.float64 | np.float32]) -> Rows:
    """Units from 1e-3 to 1e3, a duplicate, and a level so rare that a sample misses it."""
    random = np.random.default_rng(0)
    x = random.normal(size=(220_000, 20)) * np.geomspace(1e-3, 1e3, 20)
    x[:, 7] = 0.0
    x[[5, 77_777, 200_001], 7] = 1.0
    x[:, 8] = x[:, 9]
    z = 800.0 * x[:, :1] + 1e-3 * x[:, -1:] + 2.0 * x[:, 7:8]
    return rows_of(
        x, (random.random(z.shape) < 1.0 / (1.0 + np.exp(-z))).astype(float), dtype=dtype
    )


def arrived(run: Run) -> State:
    state = run.start
    while not state.converged and state.epoch < 60:
        state = run.step(state)
    return state


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_sample_leads_to_the_minimum_that_all_rows_lead_to(
    dtype: type[np.float64 | np.float32],
) -> None:
    rows = table(dtype)
    # Rows that are not in memory are not sampled.
    whole = objective_of(rows._replace(in_memory=False))

    sampled = arrived(prepare(objective_of(rows), Settings(tolerance=1e-10)))
    expected = arrived(prepare(whole, Settings(tolerance=1e-10)))

    assert basis_of(objective_of(rows)).objective.rows.total < 10_000
    assert basis_of(whole).objective is whole
    assert sampled.converged
    assert sampled.cost == pytest.approx(expected.cost, rel=1e-6)


def test_a_small_table_is_used_whole() -> None:
    rows = rows_of(np.ones((2000, 3)), np.zeros((2000, 1)))

    assert basis_of(objective_of(rows)).stretch is None


def test_features_that_overflow_are_not_sampled() -> None:
    x = np.full((220_000, 20), 1e200)

    assert basis_of(objective_of(rows_of(x, np.zeros((220_000, 1))))).stretch is None
