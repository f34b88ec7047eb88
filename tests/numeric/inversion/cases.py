"""Random questions of every kind that the tests of the inversion share."""

import numpy as np
from hypothesis import settings

from app.numeric.activations import Array
from app.numeric.inversion.continuous import Moves
from app.numeric.inversion.question import Choice, Conditions, Numbers, Question

CHECKED = settings(max_examples=100)


def random_moves(random: np.random.Generator, numbers: int, rows: int) -> Moves:
    """Frozen and unlimited numbers, costs by direction, equations, rows that depend, in any unit.

    About one in three asks for more than the limits allow.
    """
    a = random.normal(size=(rows, numbers))
    kind = random.integers(5)
    if rows > 1 and kind == 0:
        a[-1] = 2.0 * a[0]
    if rows > 2 and kind == 1:
        a[-1] = a[0] - a[1]
    if kind == 2:
        a[-1] = 0.0
    low, high = -random.exponential(2.0, numbers), random.exponential(2.0, numbers)
    low[random.random(numbers) < 0.2] = 0.0
    high[random.random(numbers) < 0.2] = 0.0
    if random.random() < 0.3:
        low[random.random(numbers) < 0.7] = -np.inf
    if random.random() < 0.3:
        high[random.random(numbers) < 0.7] = np.inf
    inside = np.clip(random.normal(size=numbers), low, high)
    frozen = random.random(numbers) < 0.1
    low[frozen] = high[frozen] = inside[frozen]
    value = a @ inside
    room = np.abs(value) * random.choice([0.0, 0.0, 0.1, 1.0], size=rows)
    further = np.abs(value) * 2.0 * (random.random() < 0.3)
    least, most = value - room + further, value + room + further
    most[random.random(rows) < 0.3] = np.inf
    least[random.random(rows) < 0.2] = -np.inf
    unit = 10.0 ** random.uniform(-3.0, 3.0, rows)
    cost_up = 10.0 ** random.uniform(-1.0, 1.0, numbers)
    other = 10.0 ** random.uniform(-1.0, 1.0, numbers)
    cost_down = np.where(random.random(numbers) < 0.5, cost_up, other)
    return Moves(a * unit[:, None], least * unit, most * unit, low, high, cost_up, cost_down)


def random_question(
    random: np.random.Generator, *, free: int, whole: int, choices: int, rows: int
) -> Question:
    """A question with so many continuous numbers, multiples, choices and conditions.

    Starts lie on and off the multiples, now and then beside the limits or at no known level.
    """
    p = free + whole
    counts = random.integers(2, 4, size=choices).tolist()
    start = random.normal(size=p)
    x = np.concatenate((start, np.zeros(sum(counts)), random.normal(size=1)))
    chosen, first = [], p
    for count in counts:
        chosen.append(_random_choice(random, first, count))
        if chosen[-1].start >= 0:
            x[first + chosen[-1].start] = 1.0
        first += count
    room = random.uniform(0.3, 2.0)
    low, high = start - room * random.random(p), start + room * random.random(p)
    beside = random.random(p) < 0.1
    low[beside] += 1.5 * room
    high[beside] += 1.5 * room
    costs = 10.0 ** random.uniform(-0.5, 0.5, size=(2, p))
    numbers = Numbers(
        at=np.arange(p),
        start=start,
        low=low,
        high=high,
        origin=np.where(random.random(p) < 0.5, start, random.normal(size=p)),
        spacing=np.append(np.zeros(free), random.uniform(0.3, 1.0, whole)),
        cost_up=costs[0],
        cost_down=np.where(random.random(p) < 0.5, costs[0], costs[1]),
    )
    a = random.normal(size=(rows, len(x)))
    least = a @ x + random.normal(size=rows)
    most = np.where(random.random(rows) < 0.5, np.inf, least + random.exponential(1.0, rows))
    changed_max = None if random.random() < 0.5 else int(random.integers(0, p + choices + 1))
    conditions = Conditions(a, least, most)
    return Question(x, numbers, tuple(chosen), conditions, changed_max=changed_max)


def _random_choice(random: np.random.Generator, first: int, count: int) -> Choice:
    start = int(random.integers(count))
    costs = 10.0 ** random.uniform(-1.0, 0.5, count)
    costs[start] = 0.0
    kind = random.random()
    if kind < 0.3:
        costs[int(random.integers(count))] = np.inf
    if kind > 0.9:
        return Choice(first, -1, costs + 0.1)
    return Choice(first, start, costs)


def box_question(start: Array, low: Array, high: Array, nearness: str = "l2") -> Question:
    """A question of numbers alone, each at a cost of 1."""
    n = len(start)
    numbers = Numbers(
        np.arange(n), start, low, high, np.zeros(n), np.zeros(n), np.ones(n), np.ones(n)
    )
    nothing = Conditions(np.zeros((0, n)), np.zeros(0), np.zeros(0))
    return Question(start.copy(), numbers, (), nothing, nearness)


def asking(question: Question, a: Array, low: float, high: float) -> Question:
    """The question with one more condition."""
    more = question.conditions.and_these(a[None], np.array([low]), np.array([high]))
    return question._replace(conditions=more)
