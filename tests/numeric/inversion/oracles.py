"""What SciPy finds for the same questions, put to it in another form."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from app.numeric.activations import Array
from app.numeric.inversion.continuous import Moves
from app.numeric.inversion.question import Question

linprog: Any = optimize.linprog
minimize: Any = optimize.minimize
PRECISE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
FOUND, EXCLUDED, ENDLESS = 0, 2, 3


def unit_rows(moves: Moves) -> Moves:
    """The same conditions, each row of length 1, where it is not empty."""
    length = np.linalg.norm(moves.a, axis=1)
    length[length == 0.0] = 1.0
    return moves._replace(
        a=moves.a / length[:, None], low=moves.low / length, high=moves.high / length
    )


def one_sided(moves: Moves) -> tuple[Array, Array]:
    """g and h, so that g d <= h says what low <= a d <= high says."""
    above, below = moves.high < np.inf, moves.low > -np.inf
    return (
        np.vstack((moves.a[above], -moves.a[below])),
        np.append(moves.high[above], -moves.low[below]),
    )


def can_hold(moves: Moves, hair: float) -> bool:
    """Whether any d meets the conditions; a hair above 0 asks for it with so much to spare.

    Of equations and frozen numbers the hair takes nothing: there is none to spare.
    """
    rows = unit_rows(moves)
    spare = np.where(rows.low == rows.high, 0.0, hair)
    g, h = one_sided(rows._replace(low=rows.low + spare, high=rows.high - spare))
    room = np.where(rows.d_low == rows.d_high, 0.0, hair)
    low, high = rows.d_low + room, rows.d_high - room
    if (low > high).any():
        return False
    solved = linprog(np.zeros(len(low)), g, h, bounds=np.column_stack((low, high)), options=PRECISE)
    assert solved.status in {FOUND, EXCLUDED}, solved.message
    return bool(solved.status == FOUND)


def least_cost(moves: Moves, nearness: str) -> float | None:
    """The cost of the nearest d, None if the conditions cannot hold."""
    rows = unit_rows(moves)
    return _least_distance(rows) if nearness == "l2" else _least_linear(rows, nearness)


def _least_linear(moves: Moves, nearness: str) -> float | None:
    """Over d and caps on their costs: one for each number (l1) or one for all (linf)."""
    g, h = one_sided(moves)
    p = len(moves.d_low)
    cap = -np.eye(p) if nearness == "l1" else -np.ones((p, 1))
    count = cap.shape[1]
    solved = linprog(
        np.append(np.zeros(p), np.ones(count)),
        np.vstack(
            (
                np.hstack((g, np.zeros((len(h), count)))),
                np.hstack((np.diag(moves.cost_up), cap)),
                np.hstack((-np.diag(moves.cost_down), cap)),
            )
        ),
        np.append(h, np.zeros(2 * p)),
        bounds=np.vstack(
            (np.column_stack((moves.d_low, moves.d_high)), np.tile((0.0, np.inf), (count, 1)))
        ),
        options=PRECISE,
    )
    assert solved.status in {FOUND, EXCLUDED}, solved.message
    return float(solved.fun) if solved.status == FOUND else None


def _least_distance(moves: Moves) -> float | None:
    """Least-distance programming by least squares with u >= 0, for d = up - down.

    Source: Lawson and Hanson 1974, chapter 23, problem LDP: min |y| with g y >= h. SciPy's nnls
    stops early on some of these, its BVLS does not.
    """
    p = len(moves.d_low)
    sides = np.hstack((np.diag(1.0 / moves.cost_up), -np.diag(1.0 / moves.cost_down)))
    limits = moves._replace(a=np.eye(p), low=moves.d_low, high=moves.d_high)
    parts = [one_sided(moves), one_sided(limits)]
    g = np.vstack([-part[0] @ sides for part in parts] + [np.eye(2 * p)])
    h = np.concatenate([-part[1] for part in parts] + [np.zeros(2 * p)])
    scale = max(float(np.abs(h).max()), 1.0)
    e = np.vstack((g.T, h / scale))
    target = np.append(np.zeros(2 * p), 1.0)
    # Where a step of BVLS is none it divides by 0, and takes the infinity for no limit.
    with np.errstate(divide="ignore", invalid="ignore"):
        solved: Any = optimize.lsq_linear(
            e, target, (0.0, np.inf), method="bvls", tol=1e-15, max_iter=1000
        )
    u = solved.x
    rest = e @ u - target
    if np.linalg.norm(rest) < 1e-9:
        return None
    return float(np.linalg.norm(rest[:-1] / rest[-1]) * scale)


class Fixed(NamedTuple):
    """x with every multiple and level set, what they cost, and how many of them have changed."""

    x: Array
    costs: list[float]
    changed: int


def settings_of(question: Question) -> Iterator[Fixed]:
    """Every way to set the multiples and the choices."""
    numbers = question.numbers
    whole = np.flatnonzero(numbers.spacing > 0.0)
    axes: list[list[float]] = []
    for i in whole:
        origin, spacing = numbers.origin[i], numbers.spacing[i]
        first = np.ceil((numbers.low[i] - origin) / spacing - 1e-9)
        last = np.floor((numbers.high[i] - origin) / spacing + 1e-9)
        axes.append([float(origin + k * spacing) for k in np.arange(first, last + 1)])
    levels = [np.flatnonzero(np.isfinite(choice.costs)).tolist() for choice in question.choices]
    for chosen in itertools.product(*levels):
        base, costs, changed = question.x.copy(), [], 0
        for level, choice in zip(chosen, question.choices, strict=True):
            base[choice.first : choice.first + len(choice.costs)] = 0.0
            base[choice.first + level] = 1.0
            costs.append(float(choice.costs[level]))
            changed += level != choice.start
        for values in itertools.product(*axes):
            x = base.copy()
            x[numbers.at[whole]] = values
            d = x[numbers.at[whole]] - numbers.start[whole]
            unit = np.where(d > 0.0, numbers.cost_up[whole], numbers.cost_down[whole])
            moved = np.abs(d) > 1e-12
            yield Fixed(x, [*costs, *(unit * np.abs(d))], changed + int(moved.sum()))


def moves_of(question: Question, x: Array, still: set[int]) -> Moves | None:
    """What is left to the continuous numbers where all else is as in x and some are still.

    None if one of those may not stay where it is.
    """
    numbers, conditions = question.numbers, question.conditions
    free = np.flatnonzero(numbers.spacing == 0.0)
    base = x.copy()
    base[numbers.at[free]] = numbers.start[free]
    fixed = conditions.a @ base
    low, high = (ends[free] - numbers.start[free] for ends in (numbers.low, numbers.high))
    stays = np.array([i in still for i in free], dtype=bool)
    if (stays & ((low > 0.0) | (high < 0.0))).any():
        return None
    return Moves(
        a=conditions.a[:, numbers.at[free]],
        low=conditions.low - fixed,
        high=conditions.high - fixed,
        d_low=np.where(stays, 0.0, low),
        d_high=np.where(stays, 0.0, high),
        cost_up=numbers.cost_up[free],
        cost_down=numbers.cost_down[free],
    )


def stills_of(question: Question, changed: int) -> Iterator[set[int]]:
    """Every set of continuous numbers that has to stay where `changed` others have changed."""
    free = np.flatnonzero(question.numbers.spacing == 0.0).tolist()
    if question.changed_max is None:
        yield set()
        return
    left = question.changed_max - changed
    if left >= 0:
        for still in itertools.combinations(free, max(len(free) - left, 0)):
            yield set(still)


def nearest_by_enumeration(question: Question) -> float | None:
    """The least cost over every setting of what is whole or chosen, None if there is none."""
    best = np.inf
    for fixed in settings_of(question):
        if _total(question.nearness, [*fixed.costs]) >= best:
            continue
        for still in stills_of(question, fixed.changed):
            moves = moves_of(question, fixed.x, still)
            cost = None if moves is None else _cost_left(moves, question.nearness)
            if cost is not None:
                best = min(best, _total(question.nearness, [*fixed.costs, cost]))
    return None if np.isinf(best) else best


def _cost_left(moves: Moves, nearness: str) -> float | None:
    if moves.a.shape[1] and (moves.d_low < moves.d_high).any():
        return least_cost(moves, nearness)
    value = moves.a @ moves.d_low
    held = (value >= moves.low - 1e-9).all() and (value <= moves.high + 1e-9).all()
    d = moves.d_low
    costs = np.where(d > 0.0, moves.cost_up, moves.cost_down) * np.abs(d)
    return _total(nearness, costs.tolist()) if held else None


def _total(nearness: str, costs: list[float]) -> float:
    if nearness == "l1":
        return float(np.sum(costs))
    return float(np.linalg.norm(costs)) if nearness == "l2" else float(np.max([0.0, *costs]))


def farthest_by_enumeration(question: Question, direction: Array) -> float | None:
    """The largest direction x, None if there is no x, infinite if there is no largest."""
    numbers = question.numbers
    free = np.flatnonzero(numbers.spacing == 0.0)
    best: float | None = None
    for fixed in settings_of(question):
        for still in stills_of(question, fixed.changed):
            moves = moves_of(question, fixed.x, still)
            if moves is None:
                continue
            base = fixed.x.copy()
            base[numbers.at[free]] = numbers.start[free]
            g, h = one_sided(unit_rows(moves))
            solved = linprog(
                -direction[numbers.at[free]],
                g,
                h,
                bounds=np.column_stack((moves.d_low, moves.d_high)),
                options=PRECISE,
            )
            if solved.status == ENDLESS:
                return float("inf")
            if solved.status == FOUND:
                value = float(direction @ base - solved.fun)
                best = value if best is None else max(best, value)
    return best
