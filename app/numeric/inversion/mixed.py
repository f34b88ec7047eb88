"""The nearest x, the farthest a sum can go, and the least miss, by mixed-integer programs.

What a program finds is made exact by solving once more with its levels and multiples. Curves of
the question are met by tangents: a tangent of a concave function lies above it, so what it cuts off
is no answer.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.inversion import continuous
from app.numeric.inversion.continuous import Moves
from app.numeric.inversion.program import (
    GAP,
    Clock,
    Program,
    Solved,
    program_of,
    shares,
    solve,
    with_conditions,
    with_count,
    x_at,
)
from app.numeric.inversion.question import (
    Answer,
    Conditions,
    Prices,
    Question,
    Status,
    costs_of,
    level_of,
    settled,
    total,
    with_levels,
)
from app.numeric.inversion.squares import (
    ROUNDS_MAX,
    SQUARE_GAP,
    STALE_GAP,
    Candidate,
    smallest_largest,
    squared,
)

# An x that differs from its start by no more than this share differs by rounding.
ROUNDING = 1e-13
# So often a question with given levels and multiples is cut by tangents of its curves.
CUTS_MAX = 60
# A curve counts as met when it is missed by no more than this share of its value.
CURVE_REACHED = 1e-9
# As a tangent is met to rounding only, it asks for this share of its terms more.
CURVE_SPARE = 2e-10
# Programs hold conditions to 1e-6 only; an answer that is not exact sharpens them so many times.
SHARPER_MAX = 5


def nearest(question: Question, clock: Clock) -> Answer:
    """The nearest x to the start."""
    if question.is_continuous:
        return _continuous(question, settled(question), np.full(len(question.numbers.at), False))
    sharper = question.conditions
    for _ in range(SHARPER_MAX):
        program = with_count(program_of(question), question)
        program = with_conditions(program, *sharper)
        found = NEAREST[question.nearness](program, question, clock)
        if not isinstance(found, NearMiss):
            return found
        sharper = _sharper(sharper, found.x)
    return Answer(Status.TIME_LIMIT, "milp")


class NearMiss(NamedTuple):
    """An x that the program takes for a solution, and that is none by more than rounding."""

    x: Array


def _sharper(conditions: Conditions, x: Array) -> Conditions:
    """The conditions with the ends that x misses moved inwards by twice the miss."""
    value = conditions.a @ x
    low = conditions.low + 2.0 * np.maximum(conditions.low - value, 0.0)
    high = conditions.high - 2.0 * np.maximum(value - conditions.high, 0.0)
    return conditions._replace(low=low, high=np.maximum(low, high))


def _continuous(question: Question, x: Array, still: NDArray[np.bool_]) -> Answer:
    """The nearest x with the levels of x, where numbers that are `still` (p,) stay as in x."""
    return _cut(question, x, still)[0]


def _cut(question: Question, x: Array, still: NDArray[np.bool_]) -> tuple[Answer, Conditions]:
    """As `_continuous`, and the tangents that hold it back."""
    own = len(question.conditions.low)
    cuts = fresh = _no_cuts(question)
    for _ in range(CUTS_MAX):
        asked = question._replace(conditions=question.conditions.and_these(*cuts))
        answer = _within(asked, x, still)
        if answer.x is None or answer.prices is None:
            return answer, cuts
        if answer.status is not Status.OPTIMAL and len(cuts.low) > len(fresh.low):
            # Tangents that are as good as parallel confuse: the last hold as well without others.
            cuts = fresh
            continue
        fresh = _cuts_at(question, answer.x)
        if not len(fresh.low):
            prices = answer.prices
            ends = prices.condition_low[:own], prices.condition_high[:own]
            told = prices._replace(condition_low=ends[0], condition_high=ends[1])
            return answer._replace(prices=told), cuts
        # Those that do not hold back would only come ever nearer to each other. Of l1 and linf,
        # where many x cost the same, one that is left out could come back for ever.
        kept = answer.prices.condition_low[own:] > 0.0
        kept |= question.nearness != "l2"
        cuts = Conditions(cuts.a[kept], cuts.low[kept], cuts.high[kept]).and_these(*fresh)
    return Answer(Status.TIME_LIMIT, answer.method), cuts


def _no_cuts(question: Question) -> Conditions:
    return Conditions(np.zeros((0, len(question.x))), np.zeros(0), np.zeros(0))


def _cuts_at(question: Question, x: Array) -> Conditions:
    """The tangents at x of the curves that x misses."""
    cuts = _no_cuts(question)
    for curve in question.curves:
        value, slope = curve.at(x)
        if value >= curve.low - CURVE_REACHED * (1.0 + abs(value)):
            continue
        terms = 1.0 + abs(value) + np.abs(slope) @ (1.0 + np.abs(x) + np.abs(question.x))
        spare = min(CURVE_SPARE * float(terms), 0.5 * curve.room)
        low = curve.low - value + float(slope @ x) + spare
        cuts = cuts.and_these(slope[None], np.array([low]), np.array([np.inf]))
    return cuts


def _within(question: Question, x: Array, still: NDArray[np.bool_]) -> Answer:
    """As `_continuous`, for a question without curves."""
    numbers, conditions = question.numbers, question.conditions
    d = x[numbers.at] - numbers.start
    base = x.copy()
    base[numbers.at] = numbers.start
    fixed = conditions.a @ base
    found = continuous.nearest(
        Moves(
            a=conditions.a[:, numbers.at],
            low=conditions.low - fixed,
            high=conditions.high - fixed,
            d_low=np.where(still, d, numbers.low - numbers.start),
            d_high=np.where(still, d, numbers.high - numbers.start),
            cost_up=numbers.cost_up,
            cost_down=numbers.cost_down,
        ),
        question.nearness,
    )
    method = {"l2": "qp"}.get(question.nearness, "lp")
    if found is None:
        return Answer(Status.INFEASIBLE, method)
    base[numbers.at] = np.clip(numbers.start + found.d, numbers.low, numbers.high)
    base[numbers.at[still]] = x[numbers.at[still]]
    cost = total(question.nearness, costs_of(question, base))
    status = Status.OPTIMAL if found.proved else Status.FEASIBLE
    # Half the sum of squares was minimised; the cost is the root of the sum.
    unit = 1.0 / cost if question.nearness == "l2" and cost else 1.0
    # What stays for another reason than its limits puts no price on them.
    rows, limits = unit * found.row_slopes, np.where(still, 0.0, unit * found.slopes)
    prices = Prices(
        condition_low=np.maximum(-rows, 0.0),
        condition_high=np.maximum(rows, 0.0),
        low=np.maximum(-limits, 0.0),
        high=np.maximum(limits, 0.0),
    )
    bound = cost if found.proved else 0.0
    return Answer(status, method, base, cost, bound, prices)


def is_start(question: Question, x: Array) -> bool:
    """Whether x is the start to rounding, so that nothing is nearer however small the cost."""
    near = np.abs(x - question.x) <= ROUNDING * (1.0 + np.abs(question.x))
    return bool(near.all())


class Refinery:
    """Makes solutions of a program exact, and gathers the tangents that this takes."""

    def __init__(self, question: Question, program: Program) -> None:
        self.question, self.program = question, program
        self.cuts = _no_cuts(question)
        self.failed: Array | None = None

    def refined(self, values: Array) -> Candidate | None:
        """The nearest x with the levels, multiples and unchanged inputs of a solution."""
        question, numbers = self.question, self.question.numbers
        x = x_at(self.program, values)
        levels = [level_of(choice, x) for choice in question.choices]
        chosen = with_levels(question, levels)
        still = numbers.whole.copy()
        chosen[numbers.at[still]] = np.clip(x[numbers.at], numbers.low, numbers.high)[still]
        if question.changed_max is not None:
            counted = values[self.program.levels.stop + 2 * len(numbers.at) :]
            changed = counted[: len(numbers.at)] > 0.5
            still |= ~changed
            chosen[numbers.at[~changed]] = numbers.start[~changed]
        answer, cuts = _cut(question, chosen, still)
        self.cuts = self.cuts.and_these(*cuts).and_these(*_cuts_at(question, x))
        if answer.x is None:
            self.failed = x
            return None
        return Candidate(answer.x, answer.cost, answer.prices)

    def sharpened(self, program: Program) -> tuple[Program, bool]:
        """The program with the tangents that have come, and whether there are any."""
        cuts, self.cuts = self.cuts, _no_cuts(self.question)
        return with_conditions(program, *cuts), bool(len(cuts.low))


def _nearest_l1(program: Program, question: Question, clock: Clock) -> Answer | NearMiss:
    objective = np.asarray(shares(program, question).sum(axis=0)).ravel()
    return _rounds(program, question, lambda program: solve(program, objective, clock))


def _nearest_linf(program: Program, question: Question, clock: Clock) -> Answer | NearMiss:
    """The smallest largest share t, and of all with it those of the smallest sum."""
    cost = shares(program, question)
    rows = cost.shape[0]

    def once(program: Program) -> Solved:
        solved = smallest_largest(program, cost, clock)
        if solved.values is None:
            return solved
        t = float(solved.values[-1])
        capped = program.with_rows(cost, np.full(rows, -np.inf), np.full(rows, t * (1.0 + GAP)))
        summed = solve(capped, np.asarray(cost.sum(axis=0)).ravel(), clock)
        values = solved.values[:-1] if summed.values is None else summed.values
        return Solved(values, solved.bound)

    return _rounds(program, question, once)


def _rounds(
    program: Program, question: Question, once: Callable[[Program], Solved]
) -> Answer | NearMiss:
    """Programs with ever more tangents of the curves; one is enough if there are none."""
    refinery = Refinery(question, program)
    best, bound = None, 0.0
    for _ in range(ROUNDS_MAX):
        solved = once(program)
        if solved.values is None:
            if best is None:
                return Answer(Status.INFEASIBLE if solved.excluded else Status.TIME_LIMIT, "milp")
            break
        bound = max(bound, solved.bound)
        candidate = refinery.refined(solved.values)
        if candidate is not None and (best is None or candidate.value < best.value):
            best = candidate
        if best is not None and (
            best.value - bound <= SQUARE_GAP * best.value or is_start(question, best.x)
        ):
            return Answer(Status.OPTIMAL, "milp", best.x, best.value, best.value, best.prices)
        program, any_came = refinery.sharpened(program)
        if not any_came:
            break
    if best is None:
        return NearMiss(question.x if refinery.failed is None else refinery.failed)
    bound = min(bound, best.value)
    # Rounding is all that is left where no tangent comes.
    proved = best.value - bound <= STALE_GAP * best.value
    status = Status.OPTIMAL if proved else Status.FEASIBLE
    return Answer(status, "milp", best.x, best.value, best.value if proved else bound, best.prices)


def _nearest_l2(program: Program, question: Question, clock: Clock) -> Answer | NearMiss:
    numbers = question.numbers
    p = len(numbers.at)
    cost = shares(program, question)
    # Of levels, of which one is chosen, the square is linear.
    linear = np.asarray(cost[p:].power(2).sum(axis=0)).ravel()
    refinery = Refinery(question, program)

    def refine(values: Array) -> Candidate | None:
        refined = refinery.refined(values)
        return None if refined is None else refined._replace(value=refined.value**2)

    def places(x: Array) -> Array:
        return costs_of(question, x)[:p]

    outcome = squared(program, cost[:p], linear, cost, refine, places, clock, refinery.sharpened)
    best = outcome.best
    if best is None:
        if refinery.failed is not None and not outcome.excluded and clock.seconds:
            return NearMiss(refinery.failed)
        return Answer(Status.INFEASIBLE if outcome.excluded else Status.TIME_LIMIT, "miqp")
    value, bound = np.sqrt(best.value), np.sqrt(max(min(outcome.bound, best.value), 0.0))
    status = Status.OPTIMAL if outcome.proved else Status.FEASIBLE
    return Answer(
        status, "miqp", best.x, float(value), float(value if outcome.proved else bound), best.prices
    )


NEAREST: dict[str, Callable[[Program, Question, Clock], Answer | NearMiss]] = {
    "l1": _nearest_l1,
    "l2": _nearest_l2,
    "linf": _nearest_linf,
}


def extreme(question: Question, direction: Array, clock: Clock) -> Solved:
    """The x (n,) in `values` of largest direction x that meets the conditions, and its bound.

    The direction is (n,). The bound is from above.
    """
    program = with_conditions(with_count(program_of(question), question), *question.conditions)
    objective = np.asarray(program.x_of.T @ direction).ravel()
    solved = solve(program, -objective, clock)
    if solved.values is None:
        return solved._replace(bound=-solved.bound)
    bound = float(direction @ program.offset) - solved.bound
    return Solved(x_at(program, solved.values), bound)
