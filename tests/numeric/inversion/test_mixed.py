import time

import numpy as np
import pytest

from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.inversion import mixed
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import (
    NEARNESS,
    Choice,
    Conditions,
    Numbers,
    Question,
    Status,
    costs_of,
    misses,
    total,
)
from tests.numeric.inversion.cases import box_question, random_question
from tests.numeric.inversion.oracles import nearest_by_enumeration

SECONDS = 30.0


def small_question(random: np.random.Generator) -> Question:
    """Half of them of whole numbers and choices alone, half with continuous numbers between."""
    mixed_kinds = random.random() < 0.5
    free = int(random.integers(1, 3)) if mixed_kinds else 0
    whole = int(random.integers(0, 3)) if mixed_kinds else int(random.integers(1, 4))
    choices = int(random.integers(0, 3))
    return random_question(
        random, free=free, whole=whole, choices=choices, rows=int(random.integers(1, 3))
    )


def assert_kept(question: Question, x: Array) -> None:
    """Limits to the last bit, multiples, levels, the count, the conditions and what is no input."""
    numbers = question.numbers
    values = x[numbers.at]
    whole = numbers.whole
    steps = (values - numbers.origin)[whole] / numbers.spacing[whole]
    changed = np.abs(values - numbers.start) > 1e-12
    count = int(changed.sum())
    assert (values >= numbers.low).all()
    assert (values <= numbers.high).all()
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    for choice in question.choices:
        block = x[choice.first : choice.first + len(choice.costs)]
        assert sorted(block.tolist()) == [0.0] * (len(block) - 1) + [1.0]
        assert np.isfinite(choice.costs[block.argmax()])
        count += int(block.argmax()) != choice.start
    assert question.changed_max is None or count <= question.changed_max
    assert (misses(question.conditions, x) <= 1e-8).all()
    assert x[-1] == question.x[-1]


def assert_nearest(question: Question) -> Status:
    answer = mixed.nearest(question, Clock(SECONDS))
    least = nearest_by_enumeration(question)
    if least is None:
        assert answer.status is Status.INFEASIBLE
        assert answer.x is None
        return answer.status
    assert answer.status in {Status.OPTIMAL, Status.FEASIBLE}
    assert answer.x is not None
    assert_kept(question, answer.x)
    assert answer.cost == pytest.approx(
        total(question.nearness, costs_of(question, answer.x)), rel=1e-9, abs=1e-12
    )
    precise = 1e-9 * float(question.numbers.cost_up.max())
    assert answer.cost == pytest.approx(least, rel=1e-6, abs=precise)
    assert answer.bound <= least * (1.0 + 1e-6) + precise
    return answer.status


def assert_all_nearest(seed: int, count: int, unit: float = 1.0) -> dict[Status, int]:
    random = np.random.default_rng(seed)
    told = dict.fromkeys(Status, 0)
    for _ in range(count):
        question = in_unit(small_question(random), unit)
        for nearness in NEARNESS:
            told[assert_nearest(question._replace(nearness=nearness))] += 1
    return told


def in_unit(question: Question, unit: float) -> Question:
    """The same question, its costs told in another unit."""
    numbers = question.numbers
    return question._replace(
        numbers=numbers._replace(
            cost_up=unit * numbers.cost_up, cost_down=unit * numbers.cost_down
        ),
        choices=tuple(choice._replace(costs=unit * choice.costs) for choice in question.choices),
    )


def test_the_answer_is_the_nearest_of_all_settings() -> None:
    told = assert_all_nearest(seed=0, count=100)

    assert told[Status.OPTIMAL] > 100
    assert told[Status.INFEASIBLE] > 30
    assert told[Status.FEASIBLE] <= 5


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_the_unit_of_the_costs_makes_no_difference(unit: float) -> None:
    told = assert_all_nearest(seed=3, count=20, unit=unit)

    assert told[Status.OPTIMAL] > 15
    assert told[Status.FEASIBLE] <= 2


@pytest.mark.slow
def test_the_answer_is_the_nearest_of_all_settings_in_thousands_of_questions() -> None:
    told = assert_all_nearest(seed=1, count=2_000)

    assert told[Status.OPTIMAL] > 2_000
    assert told[Status.FEASIBLE] <= 120


