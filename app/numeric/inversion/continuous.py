"""The nearest change of numbers within linear conditions: a quadratic or a linear program.

    minimise the cost of d   subject to   low <= a d <= high,   d_low <= d <= d_high

Shapes: a (r, p), d (p,). All of this module is about changes d from the start. Slopes say what
holds back: positive where it is the upper end, negative where it is the lower one; as that end
gives way by one unit, what was minimised falls by so much.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import daqp
import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from app.numeric.activations import Array

# A condition counts as met when it is missed by no more than this share of its terms.
REACHED = 1e-10
# How much of this is given up, as little as serves, where rounding leaves nothing.
ROOM_SHARES = (0.01, 0.1, 0.9)
UNLIMITED = 1e30
# Of DAQP: an equation, a solution, and the proof that there is none.
EQUATION, SOLVED, EXCLUDED = 5, 1, -1
QUADRATIC_TOLERANCES = {"primal_tol": 1e-11, "dual_tol": 1e-12, "zero_tol": 1e-14}
# Of HiGHS, which has its own names for the same.
LINEAR_OPTIONS: Any = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
OPTIMAL, INFEASIBLE = 0, 2
linprog: Any = optimize.linprog  # its types know nothing of rows without entries


class Moves(NamedTuple):
    """What may change, and how; see the head of this module. Costs are above 0, per unit of d."""

    a: Array
    low: Array
    high: Array
    d_low: Array
    d_high: Array
    cost_up: Array
    cost_down: Array


class Found(NamedTuple):
    """The nearest d (p,), and the slopes in the rows (r,) and in the limits of d (p,).

    Minimised is half the sum of squared costs for l2, the cost itself else.
    `proved`: nothing nearer meets the conditions.
    """

    d: Array
    row_slopes: Array
    slopes: Array
    proved: bool = True


class Parts(NamedTuple):
    """d as a sum of variables of which each has one cost: two of a number that may go both ways.

    `of` (v,): the number that each belongs to. `down`: those that only ever lower it.
    """

    of: NDArray[np.intp]
    low: Array
    high: Array
    cost: Array
    down: NDArray[np.bool_]


def nearest(moves: Moves, nearness: str) -> Found | None:
    """None if no d within the limits meets the conditions."""
    lengths = np.sqrt(np.einsum("ij,ij->i", moves.a, moves.a))
    empty = lengths == 0.0
    if ((moves.low > REACHED) | (moves.high < -REACHED))[empty].any():
        return None
    lengths[empty] = 1.0
    rows = moves._replace(
        a=moves.a / lengths[:, None],
        low=np.where(empty, -np.inf, moves.low / lengths),
        high=np.where(empty, np.inf, moves.high / lengths),
    )
    if (rows.d_low == rows.d_high).all():
        still = Found(rows.d_low, np.zeros(len(lengths)), np.zeros(len(rows.d_low)))
        return still if excess(rows, still.d) <= 0.0 else None
    found = SOLVERS[nearness](rows)
    return None if found is None else found._replace(row_slopes=found.row_slopes / lengths)


def excess(moves: Moves, d: Array) -> float:
    """By how much the worst condition is missed beyond rounding, as a share of its terms."""
    if not len(moves.low):
        return 0.0
    value = moves.a @ d
    miss = np.maximum(moves.low - value, value - moves.high)
    size = 1.0 + np.abs(moves.a) @ np.abs(d)
    return max(float((miss / size).max()) - REACHED, 0.0)


def parts_of(moves: Moves, *, two_way: NDArray[np.bool_]) -> Parts:
    """The numbers as variables, those that are `two_way` (p,) as two."""
    p = len(moves.d_low)
    split = np.flatnonzero(two_way & (moves.d_low < 0.0) & (moves.d_high > 0.0))
    down = moves.d_high <= 0.0
    low, high = moves.d_low.copy(), moves.d_high
    low[split] = 0.0
    return Parts(
        of=np.concatenate((np.arange(p), split)),
        low=np.concatenate((low, moves.d_low[split])),
        high=np.concatenate((high, np.zeros(len(split)))),
        cost=np.concatenate(
            (np.where(down, moves.cost_down, moves.cost_up), moves.cost_down[split])
        ),
        down=np.concatenate((down, np.full(len(split), True))),
    )


def joined(moves: Moves, parts: Parts, values: Array, slopes: Array) -> tuple[Array, Array]:
    """d (p,) and the slopes in its limits (p,), from those of the parts (v,).

    The end at 0 that divides two parts is no limit of the number.
    """
    p = len(moves.d_low)
    at_high, at_low = parts.high == moves.d_high[parts.of], parts.low == moves.d_low[parts.of]
    outer = np.where(slopes > 0.0, at_high, at_low)
    d, felt = np.zeros(p), np.zeros(p)
    np.add.at(d, parts.of, values)
    np.add.at(felt, parts.of, np.where(outer, slopes, 0.0))
    return np.clip(d, moves.d_low, moves.d_high), felt


def _nearest_l2(moves: Moves) -> Found | None:
    return _by_quadratic(moves) or _after_doubt(moves)


def _by_quadratic(moves: Moves) -> Found | None:
    """By a dual active-set method, in variables whose cost is 1; None if none is found."""
    parts = parts_of(moves, two_way=moves.cost_up != moves.cost_down)
    a = moves.a[:, parts.of] / parts.cost
    low, high = parts.low * parts.cost, parts.high * parts.cost
    solved = _quadratic(a, moves.low, moves.high, low, high)
    if solved is None:
        return None
    y, row_slopes, slopes = solved
    d, felt = joined(moves, parts, y / parts.cost, slopes * parts.cost)
    return Found(d, row_slopes, felt) if excess(moves, d) <= 0.0 else None


def _quadratic(
    a: Array, row_low: Array, row_high: Array, low: Array, high: Array
) -> tuple[Array, Array, Array] | None:
    """The y of smallest |y|, with the slopes in the rows and in y; None if none is found."""
    lower, upper = np.append(low, row_low), np.append(high, row_high)
    equal = lower == upper
    solved = daqp.solve(
        np.eye(len(low)),
        np.zeros(len(low)),
        np.ascontiguousarray(a),
        np.minimum(upper, UNLIMITED),
        np.maximum(lower, -UNLIMITED),
        np.where(equal, EQUATION, 0).astype(np.int32),
        **QUADRATIC_TOLERANCES,
    )
    y, _, flag, told = solved
    if flag != SOLVED:
        return None
    multipliers = np.asarray(told["lam"])
    held = (multipliers != 0.0) | equal
    y = np.clip(y, low, high)
    y = _polished(a, y, held, multipliers, lower, upper)
    return y, multipliers[len(low) :], multipliers[: len(low)]


def _polished(
    a: Array, y: Array, held: NDArray[np.bool_], multipliers: Array, lower: Array, upper: Array
) -> Array:
    """y with the rounding of the conditions that hold it removed, if it stays within limits."""
    count = len(y)
    ends = np.where(multipliers > 0.0, upper, lower)
    still, rows = held[:count], held[count:]
    if not rows.any() or still.all():
        return y
    moved = np.where(still, ends[:count], y)
    right = ends[count:][rows] - a[rows][:, still] @ moved[still]
    moved[~still] = np.linalg.lstsq(a[rows][:, ~still], right)[0]
    inside = np.clip(moved, lower[:count], upper[:count])
    return inside if np.abs(inside - moved).max() <= 1e-9 * (1.0 + np.abs(y).max()) else y


def _after_doubt(moves: Moves) -> Found | None:
    """Where the quadratic program found nothing: a linear one tells whether there is anything.

    If so, what is left may be one point, which rounding excludes: so once more, with as much room
    as rounding is given.
    """
    found = _nearest_l1(moves)
    if found is None:
        return None
    room = REACHED * (1.0 + np.abs(moves.a) @ np.abs(found.d))
    for share in ROOM_SHARES:
        wider = moves._replace(low=moves.low - share * room, high=moves.high + share * room)
        nearest = _by_quadratic(wider)
        if nearest is not None and excess(moves, nearest.d) <= 0.0:
            return nearest
    return found._replace(proved=not found.d.any())


def _nearest_l1(moves: Moves) -> Found | None:
    parts = parts_of(moves, two_way=np.full(len(moves.d_low), True))
    solved = linear(
        np.where(parts.down, -parts.cost, parts.cost),
        moves.a[:, parts.of],
        moves.low,
        moves.high,
        parts.low,
        parts.high,
    )
    if solved is None:
        return None
    d, _ = joined(moves, parts, solved.values, solved.slopes)
    return Found(d, solved.row_slopes, _l1_slopes(moves, d, solved.row_slopes))


def _l1_slopes(moves: Moves, d: Array, row_slopes: Array) -> Array:
    """The slopes in the limits (p,), from those in the rows.

    The parts know no way beyond the start, so theirs are wrong for a limit that stands there: past
    it each unit costs anew, rather than less.
    """
    gain = -(moves.a.T @ row_slopes)
    up = gain - np.where(d >= 0.0, moves.cost_up, -moves.cost_down)
    down = gain + np.where(d <= 0.0, moves.cost_down, -moves.cost_up)
    held_high = np.where(d == moves.d_high, np.maximum(up, 0.0), 0.0)
    held_low = np.where(d == moves.d_low, np.minimum(down, 0.0), 0.0)
    slopes: Array = held_high + held_low
    return slopes


def _nearest_linf(moves: Moves) -> Found | None:
    """The smallest largest cost t, and of all changes with it the one of the smallest sum."""
    parts = parts_of(moves, two_way=np.full(len(moves.d_low), True))
    count, rows = len(parts.of), len(moves.low)
    price = np.where(parts.down, -parts.cost, parts.cost)
    a = np.zeros((rows + count, count + 1))
    a[:rows, :-1] = moves.a[:, parts.of]
    a[rows:, :-1] = np.diag(price)
    a[rows:, -1] = -1.0
    solved = linear(
        np.append(np.zeros(count), 1.0),
        a,
        np.append(moves.low, np.full(count, -np.inf)),
        np.append(moves.high, np.zeros(count)),
        np.append(parts.low, 0.0),
        np.append(parts.high, np.inf),
    )
    if solved is None:
        return None
    t = solved.values[-1]
    d, slopes = joined(moves, parts, solved.values[:-1], solved.slopes[:-1])
    smallest = _nearest_l1(
        moves._replace(
            d_low=np.minimum(np.maximum(moves.d_low, -t / moves.cost_down), moves.d_high),
            d_high=np.maximum(np.minimum(moves.d_high, t / moves.cost_up), moves.d_low),
        )
    )
    return Found(d if smallest is None else smallest.d, solved.row_slopes[:rows], slopes)


class Linear(NamedTuple):
    """A solution of a linear program, with the slopes in its rows and limits."""

    values: Array
    row_slopes: Array
    slopes: Array


def linear(
    objective: Array, a: Array, row_low: Array, row_high: Array, low: Array, high: Array
) -> Linear | None:
    """The v of smallest objective v with row_low <= a v <= row_high, by HiGHS; None without any."""
    equal = row_low == row_high
    above, below = ~equal & (row_high < np.inf), ~equal & (row_low > -np.inf)
    for options in (LINEAR_OPTIONS, LINEAR_OPTIONS | {"presolve": False}):
        solved: Any = linprog(
            objective,
            A_ub=np.vstack((a[above], -a[below])),
            b_ub=np.append(row_high[above], -row_low[below]),
            A_eq=a[equal],
            b_eq=row_high[equal],
            bounds=np.column_stack((low, high)),
            method="highs",
            options=options,
        )
        if solved.status in (OPTIMAL, INFEASIBLE):
            break
    if solved.status != OPTIMAL:
        return None
    row_slopes = np.zeros(len(row_low))
    row_slopes[equal] = -solved.eqlin.marginals
    marginals = solved.ineqlin.marginals
    row_slopes[above] -= marginals[: above.sum()]
    row_slopes[below] += marginals[above.sum() :]
    slopes = -(solved.upper.marginals + solved.lower.marginals)
    return Linear(np.clip(solved.x, low, high), row_slopes, slopes)


SOLVERS: Mapping[str, Callable[[Moves], Found | None]] = MappingProxyType(
    {"l1": _nearest_l1, "l2": _nearest_l2, "linf": _nearest_linf}
)
