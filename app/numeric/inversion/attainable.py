"""What each output can be, by itself, for the x of a question."""

from typing import NamedTuple

import numpy as np
from scipy import sparse, special

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.inversion.program import (
    Clock,
    program_of,
    solve,
    with_conditions,
    with_count,
    x_at,
)
from app.numeric.inversion.question import Question, Status
from app.numeric.inversion.solve import farthest
from app.numeric.inversion.wishes import log_odds
from app.numeric.layer import Layer

TANGENTS_MAX = 100
DESCENTS_MAX = 20
REACHED = 1e-10
# No probability is told from 0 or 1 beyond this.
LOG_ODDS_MAX = 800.0


class Interval(NamedTuple):
    """In the units of sigma, infinite where there is no end. `exact`: its ends are reached."""

    low: float
    high: float
    exact: bool = True


def attainable(layer: Layer, question: Question, clock: Clock) -> list[Interval] | None:
    """The interval of each output; None if no x meets the conditions of the question.

    Of softmax with more than two outputs the upper end is exact, and the lower one the lowest that
    was found: there, a concave function is made small, which can have many low points.
    """
    sigma = ACTIVATIONS[layer.activation]
    found: list[Interval] = []
    for output in range(len(layer.b)):
        if sigma.elementwise:
            ends = _ends(question, layer.w[output], clock)
            shift, forward = layer.b[output], sigma.forward
        elif len(layer.b) == 2:
            ends = _ends(question, layer.w[output] - layer.w[1 - output], clock)
            shift, forward = layer.b[output] - layer.b[1 - output], special.expit
        else:
            ends = _softmax_ends(layer, question, output, clock)
            shift, forward = 0.0, special.expit
        if ends is None:
            return None
        low, high = forward(np.array([ends.low, ends.high]) + shift)
        found.append(Interval(float(low), float(high), ends.exact))
    return found


def _ends(question: Question, direction: Array, clock: Clock) -> Interval | None:
    least, most = farthest(question, -direction, clock), farthest(question, direction, clock)
    if Status.INFEASIBLE in (least.status, most.status):
        return None
    exact = all(end.status in (Status.OPTIMAL, Status.UNBOUNDED) for end in (least, most))
    # What time did not allow to reach is told by its bound.
    return Interval(-least.bound, most.bound, exact)


def _softmax_ends(layer: Layer, question: Question, output: int, clock: Clock) -> Interval | None:
    others = [k for k in range(len(layer.b)) if k != output]
    starts = [farthest(question, layer.w[k] - layer.w[output], clock) for k in others]
    if any(start.status is Status.INFEASIBLE for start in starts):
        return None
    if any(start.status is Status.UNBOUNDED for start in starts):
        low, exact = -np.inf, True
    else:
        found = [
            _lowest_from(layer, question, output, start.x, clock)
            for start in starts
            if start.x is not None
        ]
        low, exact = min(found, default=-np.inf), False
    high, reached = highest(layer, question, output, clock)
    return Interval(low, high, exact and reached)


def _lowest_from(layer: Layer, question: Question, output: int, x: Array, clock: Clock) -> float:
    """Down along tangents, which lie above a concave function: it falls at least as far."""
    value, slope = log_odds(layer, x, output)
    for _ in range(DESCENTS_MAX):
        moved = farthest(question, -slope, clock)
        if moved.x is None:
            break
        lower, slope = log_odds(layer, moved.x, output)
        if lower >= value - REACHED * (1.0 + abs(value)):
            break
        value = lower
    return value


def highest(layer: Layer, question: Question, output: int, clock: Clock) -> tuple[float, bool]:
    """The largest log-odds, by Kelley's method: the top of all tangents is a bound from above."""
    program = with_conditions(with_count(program_of(question), question), *question.conditions)
    top = np.array([LOG_ODDS_MAX])
    program = program.with_variables(-top, top)
    objective = np.zeros(program.size)
    objective[-1] = -1.0
    x, best, bound = question.x, -np.inf, LOG_ODDS_MAX
    for _ in range(TANGENTS_MAX):
        value, slope = log_odds(layer, x, output)
        # t - slope v <= value - slope x, with x = offset + x_of v
        row = -np.asarray(program.x_of.T @ slope).ravel()
        row[-1] = 1.0
        right = value + float(slope @ (program.offset - x))
        program = program.with_rows(
            sparse.csr_array(row[None]), np.array([-np.inf]), np.array([right])
        )
        solved = solve(program, objective, clock)
        if solved.values is None:
            break
        bound = min(bound, -solved.bound)
        x = x_at(program, solved.values)
        best = max(best, log_odds(layer, x, output)[0])
        if bound - best <= REACHED * (1.0 + abs(best)):
            return best, True
    return bound, False
