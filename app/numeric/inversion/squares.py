"""Sums of squares over the solutions of a mixed-integer program, by outer approximation.

Squares are not linear. Tangents stand in for them (Duran and Grossmann 1986), which gives a bound;
what the program finds, made exact, is an answer and a place for more tangents; until bound and
answer meet.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from app.numeric.activations import Array
from app.numeric.inversion.program import GAP, Clock, Program, Solved, Sparse, solve
from app.numeric.inversion.question import Prices

# Tangents close the gap in a handful of rounds; more of them means that rounding stands between.
ROUNDS_MAX = 200
# So many rounds in which neither bound nor answer moves mean the same.
STALE_MAX = 5
# An answer that is within this share of the bound (l2: whose square is) is as near as any.
SQUARE_GAP = 1e-8
# The same where neither moves any more: HiGHS holds its rows to 1e-6.
STALE_GAP = 2e-6
# Tangents are so much steeper than what they bound, as programs hold rows to 1e-6 of their unit.
SHARP = 1e3
# So often the smallest largest share is sought again, for the unit of squares.
UNITS_MAX = 8


class Candidate(NamedTuple):
    """An x with the square or the cost that it has, and prices if they are known."""

    x: Array
    value: float
    prices: Prices | None


class Outcome(NamedTuple):
    """The best candidate, a bound on the value of any, and whether the two meet."""

    best: Candidate | None
    bound: float
    proved: bool
    excluded: bool = False


Sharpen = Callable[[Program], tuple[Program, bool]]


def squared(
    program: Program,
    expressions: Sparse,
    linear: Array,
    roots: Sparse,
    refine: Callable[[Array], Candidate | None],
    places: Callable[[Array], Array],
    clock: Clock,
    sharpen: Sharpen = lambda program: (program, False),
) -> Outcome:
    """Minimises linear v + the sum of squares of expressions v (k, variables), none below 0.

    `roots`: the expressions, and with them what squared is linear. The smallest that the largest of
    them can be is the unit of all, so that no tolerance of the solver is larger than what is
    sought. `refine` makes an exact candidate of a solution, `places` gives the expressions of
    its x, `sharpen` adds what refining has found the program to lack.
    """
    size = program.size
    best: Candidate | None = None
    for _ in range(UNITS_MAX):
        least = smallest_largest(program, roots, clock)
        if least.values is None:
            return Outcome(best, 0.0, False, excluded=least.excluded and best is None)
        best = _better(best, refine(least.values[:size]))
        program, lacked = sharpen(program)
        unit = float(least.values[-1])
        if not lacked or (best is not None and unit > GAP):
            break
    bound = max(least.bound, 0.0) ** 2
    if unit <= GAP or (best is None and not lacked):
        return Outcome(best, bound, best is not None and best.value <= GAP)
    return _by_tangents(
        Squares(program, expressions, linear, unit),
        Outcome(best, bound, False),
        refine,
        places,
        clock,
        sharpen,
    )


class Squares(NamedTuple):
    """What is squared, in so large a unit."""

    program: Program
    expressions: Sparse
    linear: Array
    unit: float


def _by_tangents(
    squares: Squares,
    outcome: Outcome,
    refine: Callable[[Array], Candidate | None],
    places: Callable[[Array], Array],
    clock: Clock,
    sharpen: Sharpen,
) -> Outcome:
    """Rounds of tangents, from an outcome that is known already."""
    program, expressions, linear, unit = squares
    best, bound = outcome.best, outcome.bound
    count, size = expressions.shape[0], program.size
    objective = np.append(linear * (SHARP / unit**2), np.ones(count))
    program = program.with_variables(np.zeros(count), np.full(count, np.inf))
    stale = 0
    tangents = [np.full(count, place) for place in (0.25, 1.0, 4.0)]
    for _ in range(ROUNDS_MAX):
        for place in tangents:
            # s >= 2 place e - place^2, for every e.
            slopes = sparse.diags_array(SHARP * 2.0 * place / unit) @ expressions
            rows = sparse.hstack((slopes, -sparse.identity(count)), format="csr")
            program = program.with_rows(rows, np.full(count, -np.inf), SHARP * np.square(place))
        solved = solve(program, objective, clock)
        if solved.values is None:
            return Outcome(best, bound, False, excluded=solved.excluded and best is None)
        before, bound = (best, bound), max(bound, solved.bound * (unit**2 / SHARP))
        values = solved.values[:size]
        candidate = refine(values)
        best = _better(best, candidate)
        if best is not None and best.value - bound <= SQUARE_GAP * best.value:
            return Outcome(best, bound, True)
        program, lacked = sharpen(program)
        if candidate is None and not lacked:
            break
        moved = bound > before[1] * (1.0 + GAP) or best is not before[0]
        stale = 0 if moved else stale + 1
        if stale == STALE_MAX:
            # A solution that comes again, exact as it is, shows that rounding is all that is left.
            close = best is not None and best.value - bound <= STALE_GAP * best.value
            return Outcome(best, bound, close)
        tangents = [np.asarray(expressions @ values).ravel() / unit]
        if candidate is not None:
            tangents.append(places(candidate.x) / unit)
    return Outcome(best, bound, False)


def _better(best: Candidate | None, candidate: Candidate | None) -> Candidate | None:
    if candidate is None or (best is not None and best.value <= candidate.value):
        return best
    return candidate


def smallest_largest(program: Program, expressions: Sparse, clock: Clock) -> Solved:
    """The variables of which the largest expression is smallest, and behind them its value."""
    rows = expressions.shape[0]
    wider = program.with_variables(np.zeros(1), np.full(1, np.inf))
    below = sparse.hstack((expressions, sparse.csr_array(-np.ones((rows, 1)))), format="csr")
    wider = wider.with_rows(below, np.full(rows, -np.inf), np.zeros(rows))
    return solve(wider, np.append(np.zeros(program.size), 1.0), clock)
