"""A question as a mixed-integer linear program, solved by HiGHS.

The variables, in this order: `z` of each number (its change d, or k of origin + k spacing), a 0 or
1 for each `level` of the choices, how far each number goes `up` and `down`, and, only if the
changed inputs are counted, a 0 or 1 for whether each input is `changed`.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.inversion.question import Question

# A smaller share of the cost between an answer and the bound is rounding.
GAP = 1e-9
# What HiGHS takes for nothing is this share of GAP.
ABSOLUTE = 1e-3
# Of HiGHS; what it calls optimal is so up to GAP.
OPTIMAL, INFEASIBLE, UNBOUNDED = 0, 2, 3
Sparse = Any  # scipy.sparse has no types of its own


class Program(NamedTuple):
    """row_low <= a v <= row_high, low <= v <= high, whole where `whole`.

    x = offset + x_of v, where x_of is (n, variables).
    """

    a: Sparse
    row_low: Array
    row_high: Array
    low: Array
    high: Array
    whole: NDArray[np.bool_]
    x_of: Sparse
    offset: Array
    up: slice
    down: slice
    levels: slice

    @property
    def size(self) -> int:
        """The number of variables."""
        return len(self.low)

    def with_rows(self, a: Sparse, low: Array, high: Array) -> "Program":
        return self._replace(
            a=sparse.vstack((self.a, a), format="csr"),
            row_low=np.append(self.row_low, low),
            row_high=np.append(self.row_high, high),
        )

    def with_variables(self, low: Array, high: Array) -> "Program":
        """More variables at the end, in no row yet."""
        more = len(low)
        return self._replace(
            a=_wider(self.a, more),
            low=np.append(self.low, low),
            high=np.append(self.high, high),
            whole=np.append(self.whole, np.full(more, False)),
            x_of=_wider(self.x_of, more),
        )


class Solved(NamedTuple):
    """What HiGHS gives: variables, None if it found none, and a bound that no others go below.

    `excluded`: proved that there are none. `unbounded`: there are ever better ones.
    """

    values: Array | None
    bound: float
    excluded: bool = False
    unbounded: bool = False


class Clock:
    """The time that is left; the clock is monotonic."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def seconds(self) -> float:
        """What is left, 0 when it is over."""
        return max(self._end - time.monotonic(), 0.0)


def program_of(question: Question) -> Program:
    """All of the question but its conditions and what is to be minimised."""
    numbers, choices = question.numbers, question.choices
    p, n = len(numbers.at), len(question.x)
    whole = numbers.whole
    step = np.where(whole, numbers.spacing, 1.0)
    base = np.where(whole, numbers.origin, numbers.start)
    level_counts = [len(choice.costs) for choice in choices]
    total = sum(level_counts)
    up, down = slice(p + total, 2 * p + total), slice(2 * p + total, 3 * p + total)
    low = (numbers.low - base) / step
    high = (numbers.high - base) / step
    # Only rounding keeps a limit that is a multiple from being one.
    low[whole], high[whole] = np.ceil(low[whole] - GAP), np.floor(high[whole] + GAP)
    allowed = np.concatenate(
        [np.isfinite(choice.costs).astype(np.float64) for choice in choices] or [np.zeros(0)]
    )
    farthest_up = np.maximum(numbers.high - numbers.start, 0.0)
    farthest_down = np.maximum(numbers.start - numbers.low, 0.0)
    identity = sparse.identity(p, format="csr")
    split = sparse.hstack(
        (sparse.diags_array(step), sparse.csr_array((p, total)), -identity, identity), format="csr"
    )
    one_each = sparse.hstack(
        (
            sparse.csr_array((len(choices), p)),
            sparse.block_diag(
                [np.ones((1, count)) for count in level_counts] or [np.zeros((0, 0))]
            ),
            sparse.csr_array((len(choices), 2 * p)),
        ),
        format="csr",
    )
    columns = [choice.first + level for choice in choices for level in range(len(choice.costs))]
    x_of = sparse.csr_array(
        (
            np.append(step, np.ones(total)),
            (np.append(numbers.at, np.array(columns, dtype=np.intp)), np.arange(p + total)),
        ),
        shape=(n, 3 * p + total),
    )
    offset = question.x.copy()
    offset[numbers.at] = base
    offset[columns] = 0.0
    distance = numbers.start - base
    return Program(
        a=sparse.vstack((split, one_each), format="csr"),
        row_low=np.append(distance, np.ones(len(choices))),
        row_high=np.append(distance, np.ones(len(choices))),
        low=np.concatenate((low, np.zeros(total), np.zeros(2 * p))),
        high=np.concatenate((high, allowed, farthest_up, farthest_down)),
        whole=np.concatenate((whole, np.full(total, True), np.full(2 * p, False))),
        x_of=x_of,
        offset=offset,
        up=up,
        down=down,
        levels=slice(p, p + total),
    )


