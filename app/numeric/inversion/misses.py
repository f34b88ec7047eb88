"""Where not all wishes can hold: the x that misses them least, and what each limit costs there."""

import numpy as np
from scipy import sparse

from app.numeric.activations import Array
from app.numeric.inversion import solve
from app.numeric.inversion.attainable import highest
from app.numeric.inversion.continuous import linear
from app.numeric.inversion.program import Clock, program_of, with_conditions, with_count, x_at
from app.numeric.inversion.question import (
    Answer,
    Conditions,
    Prices,
    Question,
    costs_of,
)
from app.numeric.inversion.squares import Candidate, squared
from app.numeric.inversion.wishes import LogOdds, Wanted, log_odds
from app.numeric.layer import Layer

# Room for rounding around what the least miss is; the first that suffices.
ROOMS = (1e-14, 1e-12, 1e-10, 1e-8)


def nearest_miss(layer: Layer, question: Question, wanted: Wanted, clock: Clock) -> Answer | None:
    """The x nearest to the start of those that miss the wishes least.

    Least is the weighted sum of squared misses in z; of curved wishes, then, each by itself as far
    as it goes. None if the conditions of the question itself cannot hold.
    """
    wishes = wanted.conditions
    missed = least_misses(question, wishes, wanted.weights, clock)
    if missed is None:
        return None
    answer = None
    for room in ROOMS:
        size = np.where(missed > 0.0, missed + room * (1.0 + missed), 0.0)
        relaxed = wanted._replace(
            conditions=Conditions(wishes.a, wishes.low - size, wishes.high + size), curved=()
        )
        answer = solve.nearest(layer, question, relaxed, clock)
        if answer.x is not None:
            break
    if answer is None or answer.x is None or not wanted.curved:
        return answer
    inside = question._replace(conditions=question.conditions.and_these(*relaxed.conditions))
    curved = tuple(_within_reach(layer, inside, wish, clock) for wish in wanted.curved)
    nearer = solve.nearest(layer, question, relaxed._replace(curved=curved), clock)
    return answer if nearer.x is None else nearer


def _within_reach(layer: Layer, question: Question, wish: LogOdds, clock: Clock) -> LogOdds:
    """The wish, or as much of it as can be had."""
    if wish.low == -np.inf:
        return wish
    top, _ = highest(layer, question, wish.output, clock)
    return wish._replace(low=min(wish.low, top - ROOMS[-1] * (1.0 + abs(top))))


def flattened(layer: Layer, wanted: Wanted, x: Array) -> Wanted:
    """The wishes with tangents at x in place of those that are curved."""
    conditions, weights = wanted.conditions, wanted.weights
    for wish in wanted.curved:
        value, slope = log_odds(layer, x, wish.output)
        shift = float(slope @ x) - value
        ends = np.array([wish.low + shift]), np.array([wish.high + shift])
        conditions, weights = conditions.and_these(slope[None], *ends), np.append(weights, 1.0)
    return Wanted(conditions, weights, ())


def prices_of_miss(question: Question, wanted: Wanted, x: Array, units: Array) -> Prices:
    """How much the sum of misses, each times its unit (r,), falls as a limit gives way by one.

    With the levels and multiples of x (n,) as they are, and what has not changed where no more may.
    """
    numbers, own, wishes = question.numbers, question.conditions, wanted.conditions
    a = np.vstack((own.a, wishes.a))
    free = ~numbers.whole
    if question.changed_max is not None:
        changed = costs_of(question, x) > solve.CHANGED
        if np.count_nonzero(changed) >= question.changed_max:
            free &= changed[: len(numbers.at)]
    at = numbers.at[free]
    base = x.copy()
    base[at] = 0.0
    fixed = a @ base
    rows, count, p = len(own.low), len(wishes.low), len(at)
    slack = np.vstack((np.zeros((rows, 2 * count)), np.hstack((np.eye(count), -np.eye(count)))))
    solved = linear(
        np.concatenate((np.zeros(p), np.tile(units * wanted.weights, 2))),
        np.hstack((a[:, at], slack)),
        np.append(own.low, wishes.low) - fixed,
        np.append(own.high, wishes.high) - fixed,
        np.append(numbers.low[free], np.zeros(2 * count)),
        np.append(numbers.high[free], np.full(2 * count, np.inf)),
    )
    limits, held = np.zeros(len(numbers.at)), np.zeros(rows)
    if solved is not None:
        limits[free], held = solved.slopes[:p], solved.row_slopes[:rows]
    return Prices(
        condition_low=np.maximum(-held, 0.0),
        condition_high=np.maximum(held, 0.0),
        low=np.maximum(-limits, 0.0),
        high=np.maximum(limits, 0.0),
    )


def least_misses(
    question: Question, wishes: Conditions, weights: Array, clock: Clock
) -> Array | None:
    """By how much each wish (r,) is missed where the weighted sum of squares is smallest.

    The wishes are conditions beside those of the question, which hold. None if those cannot hold,
    or if time is over.
    """
    program = with_conditions(with_count(program_of(question), question), *question.conditions)
    count = len(wishes.low)
    before = program.size
    program = program.with_variables(np.zeros(2 * count), np.full(2 * count, np.inf))
    fixed = wishes.a @ program.offset
    identity = sparse.identity(count)
    rows = sparse.csr_array(sparse.csr_array(wishes.a) @ program.x_of[:, :before])
    rows = sparse.hstack((rows, identity, -identity), format="csr")
    program = program.with_rows(rows, wishes.low - fixed, wishes.high - fixed)
    weighted = sparse.diags_array(weights)
    expressions = sparse.hstack(
        (sparse.csr_array((count, before)), weighted, weighted), format="csr"
    )

    def missed(x: Array) -> Array:
        value = wishes.a @ x
        return np.asarray(np.maximum(np.maximum(wishes.low - value, value - wishes.high), 0.0))

    def refine(values: Array) -> Candidate:
        x = x_at(program, values)
        return Candidate(x, float(np.square(weights * missed(x)).sum()), None)

    outcome = squared(
        program,
        expressions,
        np.zeros(program.size),
        expressions,
        refine,
        lambda x: weights * missed(x),
        clock,
    )
    return None if outcome.best is None else missed(outcome.best.x)
