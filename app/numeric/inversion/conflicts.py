"""The smallest set of demands that cannot hold together.

A demand is one end of a condition, one limit of a number, the range that all numbers keep where
they have no stricter limit, the levels of a choice, or the count of changed inputs. What cannot
hold is found by hitting sets (Ignatiev et al. 2015): a smallest set that hits all that is known to
be left out by sets that do hold; if it cannot hold either, nothing smaller is in conflict.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy import optimize

from app.numeric.activations import Array
from app.numeric.inversion.program import Clock, program_of, solve, with_conditions, with_count
from app.numeric.inversion.question import Question


class Kind(StrEnum):
    """What a demand is about; `place` counts conditions, numbers or choices."""

    CONDITION_LOW = "condition_low"
    CONDITION_HIGH = "condition_high"
    LOW = "low"
    HIGH = "high"
    RANGE = "range"
    LEVELS = "levels"
    COUNT = "count"


class Demand(NamedTuple):
    kind: Kind
    place: int = 0


class Range(NamedTuple):
    """Limits (p,) that all numbers keep, at or outside of their own."""

    low: Array
    high: Array


class Conflict(NamedTuple):
    """Demands that cannot hold together, none of which can be left out.

    `smallest`: proved that no fewer are in conflict.
    """

    demands: tuple[Demand, ...]
    smallest: bool


class Case(NamedTuple):
    """A question, the range behind its limits, and all of its demands."""

    question: Question
    behind: Range
    demands: tuple[Demand, ...]


def conflict_of(question: Question, clock: Clock, behind: Range | None = None) -> Conflict | None:
    """What is in conflict; None if it all can hold, or if time is over before it is known.

    A limit that is left out gives way to the range behind it, which is one demand for all numbers;
    without a range to infinity. Curves of the question are not looked at.
    """
    if behind is None:
        endless = np.full(len(question.numbers.at), np.inf)
        behind = Range(-endless, endless)
    question = question._replace(curves=())
    case = Case(question, behind, tuple(_demands(question, behind)))
    everything = frozenset(range(len(case.demands)))
    if _holds(case, everything, clock) is not False:
        return None
    left_out: list[frozenset[int]] = []
    while clock.seconds:
        chosen = _smallest_hit(len(case.demands), left_out)
        held = _holds(case, chosen, clock)
        if held is None:
            break
        if not held:
            return Conflict(tuple(case.demands[k] for k in sorted(chosen)), smallest=True)
        left_out.append(everything - _grown(case, chosen, clock))
    return Conflict(_thinned(case, Clock(1.0)), smallest=False)


def _demands(question: Question, behind: Range) -> Iterator[Demand]:
    numbers, conditions = question.numbers, question.conditions
    counted = question.changed_max is not None
    own_low, own_high = numbers.low > behind.low, numbers.high < behind.high
    if counted:
        # Changes without limit cannot be counted, so those limits are no demands.
        own_low, own_high = own_low & (behind.low > -np.inf), own_high & (behind.high < np.inf)
    for kind, given in (
        (Kind.CONDITION_LOW, conditions.low > -np.inf),
        (Kind.CONDITION_HIGH, conditions.high < np.inf),
        (Kind.LOW, own_low),
        (Kind.HIGH, own_high),
    ):
        for place in np.flatnonzero(given).tolist():
            yield Demand(kind, place)
    if not counted and (np.isfinite(behind.low) | np.isfinite(behind.high)).any():
        yield Demand(Kind.RANGE)
    for place in range(len(question.choices)):
        yield Demand(Kind.LEVELS, place)
    if counted:
        yield Demand(Kind.COUNT)


def _holds(case: Case, chosen: frozenset[int], clock: Clock) -> bool | None:
    """Whether some of the demands can hold together; None if time is over."""
    question = _with_only(case, [case.demands[k] for k in chosen])
    program = with_conditions(with_count(program_of(question), question), *question.conditions)
    solved = solve(program, np.zeros(program.size), clock)
    if solved.values is not None:
        return True
    return False if solved.excluded else None


def _with_only(case: Case, demands: Sequence[Demand]) -> Question:
    question, behind = case.question, case.behind
    numbers, conditions = question.numbers, question.conditions
    kinds = {demand.kind for demand in demands}
    ranged = Kind.RANGE in kinds or Demand(Kind.RANGE) not in case.demands

    def kept(values: Array, kind: Kind, otherwise: Array) -> Array:
        mine = [demand.place for demand in case.demands if demand.kind is kind]
        result = values.copy()
        result[mine] = otherwise[mine]
        places = [demand.place for demand in demands if demand.kind is kind]
        result[places] = values[places]
        return result

    endless = np.full(len(numbers.at), np.inf)
    # Without the range, only limits of their own are left.
    low = np.where(ranged | (numbers.low > behind.low), numbers.low, -endless)
    high = np.where(ranged | (numbers.high < behind.high), numbers.high, endless)
    low = kept(low, Kind.LOW, behind.low if ranged else -endless)
    high = kept(high, Kind.HIGH, behind.high if ranged else endless)
    levels = {demand.place for demand in demands if demand.kind is Kind.LEVELS}
    open_ends = np.full(len(conditions.low), np.inf)
    return question._replace(
        numbers=numbers._replace(low=low, high=high),
        choices=tuple(
            choice if k in levels else choice._replace(costs=np.zeros(len(choice.costs)))
            for k, choice in enumerate(question.choices)
        ),
        conditions=conditions._replace(
            low=kept(conditions.low, Kind.CONDITION_LOW, -open_ends),
            high=kept(conditions.high, Kind.CONDITION_HIGH, open_ends),
        ),
        changed_max=question.changed_max if Kind.COUNT in kinds else None,
    )


def _grown(case: Case, chosen: frozenset[int], clock: Clock) -> frozenset[int]:
    """As many more demands as still hold with the chosen ones, tried in order."""
    for k in range(len(case.demands)):
        if k not in chosen and _holds(case, chosen | {k}, clock):
            chosen |= {k}
    return chosen


def _smallest_hit(count: int, sets: Sequence[frozenset[int]]) -> frozenset[int]:
    """The fewest of `count` things that have one in each of the sets."""
    if not sets:
        return frozenset()
    rows = np.zeros((len(sets), count))
    for row, members in zip(rows, sets, strict=True):
        row[list(members)] = 1.0
    found = optimize.milp(
        np.ones(count),
        integrality=np.ones(count, dtype=np.uint8),
        bounds=optimize.Bounds(0.0, 1.0),
        constraints=optimize.LinearConstraint(rows, 1.0, np.inf),
    )
    if found.x is None:
        raise RuntimeError(f"no set hits all: {found.message}")
    return frozenset(np.flatnonzero(found.x > 0.5).tolist())


def _thinned(case: Case, clock: Clock) -> tuple[Demand, ...]:
    """All demands less those that can be left out one after the other."""
    kept = frozenset(range(len(case.demands)))
    for k in range(len(case.demands)):
        if _holds(case, kept - {k}, clock) is False:
            kept -= {k}
    return tuple(case.demands[k] for k in sorted(kept))
