"""Tall rows: Newton's method with the matrix of a sample."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from app.numeric import newton
from app.numeric.activations import Array
from app.numeric.method import Settings, State
from app.numeric.newton import Newton, is_tall, prepare
from app.numeric.objective import Objective
from app.numeric.rows import Block, Rows, rows_of
from tests.numeric.builders import in_blocks
from tests.numeric.second_order import (
    LOSSES,
    arrived,
    assert_resuming_changes_nothing,
    excess,
    least_value,
    trajectory,
)

ROWS, INPUTS = 60_000, 17


def tall(
    seed: int, *, rows: int = ROWS, inputs: int = INPUTS, outputs: int = 1
) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, inputs))
    score = x @ random.normal(size=(inputs, outputs)) / np.sqrt(inputs)
    return x, (random.random(score.shape) < special.expit(score)).astype(np.float64)


def logistic(x: Array, y: Array, *, l2: float = 0.0, weight: Array | None = None) -> Objective:
    return Objective("sigmoid", "cross_entropy", rows_of(x, y, weight), l2=l2)


def plain_minimum(objective: Objective) -> float:
    """By Newton's method with all rows, which the tests beside this one hold against SciPy."""
    method = Newton(objective, 0.0)
    state = method.state_at(objective.start())
    while not state.converged:
        state = method.step(state)
    return state.cost


def phase(state: State) -> float:
    return float(state.memory[-1][0])


def with_counted_passes(rows: Rows) -> tuple[Rows, list[int]]:
    """The same rows, and a list that grows by one whenever all of them are read."""
    passes: list[int] = []

    def blocks() -> Iterable[Block]:
        passes.append(rows.total)
        return rows.blocks()

    return rows._replace(blocks=blocks), passes


@pytest.mark.parametrize("seed", range(2))
def test_two_passes_over_all_rows_come_within_a_millionth_of_the_minimum(seed: int) -> None:
    x, y = tall(seed, rows=250_000, inputs=5)
    rows, passes = with_counted_passes(rows_of(x, y))
    run = prepare(Objective("sigmoid", "cross_entropy", rows), Settings())
    # One pass draws the sample; what is left are two of value and slope.
    passes.clear()

    state = run.step(run.step(run.start))

    assert len(passes) == 3
    assert state.cost <= plain_minimum(logistic(x, y)) * (1.0 + 1e-6)


@pytest.mark.parametrize("kind", ["plain", "scales", "offset", "sorted", "two outputs"])
@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_the_minimum_is_as_precise_as_with_all_rows(kind: str, l2: float) -> None:
    x, y = tall(0, outputs=2 if kind == "two outputs" else 1)
    if kind == "scales":
        x = x * 10.0 ** np.linspace(-6, 6, INPUTS)
    if kind == "offset":
        x = x + 1e3
    if kind == "sorted":
        order = np.argsort(y[:, 0], kind="stable")
        x, y = x[order], y[order]
    objective = logistic(x, y, l2=l2)
    assert is_tall(objective)

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert phase(state) == newton.SAMPLED
    assert state.epoch <= 8
    assert excess(objective, state, plain_minimum(objective)) <= 1e-8


def test_the_minimum_is_that_of_scipy() -> None:
    x, y = tall(1)

    objective = logistic(x, y)
    state = arrived(prepare(objective, Settings()))

    assert excess(objective, state, least_value(LOSSES["cross_entropy"], x, y, 0.0)) <= 1e-8


@pytest.mark.parametrize("kind", ["rare column", "duplicates", "constant", "rows without weight"])
def test_where_a_sample_says_too_little_all_rows_take_over(kind: str) -> None:
    x, y = tall(2)
    weight = None
    if kind == "rare column":
        # Of 17 rows a sample of 5 % has one or none.
        x[:, 0] = 0.0
        x[:: len(x) // 17, 0] = 1.0
    if kind == "duplicates":
        x[:, 0] = x[:, 1]
    if kind == "constant":
        x[:, 0] = 3.0
    if kind == "rows without weight":
        weight = np.zeros(len(x))
        weight[: len(x) // 50] = 1.0
    objective = logistic(x, y, weight=weight)

    state = arrived(prepare(objective, Settings()))

    assert state.converged
    assert excess(objective, state, plain_minimum(objective)) <= 1e-8
    if kind != "rows without weight":
        assert phase(state) == newton.ALL_ROWS


def test_a_sample_that_misleads_is_left_for_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = tall(3)
    # All of the sample's labels are turned: its minimum is worse than the start.
    monkeypatch.setattr(newton, "sample_of", lambda *_: rows_of(x[:3000], 1.0 - y[:3000]))
    objective = logistic(x, y)

    states = trajectory(prepare(objective, Settings()))

    assert phase(states[1]) == newton.ALL_ROWS
    assert excess(objective, states[-1], plain_minimum(objective)) <= 1e-8


def test_a_matrix_that_misleads_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = tall(3)
    # Rows of half the size: a quarter of the curvature, so that steps go four times too far.
    monkeypatch.setattr(newton, "sample_of", lambda *_: rows_of(0.5 * x[:3000], y[:3000]))
    objective = logistic(x, y)

    state = arrived(prepare(objective, Settings()))

    assert phase(state) == newton.ALL_ROWS
    assert excess(objective, state, plain_minimum(objective)) <= 1e-8


@pytest.mark.parametrize("tolerance", [1e-3, 1e-8, 0.0])
def test_any_tolerance_ends(tolerance: float) -> None:
    x, y = tall(4)

    state = arrived(prepare(logistic(x, y), Settings(tolerance=tolerance)), steps_max=25)

    assert state.converged


@pytest.mark.parametrize(("rows", "inputs"), [(20_000, 17), (60_000, 64), (1_000, 2)])
def test_rows_too_few_for_a_sample_are_not_tall(rows: int, inputs: int) -> None:
    assert not is_tall(logistic(*tall(0, rows=rows, inputs=inputs)))


def test_streamed_rows_are_not_sampled() -> None:
    objective = logistic(*tall(0))

    streamed = Objective("sigmoid", "cross_entropy", in_blocks(objective.rows, 10_000))

    assert is_tall(objective)
    assert not is_tall(streamed)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(0, 1000), st.booleans())
def test_resuming_gives_the_same_bits_as_never_stopping(seed: int, cut: int, hard: bool) -> None:
    x, y = tall(seed % 20, rows=4000, inputs=2, outputs=2)
    if hard:
        x[:, 0] = 0.0
        x[seed % 1000 :: 1000, 0] = 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newton, "SAMPLED_ENTRIES_MIN", 0)
        assert is_tall(logistic(x, y))

        assert_resuming_changes_nothing(
            lambda: prepare(logistic(x, y), Settings(tolerance=1e-10, seed=seed)), cut
        )


def test_the_seed_draws_the_sample() -> None:
    objective = logistic(*tall(5))

    one, same, other = (
        prepare(objective, Settings(seed=seed)).step(prepare(objective, Settings()).start)
        for seed in (1, 1, 2)
    )

    assert one.parameters.tobytes() == same.parameters.tobytes()
    assert one.parameters.tobytes() != other.parameters.tobytes()
