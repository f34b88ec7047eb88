"""Statistics of one column (N,), nan where a cell is missing.

A column can be as large as what is left of memory, so it is read slice by slice, several times
over, and nothing here grows with it but what `most_frequent` gathers.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.rows import DataArray

SLICE_ROWS = 1 << 16
# Into so many portions of its values a column is cut at most, to count one portion at a time.
PORTIONS = 16

DIGIT_BITS = 16
SIGN_BIT = 1 << 63
ALL_BITS = (1 << 64) - 1


class ColumnStatistics(NamedTuple):
    """Of the cells that are present; `missing` counts the others. `deviation` divides by N."""

    missing: int
    minimum: float
    maximum: float
    mean: float
    deviation: float


def slices(rows: int) -> Iterator[slice]:
    """Consecutive slices of at most SLICE_ROWS that cover all rows."""
    for start in range(0, rows, SLICE_ROWS):
        yield slice(start, min(start + SLICE_ROWS, rows))


def present(values: DataArray) -> Iterator[Array]:
    """The cells that are not missing, a slice at a time, none of them empty."""
    for rows in slices(len(values)):
        part = np.asarray(values[rows], dtype=np.float64)
        missing = np.isnan(part)
        if missing.any():
            part = part[~missing]
        if part.size:
            yield part


def statistics(values: DataArray, *, of: str) -> ColumnStatistics:
    """The statistics of a column (N,); `of` is what an error calls it: `input cement`.

    Raises NumericError if no cell is present or one is infinite.
    """
    count, minimum, maximum = 0, math.inf, -math.inf
    for part in present(values):
        count += part.size
        minimum, maximum = min(minimum, float(part.min())), max(maximum, float(part.max()))
    if not count:
        raise NumericError(f"{of} has no value at all")
    if math.isinf(minimum) or math.isinf(maximum):
        raise NumericError(f"{of} has a value that is not a finite number")
    mean, deviation = _mean_and_deviation(values, count, minimum, maximum)
    return ColumnStatistics(len(values) - count, minimum, maximum, mean, deviation)


def _mean_and_deviation(
    values: DataArray, count: int, minimum: float, maximum: float
) -> tuple[float, float]:
    """Mean and population standard deviation, in two passes: right also far from zero.

    Brought near 1 by a power of two first, which is exact, so that no square overflows or vanishes.
    Held within what they must lie in (Popoviciu 1935: the deviation is at most half the range), so
    that rounding takes no mean past a constant; 0 only for a constant.
    """
    exponent = math.frexp(max(-minimum, maximum))[1]
    low, high = math.ldexp(minimum, -exponent), math.ldexp(maximum, -exponent)
    total = math.fsum(float(np.ldexp(part, -exponent).sum()) for part in present(values))
    mean = min(max(total / count, low), high)
    squares = math.fsum(
        float(np.square(np.ldexp(part, -exponent) - mean).sum()) for part in present(values)
    )
    deviation = math.ldexp(min(math.sqrt(squares / count), (high - low) / 2.0), exponent)
    if minimum < maximum:
        deviation = max(deviation, math.ulp(0.0))
    return math.ldexp(mean, exponent), deviation


def median(values: DataArray) -> float:
    """The middle of the cells that are present, the mean of the two middle ones if they are even.

    There must be one, and none may be infinite.
    """
    count = sum(part.size for part in present(values))
    low = order_statistic(values, (count - 1) // 2)
    high = low if count % 2 else order_statistic(values, count // 2)
    middle = (low + high) / 2.0
    return middle if math.isfinite(middle) else low / 2.0 + high / 2.0


def order_statistic(values: DataArray, rank: int) -> float:
    """The cell at place `rank` (from 0) of those that are present, in ascending order.

    By radix selection: each of four passes counts the next 16 bits of the cells that agree with
    the answer so far.
    """
    key = 0
    for shift in range(64 - DIGIT_BITS, -1, -DIGIT_BITS):
        counts = np.zeros(1 << DIGIT_BITS, dtype=np.intp)
        for part in present(values):
            keys = _keys(part)
            if key:
                keys = keys[keys >> (shift + DIGIT_BITS) == key]
            digits = (keys >> shift) & ((1 << DIGIT_BITS) - 1)
            counts += np.bincount(digits.astype(np.intp), minlength=len(counts))
        up_to = counts.cumsum()
        digit = int(np.searchsorted(up_to, rank, side="right"))
        rank -= int(up_to[digit] - counts[digit])
        key = key << DIGIT_BITS | digit
    bits = key ^ SIGN_BIT if key & SIGN_BIT else key ^ ALL_BITS
    return float(np.uint64(bits).view(np.float64))


def _keys(part: Array) -> NDArray[np.uint64]:
    """Whole numbers in the order of the numbers, -0 below 0; none is below 2^48."""
    bits = part.view(np.uint64)
    return np.where(bits >> 63 == 1, ~bits, bits | SIGN_BIT)


def most_frequent(values: DataArray) -> float:
    """The value that is there most often, the smallest of equals.

    Counts one portion of the values after the other, in ascending order, so that it never holds
    more than the larger of a slice and a sixteenth of the column. One cell at least must be
    present, and none may be infinite.
    """
    count = sum(part.size for part in present(values))
    portion = max(SLICE_ROWS, -(-count // PORTIONS))
    best, times, done, low = math.nan, 0, 0, -math.inf
    while done < count:
        high = order_statistic(values, min(done + portion, count) - 1)
        for value, found in _counted(values, low, high):
            if found > times:
                best, times = value, found
        low, done = high, sum(int((part <= high).sum()) for part in present(values))
    return best


def _counted(values: DataArray, low: float, high: float) -> tuple[tuple[float, int], ...]:
    """The most frequent value strictly between the two and how often it is there; then `high`."""
    between = [part[(part > low) & (part < high)] for part in present(values)]
    at_high = sum(int((part == high).sum()) for part in present(values))
    levels, counts = np.unique(np.concatenate(between), return_counts=True)
    if not levels.size:
        return ((high, at_high),)
    first = counts.argmax()
    return (float(levels[first]), int(counts[first])), (high, at_high)
