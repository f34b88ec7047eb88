import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from app.numeric.activations import Array
from app.numeric.inversion.misses import least_misses, nearest_miss, prices_of_miss
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Conditions, Question, Status
from app.numeric.inversion.wishes import Wanted
from app.numeric.layer import Layer
from tests.numeric.inversion.cases import CHECKED, asking, box_question, random_question
from tests.numeric.inversion.oracles import linprog, settings_of

SECONDS = 30.0
# Only curved wishes read it.
ANY = Layer(np.zeros((1, 1)), np.zeros(1), "identity")
SEEDS = st.integers(0, 2**32 - 1)
FEWER = settings(CHECKED, max_examples=50)


def out_of_reach(seed: int, unit: float = 1.0) -> tuple[Question, Wanted]:
    """More wishes than numbers, points and intervals, within a box."""
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 6))
    rows = n + int(random.integers(1, 4))
    low = -random.exponential(size=n)
    question = box_question(random.normal(size=n), low, low + random.exponential(size=n))
    a = random.normal(size=(rows, n))
    least = a @ random.uniform(question.numbers.low, question.numbers.high)
    least += unit * random.normal(size=rows)
    room = unit * random.choice([0.0, 0.0, 0.3], size=rows)
    weights = 10.0 ** random.uniform(-0.5, 0.5, rows)
    return question, Wanted(Conditions(a, least, least + room), weights, ())


def least_squares(question: Question, wanted: Wanted) -> Array:
    """The misses by lsq_linear: the place within each interval is a number more."""
    numbers, (a, low, high) = question.numbers, wanted.conditions
    weight, wide = wanted.weights, low < high
    found = optimize.lsq_linear(
        np.hstack((weight[:, None] * a, -np.diag(weight)[:, wide])),
        np.where(wide, 0.0, weight * low),
        (np.append(numbers.low, low[wide]), np.append(numbers.high, high[wide])),
        method="bvls",
        tol=1e-15,
        max_iter=1000,
    )
    value = a @ found.x[: len(numbers.low)]
    return np.asarray(np.maximum(np.maximum(low - value, value - high), 0.0))


@FEWER
@given(seed=SEEDS, unit=st.sampled_from([1e-4, 1.0, 1e3]))
def test_within_a_box_the_least_miss_is_that_of_least_squares(seed: int, unit: float) -> None:
    question, wanted = out_of_reach(seed, unit)

    missed = least_misses(question, wanted.conditions, wanted.weights, Clock(SECONDS))

    expected = wanted.weights * least_squares(question, wanted)
    assert missed is not None
    square, least = np.square(wanted.weights * missed).sum(), np.square(expected).sum()
    assert square == pytest.approx(least, rel=1e-6, abs=1e-16)


@FEWER
@given(seed=SEEDS)
def test_the_x_given_misses_no_more_than_the_least_and_keeps_its_limits(seed: int) -> None:
    question, wanted = out_of_reach(seed)

    answer = nearest_miss(ANY, question, wanted, Clock(SECONDS))

    assert answer is not None
    assert answer.x is not None
    a, low, high = wanted.conditions
    value = a @ answer.x
    missed = wanted.weights * np.maximum(np.maximum(low - value, value - high), 0.0)
    least = np.linalg.norm(wanted.weights * least_squares(question, wanted))
    assert np.linalg.norm(missed) == pytest.approx(least, rel=1e-4, abs=1e-7)
    assert (answer.x >= question.numbers.low).all()
    assert (answer.x <= question.numbers.high).all()


@pytest.mark.parametrize("seed", range(15))
def test_of_whole_numbers_and_levels_the_least_miss_is_that_of_all_settings(seed: int) -> None:
    random = np.random.default_rng(seed)
    question = random_question(random, free=0, whole=3, choices=2, rows=0)._replace(
        changed_max=None
    )
    a = random.normal(size=(3, len(question.x)))
    wishes = Conditions(a, a @ question.x + 1.0, a @ question.x + 1.0)
    weights = np.array([1.0, 2.0, 0.5])
    xs = [fixed.x for fixed in settings_of(question)]

    missed = least_misses(question, wishes, weights, Clock(SECONDS))

    if not xs:
        assert missed is None
        return
    assert missed is not None
    squares = [np.square(weights * (a @ x - wishes.low)).sum() for x in xs]
    assert np.square(weights * missed).sum() == pytest.approx(min(squares), rel=1e-6)


