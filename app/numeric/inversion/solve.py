"""The exact way back: the nearest x that fulfils wishes, or the proof that none does.

A probability of softmax is curved. That it is at least so much leaves a convex region, which
`mixed` meets exactly. That it is at most so much does not: there, the tangent at the last x is
stricter than the wish, so what it leads to is an answer, and perhaps not the nearest.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from app.numeric.activations import Array
from app.numeric.inversion import mixed
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Answer, Conditions, Curve, Question, Status, costs_of
from app.numeric.inversion.wishes import LogOdds, Wanted, log_odds
from app.numeric.layer import Layer

TANGENTS_MAX = 60
# Log-odds may miss what is wanted by this share of their value.
LOG_ODDS_REACHED = 2e-9
# An input that costs less than this has not changed.
CHANGED = 1e-9
# A number that is this near to a multiple, in steps, is one.
WHOLE = 1e-9


class Extreme(NamedTuple):
    """The largest value of direction x, a bound on it, and the x (n,), None if there is none."""

    status: Status
    value: float
    bound: float
    x: Array | None


def nearest(layer: Layer, question: Question, wanted: Wanted, clock: Clock) -> Answer:
    """The nearest x within the question's conditions that has what is wanted."""
    asked = question._replace(conditions=question.conditions.and_these(*wanted.conditions))
    answer = mixed.nearest(_curving(layer, asked, wanted.curved), clock)
    if answer.x is None or _holds(layer, wanted.curved, answer.x):
        return answer
    return _capped(layer, asked, wanted.curved, answer, clock)


def _curving(layer: Layer, question: Question, curved: Sequence[LogOdds]) -> Question:
    """The question with the lower ends of log-odds as its curves."""
    curves = tuple(
        Curve(partial(log_odds, layer, output=wish.output), wish.low, wish.high - wish.low)
        for wish in curved
        if wish.low > -np.inf
    )
    return question._replace(curves=curves)


def _holds(layer: Layer, curved: Sequence[LogOdds], x: Array) -> bool:
    """Whether all log-odds lie between their ends."""
    for wish in curved:
        value, _ = log_odds(layer, x, wish.output)
        near = LOG_ODDS_REACHED * (1.0 + abs(value))
        if not wish.low - near <= value <= wish.high + near:
            return False
    return True


def _capped(
    layer: Layer, question: Question, curved: Sequence[LogOdds], relaxed: Answer, clock: Clock
) -> Answer:
    """An answer whose log-odds are at most so much, as near as tangents lead.

    `relaxed` is the nearest without these upper ends: no answer costs less. From its x, and where
    that leads nowhere from where another output alone outweighs the one that is to be small. The
    lower end of what is capped is not asked for: a tangent and it would leave nothing between, and
    ever nearer answers end at the cap.
    """
    capped = [wish for wish in curved if wish.high < np.inf]
    asked = _curving(layer, question, [wish for wish in curved if wish not in capped])
    best: Answer | None = None
    for first in _first_caps(layer, capped, relaxed.x):
        caps, cost = first, np.inf
        for _ in range(TANGENTS_MAX):
            within = asked._replace(conditions=asked.conditions.and_these(*caps))
            found = mixed.nearest(within, clock)
            if found.x is None:
                break
            if _holds(layer, curved, found.x) and (best is None or found.cost < best.cost):
                best = found
            if found.cost >= cost * (1.0 - LOG_ODDS_REACHED) and best is not None:
                break
            caps, cost = _caps_at(layer, capped, found.x), found.cost
        if best is not None or not clock.seconds:
            break
    if best is None:
        return Answer(Status.TIME_LIMIT, relaxed.method)
    return best._replace(status=Status.FEASIBLE, bound=min(relaxed.bound, best.cost))


def _caps_at(layer: Layer, capped: Sequence[LogOdds], x: Array) -> Conditions:
    """Tangents at x, (c, n): a concave function is nowhere above them."""
    points = [log_odds(layer, x, wish.output) for wish in capped]
    a = np.array([slope for _, slope in points])
    value = np.array([value for value, _ in points])
    high = np.array([wish.high for wish in capped]) - value + a @ x
    return Conditions(a, np.full(len(capped), -np.inf), high)


def _first_caps(layer: Layer, capped: Sequence[LogOdds], x: Array | None) -> Iterator[Conditions]:
    if x is not None:
        yield _caps_at(layer, capped, x)
    for other in range(len(layer.b)):
        wishes = [wish for wish in capped if wish.output != other]
        if len(wishes) == len(capped):
            outputs = [wish.output for wish in wishes]
            high = np.array([wish.high for wish in wishes])
            high -= layer.b[outputs] - layer.b[other]
            yield Conditions(layer.w[outputs] - layer.w[other], np.full(len(wishes), -np.inf), high)


