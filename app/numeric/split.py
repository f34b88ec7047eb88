"""Which rows train and which validate: one row of a table for each way to choose."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.errors import NumericError, ShapeError

# Floats, integers or booleans (N,): exact integers stay what they are, float64 would merge some.
SplitColumn = NDArray[Any]


class Split(NamedTuple):
    """Row numbers, ascending; together every row once."""

    training: NDArray[np.intp]
    validation: NDArray[np.intp]


class SplitRequest(NamedTuple):
    """What a method reads: at least one row, 0 <= fraction < 1, a column (rows,) without nan."""

    rows: int
    fraction: float
    seed: int
    column: SplitColumn

    @property
    def wanted(self) -> int:
        """How many rows should validate: round(fraction * rows), and at least one trains."""
        return min(round(self.fraction * self.rows), self.rows - 1)


class SplitMethod(NamedTuple):
    """A way to choose the rows that validate, and what it needs.

    `column` is what the column holds that it reads, None if it reads none; without an optional one
    it reads the row numbers. `uses_fraction` is False where the column alone decides. `choose`
    gives the rows that validate, in any order.
    """

    column: Literal["labels", "key", "groups", "mask"] | None
    column_optional: bool
    uses_fraction: bool
    choose: Callable[[SplitRequest], NDArray[np.intp]]


def split(rows: int, *, fraction: float, seed: int) -> Split:
    """A random split that anyone can make again.

    The first round(fraction * rows) of `Generator(Philox(seed)).permutation(rows)` validate (halves
    round to even, at least one row is left to train), the others train; both sorted.
    Raises NumericError unless 0 <= fraction < 1.
    """
    _check_fraction(fraction)
    order = _generator(seed).permutation(rows)
    count = min(round(fraction * rows), max(rows - 1, 0))
    return Split(training=np.sort(order[count:]), validation=np.sort(order[:count]))


def split_by(
    method: str, rows: int, *, fraction: float, seed: int, column: SplitColumn | None = None
) -> Split:
    """The split that a row of METHODS makes; the same arguments always give the same one.

    `column` (rows,) is what the method needs: labels or groups (equal values belong together), a
    key that sorts, a mask of True or 1 for the rows that validate.
    Raises NumericError for an unknown method, no rows, a fraction outside [0, 1), a column that is
    missing or not asked for, nan in it, a mask of other values, and a mask that lets no row train;
    ShapeError for a column of another length.
    """
    if method not in METHODS:
        raise NumericError(f"There is no split {method}; choose one of {', '.join(METHODS)}.")
    _check_fraction(fraction)
    if rows < 1:
        raise NumericError("a split needs at least one row, to train on")
    values = _checked_column(method, rows, column)
    validates = np.zeros(rows, dtype=np.bool_)
    validates[METHODS[method].choose(SplitRequest(rows, fraction, seed, values))] = True
    if validates.all():
        raise NumericError("every row is marked to validate, so that none is left to train on")
    return Split(training=np.flatnonzero(~validates), validation=np.flatnonzero(validates))


def _random(request: SplitRequest) -> NDArray[np.intp]:
    return split(request.rows, fraction=request.fraction, seed=request.seed).validation


def _stratified(request: SplitRequest) -> NDArray[np.intp]:
    """Of each level the first in the order of `Generator(Philox(seed)).permutation(rows)`."""
    _, level_of, sizes = np.unique(request.column, return_inverse=True, return_counts=True)
    generator = _generator(request.seed)
    order = generator.permutation(request.rows)
    counts = _level_counts(sizes, request.wanted, generator.permutation(len(sizes)))
    by_level = order[np.argsort(level_of[order], kind="stable")]
    place_in_level = np.arange(request.rows) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return by_level[place_in_level < np.repeat(counts, sizes)]


def _level_counts(
    sizes: NDArray[np.intp], wanted: int, order: NDArray[np.intp]
) -> NDArray[np.intp]:
    """How many rows of each level validate: its share of `wanted`, rounded down or up.

    Up goes to the largest remainders (Hamilton's method), equal ones by their place in `order`, and
    never to a level that would be left without a row to train on. Integers, so that no tie is
    decided by rounding. The sum is `wanted` unless such levels make it less.
    """
    counts, remainders = np.divmod(wanted * sizes, sizes.sum())
    may_round_up = (remainders > 0) & (counts + 1 < sizes)
    candidates = order[may_round_up[order]]
    largest = candidates[np.argsort(-remainders[candidates], kind="stable")]
    counts[largest[: wanted - counts.sum()]] += 1
    return counts


def _chronological(request: SplitRequest) -> NDArray[np.intp]:
    """The last rows by the key; equal keys keep the order of the rows."""
    order = np.argsort(request.column, kind="stable")
    return order[request.rows - request.wanted :]


def _group(request: SplitRequest) -> NDArray[np.intp]:
    """Whole groups, taken in the order of `Generator(Philox(seed)).permutation(groups)`.

    A single group trains.
    """
    _, group_of, sizes = np.unique(request.column, return_inverse=True, return_counts=True)
    validates = np.zeros(len(sizes), dtype=np.bool_)
    if request.fraction > 0 and len(sizes) > 1:
        order = _generator(request.seed).permutation(len(sizes))
        validates[order] = _groups_taken(sizes[order], request.wanted)
    return np.flatnonzero(validates[group_of])


def _groups_taken(sizes: NDArray[np.intp], wanted: int) -> NDArray[np.bool_]:
    """Each group in turn that brings the rows nearer to `wanted`; never none and never all.

    So they miss `wanted` by at most half of the largest group, unless a single group is taken or
    left.
    """
    missing = wanted
    taken = np.zeros(len(sizes), dtype=np.bool_)
    for index, size in enumerate(sizes.tolist()):
        if size < 2 * missing:
            taken[index] = True
            missing -= size
    if not taken.any():
        taken[np.abs(sizes - wanted).argmin()] = True
    elif taken.all():
        taken[np.abs(sizes - (sizes.sum() - wanted)).argmin()] = False
    return taken


def _column(request: SplitRequest) -> NDArray[np.intp]:
    if not ((request.column == 0) | (request.column == 1)).all():
        raise NumericError("the column that marks the rows to validate must be 0 or 1 in every row")
    return np.flatnonzero(request.column)


METHODS: Mapping[str, SplitMethod] = MappingProxyType(
    {
        "random": SplitMethod(
            column=None, column_optional=False, uses_fraction=True, choose=_random
        ),
        "stratified": SplitMethod(
            column="labels", column_optional=False, uses_fraction=True, choose=_stratified
        ),
        "chronological": SplitMethod(
            column="key", column_optional=True, uses_fraction=True, choose=_chronological
        ),
        "group": SplitMethod(
            column="groups", column_optional=False, uses_fraction=True, choose=_group
        ),
        "column": SplitMethod(
            column="mask", column_optional=False, uses_fraction=False, choose=_column
        ),
    }
)


def _checked_column(method: str, rows: int, column: SplitColumn | None) -> SplitColumn:
    held = METHODS[method].column
    if column is None:
        if held is None or METHODS[method].column_optional:
            return np.arange(rows)
        raise NumericError(f"split {method} needs a column that holds its {held}")
    if held is None:
        raise NumericError(f"split {method} reads no column")
    if column.shape != (rows,):
        raise ShapeError(f"the {held} of split {method} must be ({rows},), not {column.shape}")
    missing = np.flatnonzero(np.isnan(column))
    if len(missing):
        raise NumericError(f"the {held} of split {method} are missing in row {missing[0]}")
    return column


def _check_fraction(fraction: float) -> None:
    if not 0.0 <= fraction < 1.0:
        raise NumericError(
            f"the validation fraction must be at least 0 and below 1, not {fraction}"
        )


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))