def test_of_equally_near_misses_the_one_nearest_to_the_start_is_given() -> None:
    question = box_question(np.array([5.0, 0.0]), np.array([-9.0, -9.0]), np.array([1.0, 9.0]))
    wishes = Conditions(np.ones((2, 2)), np.array([0.0, 1.0]), np.array([0.0, 1.0]))

    answer = nearest_miss(ANY, question, Wanted(wishes, np.ones(2), ()), Clock(SECONDS))

    assert answer is not None
    assert answer.x is not None
    np.testing.assert_allclose(answer.x, [1.0, -0.5], atol=1e-6)
    assert answer.status in {Status.OPTIMAL, Status.FEASIBLE}


def test_conditions_hold_where_wishes_are_missed_and_where_they_cannot_there_is_nothing() -> None:
    question = box_question(np.zeros(2), -np.ones(2), np.ones(2))
    wishes = Conditions(np.eye(2), np.array([5.0, 5.0]), np.full(2, np.inf))
    wanted = Wanted(wishes, np.ones(2), ())

    tied = nearest_miss(ANY, asking(question, np.ones(2), -np.inf, 1.0), wanted, Clock(SECONDS))
    none = nearest_miss(ANY, asking(question, np.ones(2), 3.0, np.inf), wanted, Clock(SECONDS))

    assert tied is not None
    assert tied.x is not None
    np.testing.assert_allclose(tied.x, [0.5, 0.5], atol=1e-6)
    assert none is None


def sum_of_misses(question: Question, wanted: Wanted, units: Array) -> float:
    """The smallest sum, by a linear program over x and a cap on each miss."""
    a, low, high = wanted.conditions
    own = question.conditions
    rows, n = a.shape
    nothing = np.zeros((len(own.low), rows))
    ends = ((a, -np.eye(rows), high), (-a, -np.eye(rows), -low))
    limits = ((own.a, nothing, own.high), (-own.a, nothing, -own.low))
    parts = [part for part in (*ends, *limits) if len(part[2])]
    right = np.concatenate([part[2] for part in parts])
    found = linprog(
        np.append(np.zeros(n), units * wanted.weights),
        np.vstack([np.hstack(part[:2]) for part in parts])[np.isfinite(right)],
        right[np.isfinite(right)],
        bounds=[
            *zip(question.numbers.low, question.numbers.high, strict=True),
            *[(0.0, None)] * rows,
        ],
    )
    return float(found.fun)


@pytest.mark.parametrize("seed", range(20))
def test_prices_are_what_a_limit_wins_that_gives_way(seed: int) -> None:
    question, wanted = out_of_reach(seed)
    random = np.random.default_rng(seed)
    n = len(question.x)
    a = random.normal(size=n)
    middle = 0.5 * (question.numbers.low + question.numbers.high)
    question = asking(question, a, float(a @ middle), float(a @ middle) + 0.01)
    units = 10.0 ** random.uniform(-0.5, 0.5, len(wanted.weights))
    step = 1e-6

    prices = prices_of_miss(question, wanted, middle, units)

    def fall(low: Array, high: Array, end: Array) -> float:
        """With lower limits, upper limits and both ends of the condition moved outwards."""
        numbers, own = question.numbers, question.conditions
        moved = question._replace(
            numbers=numbers._replace(low=numbers.low - low, high=numbers.high + high),
            conditions=own._replace(low=own.low - end[:1], high=own.high + end[1:]),
        )
        before = sum_of_misses(question, wanted, units)
        return (before - sum_of_misses(moved, wanted, units)) / step

    still, stays = np.zeros(n), np.zeros(2)
    steps, ends = step * np.eye(n), step * np.eye(2)
    np.testing.assert_allclose(prices.low, [fall(k, still, stays) for k in steps], atol=1e-4)
    np.testing.assert_allclose(prices.high, [fall(still, k, stays) for k in steps], atol=1e-4)
    np.testing.assert_allclose(prices.condition_low, [fall(still, still, ends[0])], atol=1e-4)
    np.testing.assert_allclose(prices.condition_high, [fall(still, still, ends[1])], atol=1e-4)
