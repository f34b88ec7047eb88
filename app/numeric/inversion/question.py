"""What is asked of an inversion, in the units of the layer, and what is answered.

An input of the model is a *number*, one column of x that may move between limits, or a *choice*,
a block of columns of which exactly one is 1. Every wish about outputs and every constraint is a
*condition*, linear in x:

    low <= a x <= high        Shapes: a (r, n), low and high (r,), infinite where open

The nearest x is sought. What a change costs, per input: of a number, its way up or down times its
cost in that direction; of a choice, the cost of its new level. `nearness` sums these up:

    l1    their sum        l2    the root of the sum of their squares        linf    the largest
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array

NEARNESS = ("l1", "l2", "linf")


class Numbers(NamedTuple):
    """The inputs that are numbers, (p,) each, in units of x.

    `at` is the column of each. Where `spacing` is above 0, only origin + k spacing is allowed for
    whole k. low == high freezes a number. Costs are above 0, per unit of x.
    """

    at: NDArray[np.intp]
    start: Array
    low: Array
    high: Array
    origin: Array
    spacing: Array
    cost_up: Array
    cost_down: Array

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Those of which only multiples of a spacing are allowed."""
        return np.asarray(self.spacing > 0.0)


class Choice(NamedTuple):
    """An input of which one level is chosen; `first` is the column of its level 0.

    `costs` (K,): of choosing each level, 0 at the start and infinite where it is not allowed.
    `start` is -1 for a level that is none of them.
    """

    first: int
    start: int
    costs: Array

    @property
    def allowed(self) -> NDArray[np.intp]:
        """The levels that may be chosen."""
        return np.flatnonzero(np.isfinite(self.costs))


class Conditions(NamedTuple):
    """low <= a x <= high; see the head of this module."""

    a: Array
    low: Array
    high: Array

    def and_these(self, a: Array, low: Array, high: Array) -> "Conditions":
        """These and more."""
        return Conditions(
            np.vstack((self.a, a)), np.append(self.low, low), np.append(self.high, high)
        )


class Curve(NamedTuple):
    """That a concave function of x is at least `low`.

    `at(x)` gives its value and its slope (n,). `room`: by so much it may be more, if another wish
    limits that.
    """

    at: Callable[[Array], tuple[float, Array]]
    low: float
    room: float = np.inf


class Question(NamedTuple):
    """`x` (n,) is the start, as it is encoded; columns of neither a number nor a choice stay."""

    x: Array
    numbers: Numbers
    choices: tuple[Choice, ...]
    conditions: Conditions
    nearness: str = "l2"
    changed_max: int | None = None
    curves: tuple[Curve, ...] = ()

    @property
    def is_continuous(self) -> bool:
        """Whether nothing has to be counted or chosen."""
        return (
            self.changed_max is None
            and not self.numbers.whole.any()
            and all(len(choice.allowed) == 1 for choice in self.choices)
        )


class Status(StrEnum):
    """What is known of an answer.

    OPTIMAL: reached, and nothing nearer does. FEASIBLE: reached; how much nearer is possible at
    most is the gap. INFEASIBLE: proved out of reach. UNBOUNDED: what is to be made large has no
    largest value. TIME_LIMIT: neither found nor excluded in time. STEP_LIMIT: the gradient's steps
    were used up, or it stands still.
    """

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    TIME_LIMIT = "time_limit"
    STEP_LIMIT = "step_limit"


class Prices(NamedTuple):
    """By how much what was minimised falls as a bound gives way by one unit; 0 where it is slack.

    Of the ends of the conditions, (r,) each, and of the limits of the numbers, (p,) each.
    """

    condition_low: Array
    condition_high: Array
    low: Array
    high: Array


class Answer(NamedTuple):
    """An x (n,), None if there is none, with its cost by the nearness of the question.

    No answer costs less than `bound`.
    """

    status: Status
    method: str
    x: Array | None = None
    cost: float = np.inf
    bound: float = 0.0
    prices: Prices | None = None

    @property
    def gap(self) -> float:
        """How much of the cost a better answer could save at most, as a share of it."""
        if self.x is None or self.cost <= self.bound:
            return 0.0
        return (self.cost - self.bound) / self.cost


def costs_of(question: Question, x: Array) -> Array:
    """What each input adds, (p + choices,), to the sum that `total` makes."""
    numbers = question.numbers
    change = x[numbers.at] - numbers.start
    moved = np.where(change > 0.0, numbers.cost_up, numbers.cost_down) * np.abs(change)
    chosen = [choice.costs[level_of(choice, x)] for choice in question.choices]
    return np.append(moved, chosen)


def total(nearness: str, costs: Array) -> float:
    """The costs (..., k) of all inputs as one number."""
    if nearness == "l1":
        return float(costs.sum())
    if nearness == "l2":
        return float(np.sqrt(np.square(costs).sum()))
    return float(costs.max(initial=0.0))


def level_of(choice: Choice, x: Array) -> int:
    """The level whose column is the largest."""
    return int(x[choice.first : choice.first + len(choice.costs)].argmax())


def with_levels(question: Question, levels: list[int]) -> Array:
    """The start with other levels chosen, (n,)."""
    x = question.x.copy()
    for choice, level in zip(question.choices, levels, strict=True):
        x[choice.first : choice.first + len(choice.costs)] = 0.0
        x[choice.first + level] = 1.0
    return x


def settled(question: Question) -> Array:
    """The start (n,) of a question in which each choice has one level left, at that level."""
    return with_levels(question, [int(choice.allowed[0]) for choice in question.choices])


def misses(conditions: Conditions, x: Array) -> Array:
    """By how much each condition is missed, (r,); 0 where it holds."""
    value = conditions.a @ x
    short = np.maximum(conditions.low - value, value - conditions.high)
    missed: Array = np.maximum(short, 0.0)
    return missed
