"""Many questions at once that share one condition: the nearest change by l2, in closed form.

    minimise the sum of (cost d)^2   subject to   low <= a d <= high,   d_low <= d <= d_high

Shapes: a (p,); low and high (T,); d, d_low and d_high (T, p); costs (p,).
As the multiplier grows, each d moves along its line from one limit to the other, so a d is a rising
function made of straight pieces: its sorted breakpoints give the multiplier, or a few of Newton's
steps where every d starts within its limits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.inversion.question import Conditions, Question, settled

# A condition counts as met when it is missed by no more than this share of its terms.
REACHED = 1e-10
TINY = float(np.finfo(np.float64).tiny)


class ManyFound(NamedTuple):
    """d (T, p), and which questions have an answer (T,); of the others d goes as far as it can."""

    d: Array
    reached: NDArray[np.bool_]


def nearest_of_each(
    questions: Sequence[Question], wishes: Sequence[Conditions]
) -> list[Array | None]:
    """The nearest x (n,) of each question, None where there is none.

    For questions of nearness l2 that are continuous and differ in start, limits and the ends of
    their one wish only; they have no other conditions.
    """
    numbers = questions[0].numbers
    a = wishes[0].a[0]
    x = np.array([settled(question) for question in questions])
    start = x[:, numbers.at].copy()
    x[:, numbers.at] = 0.0
    fixed = x @ a + start @ a[numbers.at]
    low = np.array([question.numbers.low for question in questions])
    high = np.array([question.numbers.high for question in questions])
    found = nearest_to_one(
        a[numbers.at],
        np.array([wish.low[0] for wish in wishes]) - fixed,
        np.array([wish.high[0] for wish in wishes]) - fixed,
        low - start,
        high - start,
        numbers.cost_up,
        numbers.cost_down,
    )
    x[:, numbers.at] = np.clip(start + found.d, low, high)
    # With limits at both ends of rounding, a sum can fall short of what its last digits promise.
    value = x @ a
    size = 1.0 + np.abs(x) @ np.abs(a)
    miss = np.maximum(
        np.array([wish.low[0] for wish in wishes]) - value,
        value - np.array([wish.high[0] for wish in wishes]),
    )
    reached = found.reached & (miss <= REACHED * size)
    return [one if met else None for one, met in zip(x, reached, strict=True)]


def nearest_to_one(
    a: Array, low: Array, high: Array, d_low: Array, d_high: Array, cost_up: Array, cost_down: Array
) -> ManyFound:
    """The nearest change of each question."""
    still = np.clip(0.0, d_low, d_high)
    value = still @ a
    upwards = value < low
    need = np.where(upwards, low - value, np.maximum(value - high, 0.0))
    d, reached = still.copy(), need == 0.0
    for rows, way in ((upwards, a), (~upwards & ~reached, -a)):
        speed = way / np.square(np.where(way > 0.0, cost_up, cost_down))
        places = np.flatnonzero(rows)
        total = float(way @ speed)
        free = (need[places] * (1.0 / total if total > TINY else 0.0))[:, None] * speed
        # Where the way starts at 0 and meets no limit, that is all.
        inside = ((free >= d_low[places]) & (free <= d_high[places])).all(axis=1)
        inside &= (total > TINY) & ~still[places].any(axis=1)
        d[places[inside]] = free[inside]
        reached[places[inside]] = True
        rest = places[~inside]
        d[rest], reached[rest] = _limited(way, speed, need[rest], d_low[rest], d_high[rest])
    return ManyFound(d, reached)


def _limited(
    way: Array, speed: Array, need: Array, d_low: Array, d_high: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """d = clip(multiplier speed) with way d by `need` (T,) more than at the clipped 0."""
    rises = speed > 0.0
    # On its way d leaves a limit behind at the first multiplier and meets the other at the second.
    near = np.where(rises, np.maximum(d_low, 0.0), np.minimum(d_high, 0.0))
    far = np.where(rises, np.maximum(d_high, 0.0), np.minimum(d_low, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(speed == 0.0, np.inf, near / speed)
        second = np.where(speed == 0.0, np.inf, far / speed)
    slope = way * speed
    multiplier, reached = np.empty(len(need)), np.empty(len(need), bool)
    at_0 = ~near.any(axis=1)
    multiplier[at_0], reached[at_0] = by_newton(second[at_0], slope, need[at_0])
    rest = ~at_0
    multiplier[rest], reached[rest] = by_sorting(first[rest], second[rest], slope, need[rest])
    with np.errstate(invalid="ignore"):
        d = np.clip(np.where(speed == 0.0, 0.0, multiplier[:, None] * speed), d_low, d_high)
    # Sums of ramps that cancel are rounded: once more, from what does not move any more.
    moving = (first < multiplier[:, None]) & (multiplier[:, None] < second)
    left = need + np.clip(0.0, d_low, d_high) @ way - np.where(moving, 0.0, d) @ way
    total = moving @ slope
    sharper = reached & (total > TINY)
    again = np.where(sharper, left / np.where(sharper, total, 1.0), 0.0)[:, None] * speed
    d = np.where(moving & sharper[:, None], np.clip(again, d_low, d_high), d)
    return d, reached


def by_newton(second: Array, slope: Array, need: Array) -> tuple[Array, NDArray[np.bool_]]:
    """As by_sorting, for ramps that all start at 0, by Newton's steps.

    Their sum is concave, so every step comes from below and passes the end of another ramp, or was
    the last.
    """
    multiplier = np.zeros(len(need))
    ended = np.full(len(need), -1)
    ends_at = slope * np.where(np.isinf(second), 0.0, second)
    at = np.arange(len(need))
    while len(at):
        over = second[at] < multiplier[at, None]
        count = over.sum(axis=1)
        moved = count > ended[at]
        at, over = at[moved], over[moved]
        ended[at] = count[moved]
        rise = ~over @ slope
        missing = need[at] - np.where(over, ends_at[at], 0.0).sum(axis=1)
        there = np.divide(missing, rise, out=np.full(len(at), np.inf), where=rise > 0.0)
        multiplier[at] = np.maximum(multiplier[at], there)
    return multiplier, np.isfinite(multiplier)


def by_sorting(
    first: Array, second: Array, slope: Array, need: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Where a sum of ramps comes to `need` (T,), and whether it ever does (T,).

    Each ramp rises from `first` to `second` (T, p), by `slope` (p,), none of which is negative.
    """
    slope = np.broadcast_to(slope, first.shape)
    places = np.concatenate((first, second), axis=1)
    turns = np.concatenate((slope, -slope), axis=1)
    turns[np.isinf(places)] = 0.0
    order = np.argsort(places, axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    slopes = np.cumsum(np.take_along_axis(turns, order, axis=1), axis=1)
    # What rounding leaves of a slope after the last ramp is none.
    slopes[slopes < 1e-14 * slopes.max(axis=1, initial=0.0)[:, None]] = 0.0
    finite = np.where(np.isinf(places), 0.0, places)
    steps = np.diff(finite, axis=1, prepend=0.0)
    steps[np.isinf(places)] = np.inf
    with np.errstate(invalid="ignore"):
        gained = np.hstack((np.zeros((len(need), 1)), slopes[:, :-1])) * steps
    gained[np.isnan(gained)] = 0.0
    heights = np.cumsum(gained, axis=1)
    # The last breakpoint that is not above what is needed, and from there along the slope.
    index = np.maximum((heights < need[:, None]).sum(axis=1) - 1, 0)
    rows = np.arange(len(need))
    slope_there, height = slopes[rows, index], heights[rows, index]
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = (need - height) / slope_there
    reached = slope_there > 0.0
    return np.where(reached, finite[rows, index] + beyond, np.inf), reached
