import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from app.numeric.activations import Array
from app.numeric.inversion.conflicts import Conflict, Demand, Kind, conflict_of
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Conditions, Question
from tests.numeric.inversion.cases import asking, box_question, random_question
from tests.numeric.inversion.oracles import nearest_by_enumeration, settings_of

SECONDS = 30.0
Demands = Iterable[Demand]


def demands_of(question: Question) -> list[Demand]:
    """Every end that is there; where changes are counted the limits are none of them."""
    numbers, conditions = question.numbers, question.conditions
    ends = [
        (Kind.CONDITION_LOW, conditions.low > -np.inf),
        (Kind.CONDITION_HIGH, conditions.high < np.inf),
        (Kind.LOW, numbers.low > -np.inf),
        (Kind.HIGH, numbers.high < np.inf),
    ]
    if question.changed_max is not None:
        ends = ends[:2]
    demands = [Demand(kind, int(k)) for kind, given in ends for k in np.flatnonzero(given)]
    demands += [Demand(Kind.LEVELS, k) for k in range(len(question.choices))]
    return demands if question.changed_max is None else [*demands, Demand(Kind.COUNT)]


def only(question: Question, kept: Demands) -> Question:
    """The question with some of its demands."""
    kept = set(kept)
    numbers, conditions = question.numbers, question.conditions

    def ends(kind: Kind, values: Array, otherwise: float) -> Array:
        return np.array([v if Demand(kind, k) in kept else otherwise for k, v in enumerate(values)])

    if question.changed_max is None:
        numbers = numbers._replace(
            low=ends(Kind.LOW, numbers.low, -np.inf), high=ends(Kind.HIGH, numbers.high, np.inf)
        )
    return question._replace(
        numbers=numbers,
        choices=tuple(
            choice
            if Demand(Kind.LEVELS, k) in kept
            else choice._replace(costs=np.zeros(len(choice.costs)))
            for k, choice in enumerate(question.choices)
        ),
        conditions=conditions._replace(
            low=ends(Kind.CONDITION_LOW, conditions.low, -np.inf),
            high=ends(Kind.CONDITION_HIGH, conditions.high, np.inf),
        ),
        changed_max=question.changed_max if Demand(Kind.COUNT) in kept else None,
    )


def holds(question: Question, kept: Demands) -> bool:
    return nearest_by_enumeration(only(question, kept)._replace(nearness="l1")) is not None


def assert_smallest(question: Question, conflict: Conflict) -> None:
    assert not holds(question, conflict.demands)
    for left_out in conflict.demands:
        assert holds(question, set(conflict.demands) - {left_out})
    assert conflict.smallest
    for fewer in itertools.combinations(demands_of(question), len(conflict.demands) - 1):
        assert holds(question, fewer)


def conflicting(seed: int, *, free: int, whole: int, choices: int) -> Question | None:
    random = np.random.default_rng(seed)
    question = random_question(random, free=free, whole=whole, choices=choices, rows=2)
    own = question.conditions
    far = question._replace(conditions=own._replace(low=own.low + 1.5, high=own.high + 1.5))
    return far if nearest_by_enumeration(far) is None else None


def test_a_conflict_cannot_hold_and_no_smaller_one_is_there() -> None:
    found = 0
    for seed in range(12):
        question = conflicting(seed, free=3, whole=0, choices=seed % 3)
        if question is None:
            continue
        conflict = conflict_of(question, Clock(SECONDS))

        assert conflict is not None
        assert_smallest(question, conflict)
        found += 1

    assert found > 3


def test_of_counted_multiples_and_levels_too() -> None:
    found = 0
    for seed in range(24):
        question = conflicting(seed, free=1, whole=1, choices=1)
        if question is None or not any(settings_of(question)):
            continue
        conflict = conflict_of(question._replace(changed_max=1), Clock(SECONDS))

        assert conflict is not None
        assert_smallest(question._replace(changed_max=1), conflict)
        found += 1

    assert found > 4


def test_what_can_hold_has_no_conflict() -> None:
    question = asking(box_question(np.zeros(2), -np.ones(2), np.ones(2)), np.ones(2), 1.0, 2.0)

    assert conflict_of(question, Clock(SECONDS)) is None


def test_two_wishes_that_contradict_are_the_conflict_whatever_the_limits() -> None:
    question = box_question(np.zeros(3), -np.ones(3), np.ones(3))
    question = asking(question, np.ones(3), 1.0, np.inf)
    question = asking(question, 2.0 * np.ones(3), -np.inf, 1.0)

    conflict = conflict_of(question, Clock(SECONDS))

    assert conflict is not None
    assert conflict.demands == (Demand(Kind.CONDITION_LOW, 0), Demand(Kind.CONDITION_HIGH, 1))
    assert conflict.smallest


def test_a_wish_beyond_the_limits_names_the_limits_that_count() -> None:
    question = box_question(np.zeros(3), -np.ones(3), np.array([1.0, 1.0, 9.0]))
    question = asking(question, np.array([1.0, -1.0, 0.0]), 3.0, np.inf)

    conflict = conflict_of(question, Clock(SECONDS))

    assert conflict is not None
    assert set(conflict.demands) == {
        Demand(Kind.CONDITION_LOW, 0),
        Demand(Kind.HIGH, 0),
        Demand(Kind.LOW, 1),
    }


def test_a_row_that_never_holds_is_a_conflict_by_itself() -> None:
    question = asking(box_question(np.zeros(2), -np.ones(2), np.ones(2)), np.zeros(2), 1.0, 2.0)

    conflict = conflict_of(question, Clock(SECONDS))

    assert conflict is not None
    assert conflict.demands == (Demand(Kind.CONDITION_LOW, 0),)


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_without_time_a_conflict_is_not_known_or_not_called_the_smallest(seconds: float) -> None:
    random = np.random.default_rng(0)
    n = 30
    question = box_question(np.zeros(n), -np.ones(n), np.ones(n))
    a = random.normal(size=(20, n))
    conditions = Conditions(a, np.full(20, 9.0), np.full(20, 10.0))

    conflict = conflict_of(question._replace(conditions=conditions), Clock(seconds))

    if conflict is None:
        assert seconds == 0.0
    else:
        assert not holds(question._replace(conditions=conditions), conflict.demands)