def hard_question(nearness: str) -> Question:
    """Forty multiples in three equations: no solver is done with it in a blink."""
    random = np.random.default_rng(0)
    n = 40
    question = box_question(np.zeros(n), np.full(n, -9.0), np.full(n, 9.0), nearness)
    a = np.round(random.normal(size=(3, n)) * 100.0)
    wanted = a @ np.round(random.uniform(-4.0, 4.0, n))
    return question._replace(
        numbers=question.numbers._replace(spacing=np.ones(n)),
        conditions=Conditions(a, wanted - 0.5, wanted + 0.5),
    )


@pytest.mark.parametrize("nearness", NEARNESS)
@pytest.mark.parametrize("seconds", [0.0, 1e-3, 0.5])
def test_a_short_clock_ends_the_search_with_what_is_known(nearness: str, seconds: float) -> None:
    question = hard_question(nearness)
    began = time.monotonic()

    answer = mixed.nearest(question, Clock(seconds))

    assert time.monotonic() - began < seconds + 5.0
    assert answer.status in {Status.TIME_LIMIT, Status.FEASIBLE}
    if answer.status is Status.TIME_LIMIT:
        assert answer.x is None
    else:
        assert answer.x is not None
        assert (misses(question.conditions, answer.x) <= 1e-6).all()
        assert 0.0 < answer.gap <= 1.0


def test_counting_changes_needs_limits() -> None:
    endless = box_question(np.zeros(2), np.array([-np.inf, 0.0]), np.ones(2))

    with pytest.raises(NumericError, match="limits"):
        mixed.nearest(endless._replace(changed_max=1), Clock(SECONDS))


def test_a_level_that_is_not_allowed_is_never_chosen_and_none_left_is_no_answer() -> None:
    nothing = np.zeros(0)
    numbers = Numbers(np.zeros(0, dtype=np.intp), *[nothing] * 7)
    x, a = np.array([1.0, 0.0, 0.0]), np.array([[0.0, 1.0, 1.0]])
    wish = Conditions(a, np.array([0.5]), np.array([np.inf]))
    choice = Choice(0, 0, np.array([0.0, np.inf, 3.0]))
    question = Question(x, numbers, (choice,), wish)

    found = mixed.nearest(question, Clock(SECONDS))
    none = mixed.nearest(
        question._replace(choices=(choice._replace(costs=np.array([0.0, np.inf, np.inf])),)),
        Clock(SECONDS),
    )

    assert found.x is not None
    assert found.x.tolist() == [0.0, 0.0, 1.0]
    assert found.cost == pytest.approx(3.0)
    assert none.status is Status.INFEASIBLE


def test_where_nothing_has_to_change_nothing_does() -> None:
    question = box_question(np.array([0.25, -0.5]), -np.ones(2), np.ones(2))
    whole = question._replace(
        numbers=question.numbers._replace(origin=np.array([0.25, 0.0]), spacing=np.full(2, 0.5)),
        changed_max=0,
    )

    for nearness in NEARNESS:
        answer = mixed.nearest(whole._replace(nearness=nearness), Clock(SECONDS))
        assert answer.status is Status.OPTIMAL
        assert answer.x is not None
        assert answer.x.tolist() == [0.25, -0.5]
        assert answer.cost == 0.0


@pytest.mark.parametrize("nearness", NEARNESS)
@pytest.mark.parametrize("seed", range(5))
def test_prices_are_what_the_cost_falls_by_as_an_end_gives_way(seed: int, nearness: str) -> None:
    random = np.random.default_rng(seed)
    question = box_question(np.zeros(5), -random.random(5), random.random(5), nearness)
    numbers, a = question.numbers, random.normal(size=5)
    most = float(np.maximum(a * numbers.low, a * numbers.high).sum())
    wish = Conditions(a[None], np.array([0.85 * most]), np.array([np.inf]))
    question = question._replace(conditions=wish)
    step = 1e-6

    answer = mixed.nearest(question, Clock(SECONDS))

    def falls(moved: Question) -> float:
        after = nearest_by_enumeration(moved)
        assert after is not None
        return (answer.cost - after) / step

    wider = [
        question._replace(numbers=numbers._replace(low=numbers.low - k, high=numbers.high + k))
        for k in step * np.eye(5)
    ]
    looser = question._replace(conditions=wish._replace(low=wish.low - step))
    assert answer.prices is not None
    limits = answer.prices.low + answer.prices.high
    np.testing.assert_allclose(limits, [falls(one) for one in wider], atol=1e-2, rtol=1e-2)
    assert answer.prices.condition_low[0] == pytest.approx(falls(looser), rel=1e-2)
    assert limits.any()
