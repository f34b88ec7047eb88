import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.numeric.activations import Array
from app.numeric.inversion import continuous
from app.numeric.inversion.continuous import Found, Moves
from app.numeric.inversion.question import NEARNESS
from tests.numeric.inversion.cases import CHECKED, random_moves
from tests.numeric.inversion.oracles import can_hold, least_cost, unit_rows
from tests.numeric.inversion.searches import costs_in, sequential_quadratic

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, numbers_max: int = 30) -> Moves:
    random = np.random.default_rng(seed)
    numbers, rows = int(random.integers(1, numbers_max + 1)), int(random.integers(1, 6))
    return random_moves(random, numbers, rows)


def cost(moves: Moves, d: Array, nearness: str) -> float:
    order = {"l1": 1, "l2": 2, "linf": np.inf}[nearness]
    return float(np.linalg.norm(costs_in(moves, d), order))


@CHECKED
@given(seed=SEEDS, nearness=st.sampled_from(NEARNESS))
def test_the_limits_hold_to_the_last_bit_and_the_conditions_to_rounding(
    seed: int, nearness: str
) -> None:
    moves = drawn(seed)

    found = continuous.nearest(moves, nearness)

    assume(found is not None)
    assert found is not None
    rows = unit_rows(moves)
    value = rows.a @ found.d
    room = 1e-9 * (1.0 + np.abs(rows.a) @ np.abs(found.d))
    assert (found.d >= moves.d_low).all()
    assert (found.d <= moves.d_high).all()
    assert (value >= rows.low - room).all()
    assert (value <= rows.high + room).all()
    assert found.proved


@CHECKED
@given(seed=SEEDS, nearness=st.sampled_from(NEARNESS))
def test_none_is_found_only_where_a_linear_program_finds_none(seed: int, nearness: str) -> None:
    moves = drawn(seed)

    found = continuous.nearest(moves, nearness)

    assert can_hold(moves, hair=1e-9 if found is None else -1e-9) is (found is not None)


@CHECKED
@given(seed=SEEDS, nearness=st.sampled_from(NEARNESS))
def test_the_change_costs_what_another_method_finds_to_be_the_least(
    seed: int, nearness: str
) -> None:
    moves = drawn(seed)

    found = continuous.nearest(moves, nearness)

    assume(found is not None)
    assert found is not None
    least = least_cost(moves, nearness)
    assert least is not None
    assert cost(moves, found.d, nearness) == pytest.approx(least, rel=1e-7, abs=1e-8)


@CHECKED
@given(seed=SEEDS)
def test_slsqp_finds_no_smaller_square(seed: int) -> None:
    moves = drawn(seed, numbers_max=12)
    found = continuous.nearest(moves, "l2")
    assume(found is not None)
    assert found is not None
    near = np.random.default_rng(seed).normal(size=len(found.d))

    reference = sequential_quadratic(moves, found.d + 0.01 * near)

    assume(reference is not None)
    assert reference is not None
    assert cost(moves, found.d, "l2") <= cost(moves, reference, "l2") * (1.0 + 1e-6) + 1e-6


@pytest.mark.parametrize("nearness", NEARNESS)
@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_numbers_are_no_harder(seed: int, nearness: str) -> None:
    random = np.random.default_rng(seed)
    moves = random_moves(random, 100, 10)

    found = continuous.nearest(moves, nearness)

    least = least_cost(moves, nearness)
    assert (found is None) is (least is None)
    if found is not None:
        assert cost(moves, found.d, nearness) == pytest.approx(least, rel=1e-7, abs=1e-8)


@CHECKED
@given(seed=SEEDS)
def test_the_slopes_of_a_square_balance_its_gradient(seed: int) -> None:
    moves = drawn(seed)
    found = continuous.nearest(moves, "l2")
    assume(found is not None)
    assert found is not None

    gradient = np.where(found.d > 0.0, moves.cost_up, moves.cost_down) ** 2 * found.d

    frozen = moves.d_low == moves.d_high
    pull = moves.a.T @ found.row_slopes
    size = 1.0 + np.abs(gradient) + np.abs(moves.a.T) @ np.abs(found.row_slopes)
    assert (np.abs(gradient + pull + found.slopes)[~frozen] <= 1e-6 * size[~frozen]).all()
    assert_slack_is_free(moves, found)