def with_count(program: Program, question: Question) -> Program:
    """No more than `changed_max` inputs change.

    Raises NumericError for a number that may move without limit.
    """
    if question.changed_max is None:
        return program
    farthest = np.append(program.high[program.up], program.high[program.down])
    if np.isinf(farthest).any():
        raise NumericError("inputs whose changes are counted need limits")
    p, q = len(question.numbers.at), len(question.choices)
    before = program.size
    counted = program.with_variables(np.zeros(p + q), np.ones(p + q))
    counted.whole[before:] = True
    rows = sparse.lil_array((2 * p + q + 1, counted.size))
    for i in range(p):
        rows[i, program.up.start + i], rows[i, before + i] = 1.0, -farthest[i]
        rows[p + i, program.down.start + i], rows[p + i, before + i] = 1.0, -farthest[p + i]
    first = program.levels.start
    for k, choice in enumerate(question.choices):
        for level in range(len(choice.costs)):
            if level != choice.start:
                rows[2 * p + k, first + level] = 1.0
        rows[2 * p + k, before + p + k] = -1.0
        first += len(choice.costs)
    rows[-1, before:] = 1.0
    high = np.append(np.zeros(2 * p + q), float(question.changed_max))
    return counted.with_rows(rows.tocsr(), np.full(len(high), -np.inf), high)


def with_conditions(program: Program, a: Array, low: Array, high: Array) -> Program:
    """low <= a x <= high for a (r, n), in rows of length 1."""
    if not len(low):
        return program
    lengths = np.sqrt(np.einsum("ij,ij->i", a, a))
    lengths[lengths == 0.0] = 1.0
    unit = a / lengths[:, None]
    fixed = unit @ program.offset
    rows = sparse.csr_array(sparse.csr_array(unit) @ program.x_of)
    return program.with_rows(rows, low / lengths - fixed, high / lengths - fixed)


def x_at(program: Program, values: Array) -> Array:
    """x (n,) of variables, those that are whole rounded."""
    exact = np.where(program.whole, np.round(values), values)
    x: Array = program.offset + program.x_of @ exact
    return x


def solve(program: Program, objective: Array, clock: Clock) -> Solved:
    """The variables of smallest objective.

    HiGHS takes 1e-6 of an objective for nothing, whatever its unit. So it is put first in units of
    its coefficients, and where that proves too little, in units of the value that was found.
    """
    size = float(np.abs(objective).max(initial=0.0))
    if not size:
        return _solve(program, objective, clock)
    solved = _in_unit(program, objective, size * ABSOLUTE, clock)
    if solved.values is None:
        return solved
    value = abs(float(objective @ solved.values))
    if value >= size or objective @ solved.values - solved.bound <= GAP * value:
        return solved
    sharper = _in_unit(program, objective, max(value, ABSOLUTE * size) * ABSOLUTE, clock)
    return solved if sharper.values is None else sharper


def _in_unit(program: Program, objective: Array, unit: float, clock: Clock) -> Solved:
    solved = _solve(program, objective / unit, clock)
    return solved._replace(bound=solved.bound * unit)


def _solve(program: Program, objective: Array, clock: Clock) -> Solved:
    if not clock.seconds:
        return Solved(None, -np.inf)
    for presolve in (True, False):
        found = optimize.milp(
            objective,
            integrality=program.whole.astype(np.uint8),
            bounds=optimize.Bounds(program.low, program.high),
            constraints=optimize.LinearConstraint(program.a, program.row_low, program.row_high),
            options={"time_limit": clock.seconds, "mip_rel_gap": GAP, "presolve": presolve},
        )
        if found.status == INFEASIBLE:
            return Solved(None, np.inf, excluded=True)
        if found.status == UNBOUNDED:
            return Solved(None, -np.inf, unbounded=True)
        if found.x is not None:
            values = np.clip(found.x, program.low, program.high)
            bound = found.mip_dual_bound if program.whole.any() else found.fun
            return Solved(values, found.fun if bound is None else float(bound))
    return Solved(None, -np.inf)


def shares(program: Program, question: Question) -> Sparse:
    """The cost of each input, (p + choices, variables), linear in the variables."""
    numbers = question.numbers
    p, q = len(numbers.at), len(question.choices)
    rows = sparse.lil_array((p + q, program.size))
    for i in range(p):
        rows[i, program.up.start + i] = numbers.cost_up[i]
        rows[i, program.down.start + i] = numbers.cost_down[i]
    first = program.levels.start
    for k, choice in enumerate(question.choices):
        costs: Sequence[float] = np.where(np.isfinite(choice.costs), choice.costs, 0.0).tolist()
        for level, cost in enumerate(costs):
            rows[p + k, first + level] = cost
        first += len(costs)
    return rows.tocsr()


def _wider(matrix: Sparse, more: int) -> Sparse:
    return sparse.hstack((matrix, sparse.csr_array((matrix.shape[0], more))), format="csr")