def alternatives(
    layer: Layer, question: Question, wanted: Wanted, first: Answer, count: int, clock: Clock
) -> list[Answer]:
    """Up to `count` answers from the first, none of which changes all that one before it does.

    Each node of the search keeps a set of inputs still; its children keep one more of those that
    its answer changed (Reiter 1987, hitting sets). The nearest node that is left comes next.
    """
    answers: list[Answer] = []
    tried: set[frozenset[int]] = {frozenset()}
    queue: list[tuple[float, int, frozenset[int], Answer]] = [(first.cost, 0, frozenset(), first)]
    number = 0
    while queue and len(answers) < count:
        _, _, kept, answer = heappop(queue)
        changed = _changed(question, answer)
        if all(not seen <= changed for seen in (_changed(question, a) for a in answers)):
            answers.append(answer)
        for place in sorted(changed):
            still = kept | {place}
            if still in tried or not clock.seconds or not _may_stay(question, place):
                continue
            tried.add(still)
            next_answer = nearest(layer, _keeping(question, still), wanted, clock)
            if next_answer.x is not None:
                number += 1
                heappush(queue, (next_answer.cost, number, still, next_answer))
    return answers


def _changed(question: Question, answer: Answer) -> frozenset[int]:
    if answer.x is None:
        return frozenset()
    return frozenset(np.flatnonzero(costs_of(question, answer.x) > CHANGED).tolist())


def _may_stay(question: Question, place: int) -> bool:
    """Whether the input at a place in `costs_of` may be left as it starts."""
    numbers = question.numbers
    if place >= len(numbers.at):
        choice = question.choices[place - len(numbers.at)]
        return choice.start < 0 or bool(np.isfinite(choice.costs[choice.start]))
    start, spacing = numbers.start[place], numbers.spacing[place]
    if not numbers.low[place] <= start <= numbers.high[place]:
        return False
    steps = (start - numbers.origin[place]) / spacing if spacing else 0.0
    return bool(abs(steps - round(steps)) <= WHOLE)


def _keeping(question: Question, still: frozenset[int]) -> Question:
    """The question with some inputs at their start, by their place in `costs_of`."""
    numbers = question.numbers
    p = len(numbers.at)
    places = np.array([place for place in still if place < p], dtype=np.intp)
    low, high = numbers.low.copy(), numbers.high.copy()
    low[places] = high[places] = numbers.start[places]
    spacing = numbers.spacing.copy()
    spacing[places] = 0.0
    choices = list(question.choices)
    for place in still:
        if place >= p and choices[place - p].start >= 0:
            choice = choices[place - p]
            costs = np.full(len(choice.costs), np.inf)
            costs[choice.start] = 0.0
            choices[place - p] = choice._replace(costs=costs)
    kept = numbers._replace(low=low, high=high, spacing=spacing)
    return question._replace(numbers=kept, choices=tuple(choices))


def farthest(question: Question, direction: Array, clock: Clock) -> Extreme:
    """The x of the question with the largest direction x; the direction is (n,)."""
    if not len(question.conditions.low) and question.changed_max is None:
        return _farthest_apart(question, direction)
    solved = mixed.extreme(question, direction, clock)
    if solved.values is None:
        status = Status.INFEASIBLE if solved.excluded else Status.TIME_LIMIT
        status = Status.UNBOUNDED if solved.unbounded else status
        return Extreme(status, np.inf if solved.unbounded else -np.inf, np.inf, None)
    value = float(direction @ solved.values)
    proved = solved.bound - value <= 1e-9 * (1.0 + abs(value))
    return Extreme(
        Status.OPTIMAL if proved else Status.FEASIBLE, value, solved.bound, solved.values
    )


def _farthest_apart(question: Question, direction: Array) -> Extreme:
    """Where nothing ties the inputs together, each goes as far as it can."""
    numbers = question.numbers
    x = question.x.copy()
    slope = direction[numbers.at]
    low, high = numbers.low.copy(), numbers.high.copy()
    whole = numbers.whole
    if whole.any():
        origin, spacing = numbers.origin[whole], numbers.spacing[whole]
        first = np.ceil((low[whole] - origin) / spacing - 1e-9)
        last = np.floor((high[whole] - origin) / spacing + 1e-9)
        if (first > last).any():
            return Extreme(Status.INFEASIBLE, -np.inf, np.inf, None)
        low[whole], high[whole] = origin + first * spacing, origin + last * spacing
    end = np.where(slope > 0.0, high, low)
    x[numbers.at] = np.where(slope == 0.0, np.clip(numbers.start, low, high), end)
    for choice in question.choices:
        columns = slice(choice.first, choice.first + len(choice.costs))
        values = np.where(np.isfinite(choice.costs), direction[columns], -np.inf)
        if not len(choice.allowed):
            return Extreme(Status.INFEASIBLE, -np.inf, np.inf, None)
        best = int(values.argmax())
        if 0 <= choice.start < len(values) and values[choice.start] == values[best]:
            best = choice.start
        x[columns] = 0.0
        x[choice.first + best] = 1.0
    if np.isinf(x).any():
        return Extreme(Status.UNBOUNDED, np.inf, np.inf, None)
    value = float(direction @ x)
    return Extreme(Status.OPTIMAL, value, value, x)
