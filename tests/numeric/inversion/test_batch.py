import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.numeric.activations import Array
from app.numeric.inversion import continuous
from app.numeric.inversion.batch import (
    by_newton,
    by_sorting,
    nearest_of_each,
    nearest_to_one,
)
from app.numeric.inversion.question import Choice, Conditions, Question, costs_of, total
from tests.numeric.inversion.cases import CHECKED, box_question
from tests.numeric.inversion.oracles import least_cost
from tests.numeric.inversion.sweeps import moves_in

SEEDS = st.integers(0, 2**32 - 1)


def many(seed: int, count: int) -> tuple[list[Question], list[Conditions]]:
    """Questions that differ in start, limits and wish: some starts outside, some out of reach."""
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 9))
    a = random.normal(size=n) * (random.random(n) < 0.9)
    costs = 10.0 ** random.uniform(-1.0, 1.0, size=(2, n))
    questions, wishes = [], []
    for _ in range(count):
        start = random.normal(size=n)
        low = start - random.exponential(size=n) * (random.random(n) < 0.8)
        high = start + random.exponential(size=n) * (random.random(n) < 0.8)
        beside = (random.random(n) - 0.5) * (random.random(n) < 0.2) * 3.0
        low, high = low + beside, high + beside
        low[random.random(n) < 0.1] = -np.inf
        high[random.random(n) < 0.1] = np.inf
        question = box_question(start, low, high)
        numbers = question.numbers._replace(cost_up=costs[0], cost_down=costs[1])
        questions.append(question._replace(numbers=numbers))
        least = float(a @ start) + random.normal() * 2.0
        most = least + float(random.choice([0.0, 0.5, np.inf]))
        if random.random() < 0.3:
            least, most = -most, -least
        wishes.append(Conditions(a[None], np.array([least]), np.array([most])))
    return questions, wishes


@CHECKED
@given(seed=SEEDS)
def test_each_answer_is_that_of_the_question_by_itself(seed: int) -> None:
    questions, wishes = many(seed, 20)

    found = nearest_of_each(questions, wishes)

    for x, question, wish in zip(found, questions, wishes, strict=True):
        moves = moves_in(question, wish)
        alone = continuous.nearest(moves, "l2")
        assert (x is None) is (alone is None)
        if x is None or alone is None:
            continue
        assert (x >= question.numbers.low).all()
        assert (x <= question.numbers.high).all()
        cost = total("l2", costs_of(question, x))
        itself = total("l2", costs_of(question, question.numbers.start + alone.d))
        assert cost == pytest.approx(itself, rel=1e-9, abs=1e-9)
        assert cost == pytest.approx(least_cost(moves, "l2"), rel=1e-7, abs=1e-8)
        value, size = wish.a @ x, 1e-9 * (1.0 + np.abs(wish.a) @ np.abs(x))
        assert (value >= wish.low - size).all()
        assert (value <= wish.high + size).all()


@CHECKED
@given(seed=SEEDS)
def test_newton_comes_to_where_the_sorted_breakpoints_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 40))
    slope = random.exponential(size=n) * (random.random(n) < 0.9)
    # Frozen columns end at once, some at the same place, and some never.
    ends = random.choice([0.0, 0.5, np.inf, *random.exponential(size=5)], size=(30, n))
    first, second = (np.where(slope == 0.0, np.inf, place) for place in (np.zeros((30, n)), ends))
    need = random.exponential(size=30) * n / 4

    multiplier, reached = by_newton(second, slope, need)
    expected, possible = by_sorting(first, second, slope, need)

    assert (reached == possible).all()
    np.testing.assert_allclose(multiplier, expected, rtol=1e-12)


def one(low: float, d_low: Array, d_high: Array) -> tuple[Array, bool]:
    ones = np.ones(len(d_low))
    found = nearest_to_one(
        ones, np.array([low]), np.array([np.inf]), d_low[None], d_high[None], ones, ones
    )
    return found.d[0], bool(found.reached[0])


def test_what_is_out_of_reach_is_gone_towards_as_far_as_it_goes() -> None:
    d, reached = one(5.0, np.array([-1.0, 0.0]), np.array([1.0, 2.0]))

    assert not reached
    assert d.tolist() == [1.0, 2.0]


def test_a_start_outside_its_limits_comes_in_before_anything_else_moves() -> None:
    d, reached = one(1.0, np.array([0.5, -9.0]), np.array([2.0, 9.0]))

    assert reached
    np.testing.assert_allclose(d, [0.5, 0.5], rtol=1e-14)


def test_a_start_outside_its_limits_is_not_taken_for_one_that_meets_none() -> None:
    d, reached = one(2.0, np.array([0.5, -9.0]), np.array([9.0, 9.0]))

    assert reached
    np.testing.assert_allclose(d, [1.0, 1.0], rtol=1e-14)


def test_a_column_that_a_limit_holds_leaves_the_rest_to_the_others() -> None:
    d, reached = one(3.0, np.array([-9.0, -9.0, 0.0]), np.array([0.5, 9.0, 0.0]))

    assert reached
    np.testing.assert_allclose(d, [0.5, 2.5, 0.0], rtol=1e-14)


def test_a_wish_that_no_number_moves_is_met_from_the_start_or_never() -> None:
    question = box_question(np.zeros(2), -np.ones(2), np.ones(2))
    ends = (np.array([-1.0]), np.array([1.0])), (np.array([1.0]), np.array([2.0]))
    wishes = [Conditions(np.zeros((1, 2)), *pair) for pair in ends]

    met, missed = nearest_of_each([question, question], wishes)

    assert met is not None
    assert met.tolist() == [0.0, 0.0]
    assert missed is None


def test_levels_and_columns_that_are_no_numbers_count_in_the_sum_and_stay() -> None:
    question = box_question(np.zeros(4), -9.0 * np.ones(4), 9.0 * np.ones(4))
    numbers = question.numbers
    only = numbers._replace(**{k: v[:1] for k, v in numbers._asdict().items()})
    question = question._replace(
        x=np.array([0.0, 1.0, 0.0, 2.0]),
        numbers=only,
        choices=(Choice(1, 0, np.array([np.inf, 0.0])),),
    )
    wish = Conditions(np.array([[1.0, 10.0, 20.0, 100.0]]), np.array([221.0]), np.array([221.0]))

    (x,) = nearest_of_each([question], [wish])

    assert x is not None
    assert x.tolist() == [1.0, 0.0, 1.0, 2.0]