def assert_slack_is_free(moves: Moves, found: Found) -> None:
    """Only an end that is met holds back: the upper one above 0, the lower one below."""
    rows = unit_rows(moves)
    value = rows.a @ found.d
    size = 1e-7 * (1.0 + np.abs(rows.a) @ np.abs(found.d))
    assert (found.row_slopes[value < rows.high - size] <= 0.0).all()
    assert (found.row_slopes[value > rows.low + size] >= 0.0).all()
    size = 1e-12 * (1.0 + np.abs(found.d))
    assert (found.slopes[found.d < moves.d_high - size] <= 0.0).all()
    assert (found.slopes[found.d > moves.d_low + size] >= 0.0).all()


@pytest.mark.parametrize("nearness", NEARNESS)
@pytest.mark.parametrize("seed", range(10))
def test_slopes_are_what_an_end_wins_that_gives_way(seed: int, nearness: str) -> None:
    moves = independent_moves(seed)
    found = continuous.nearest(moves, nearness)
    assert found is not None
    step = 1e-6

    wins = np.array([[won(moves, nearness, k, end, step) for end in (3, 4)] for k in range(8)])
    rows = np.array([[won(moves, nearness, k, end, step) for end in (1, 2)] for k in range(3)])

    held_low, held_high = np.maximum(-found.slopes, 0.0), np.maximum(found.slopes, 0.0)
    np.testing.assert_allclose(wins[:, 0], held_low, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(wins[:, 1], held_high, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(rows[:, 0], np.maximum(-found.row_slopes, 0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(rows[:, 1], np.maximum(found.row_slopes, 0), rtol=1e-3, atol=1e-3)


def independent_moves(seed: int) -> Moves:
    """Three conditions on eight numbers, of which some are frozen where they are or elsewhere."""
    random = np.random.default_rng(seed)
    a = random.normal(size=(3, 8))
    low, high = -random.exponential(1.0, 8), random.exponential(1.0, 8)
    low[:2], high[2:4] = 0.0, 0.0
    low[4] = high[4] = 0.0
    low[5] = high[5] = random.normal()
    value = a @ np.clip(2.0 * random.normal(size=8), low, high)
    room = np.array([0.0, 0.1, np.inf])
    units = 10.0 ** random.uniform(-0.5, 0.5, size=(2, 8))
    return Moves(a, value, value + room, low, high, units[0], units[1])


def won(moves: Moves, nearness: str, place: int, end: int, step: float) -> float:
    """By how much the optimum falls, per unit, as one end gives way; half the square of l2."""
    moved = np.array(moves[end], dtype=np.float64)
    moved[place] += step if end in {2, 4} else -step
    changed = moves._replace(**{Moves._fields[end]: moved})
    before, after = least_cost(moves, nearness), least_cost(changed, nearness)
    assert before is not None
    assert after is not None
    if nearness == "l2":
        before, after = 0.5 * before**2, 0.5 * after**2
    return (before - after) / step


def test_a_row_of_zeros_holds_or_excludes_everything() -> None:
    ones, zeros = np.ones(2), np.zeros((1, 2))
    held = Moves(zeros, np.array([-1.0]), np.array([1.0]), -ones, ones, ones, ones)
    missed = held._replace(low=np.array([0.5]))
    rounded = held._replace(low=np.array([1e-16]), high=np.array([1e-16]))

    for nearness in NEARNESS:
        for moves in (held, rounded):
            still = continuous.nearest(moves, nearness)
            assert still is not None
            assert still.d.tolist() == [0.0, 0.0]
        assert continuous.nearest(missed, nearness) is None


def test_of_changes_with_the_same_largest_cost_the_one_of_the_smallest_sum_is_given() -> None:
    ones = np.ones(3)
    a = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    moves = Moves(a, np.array([2.0, 1.0]), np.full(2, np.inf), -9 * ones, 9 * ones, ones, ones)

    found = continuous.nearest(moves, "linf")

    assert found is not None
    assert cost(moves, found.d, "linf") == pytest.approx(2.0)
    assert cost(moves, found.d, "l1") == pytest.approx(3.0)
