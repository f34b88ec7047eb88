"""Random layers with random questions, and what must be true of every answer."""

from typing import NamedTuple

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.errors import OutOfRange
from app.numeric.inversion import solve
from app.numeric.inversion.continuous import Moves
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import (
    NEARNESS,
    Answer,
    Conditions,
    Numbers,
    Question,
    Status,
    costs_of,
    total,
)
from app.numeric.inversion.wishes import ClassWish, Wanted, Wish, wanted_of
from app.numeric.layer import Layer, forward, pre_activation
from tests.numeric.inversion.oracles import can_hold, least_cost
from tests.numeric.inversion.searches import odds_at, sequential_quadratic

ALL = tuple(ACTIVATIONS)
SECONDS = 30.0
Wishes = list[Wish | ClassWish]


class Case(NamedTuple):
    layer: Layer
    question: Question
    wishes: Wishes


def random_case(random: np.random.Generator) -> Case:
    """m 1 to 4, n 1 to 12, every activation and kind of limits, starts that are saturated."""
    activation = ALL[random.integers(len(ALL))]
    m = int(random.integers(2 if activation == "softmax" else 1, 5))
    n = int(random.integers(1, 13))
    w = random.normal(size=(m, n)) * 10.0 ** random.uniform(-1.0, 0.7)
    w[:, random.random(n) < 0.05] = 0.0
    if m > 1 and random.random() < 0.1:
        w[-1] = 2.0 * w[0]
    start = random.normal(size=n)
    b = random.normal(size=m)
    if random.random() < 0.15:
        b = random.uniform(-300.0, 300.0, m) - w @ start
    layer = Layer(w, b, activation)
    question = _random_box(random, start)
    return Case(layer, question, _random_wishes(random, layer, question))


def _random_box(random: np.random.Generator, start: Array) -> Question:
    n = len(start)
    low, high = start - random.exponential(2.0, n), start + random.exponential(2.0, n)
    low[random.random(n) < 0.2] = -np.inf
    high[random.random(n) < 0.2] = np.inf
    beside = random.random(n) < 0.05
    low[beside], high[beside] = start[beside] + 0.5, start[beside] + 1.5
    frozen = random.random(n) < random.choice([0.0, 0.2, 0.5])
    low[frozen] = high[frozen] = start[frozen]
    cost_up = 10.0 ** random.uniform(-1.0, 1.0, n)
    other = 10.0 ** random.uniform(-1.0, 1.0, n)
    cost_down = np.where(random.random(n) < 0.5, cost_up, other)
    zeros = np.zeros(n)
    numbers = Numbers(np.arange(n), start, low, high, zeros, zeros, cost_up, cost_down)
    nearness = NEARNESS[random.choice(3, p=[0.2, 0.6, 0.2])]
    nothing = Conditions(np.zeros((0, n)), zeros[:0], zeros[:0])
    return Question(start.copy(), numbers, (), nothing, nearness)


def _random_wishes(random: np.random.Generator, layer: Layer, question: Question) -> Wishes:
    m = len(layer.b)
    told = layer.activation == "softmax" or (layer.activation == "sigmoid" and m == 1)
    if told and random.random() < 0.3:
        winner = int(random.integers(max(m, 2)))
        margin = float(random.choice([0.0, 0.5]))
        return [ClassWish(winner, margin, None if random.random() < 0.5 else random.random())]
    numbers = question.numbers
    spread = random.choice([0.1, 1.0, 3.0])
    inside = np.clip(question.x + spread * random.normal(size=len(question.x)), *numbers[2:4])
    z = pre_activation(layer, inside[None])[0]
    far = random.choice([0.0, 0.0, 1.0, 5.0])
    with np.errstate(over="ignore"):
        y = ACTIVATIONS[layer.activation].forward(z + far * random.normal(size=m))
    outputs = random.permutation(m)[: int(random.integers(1, m + 1))].tolist()
    if layer.activation == "softmax" and m > 2 and len(outputs) < m:
        outputs = outputs[:1]
    wishes: Wishes = []
    for output in outputs:
        room = random.choice([0.0, 0.01, 0.5]) * random.random() * max(abs(float(y[output])), 1e-3)
        low, high = float(y[output]) - room, float(y[output]) + room
        end = random.random()
        if end < 0.25 and not (layer.activation == "softmax" and m > 2 and len(outputs) > 1):
            low, high = (low, np.inf) if end < 0.125 else (-np.inf, high)
        wishes.append(Wish(output, low, high))
    return wishes


def assert_right(case: Case, *, search: bool, random: np.random.Generator) -> Status | None:
    """What the answer claims is true; None where the wish was refused, and rightly."""
    layer, question, wishes = case
    try:
        wanted = wanted_of(layer, wishes)
    except OutOfRange as refused:
        assert_refused(layer, wishes, refused)
        return None
    answer = solve.nearest(layer, question, wanted, Clock(SECONDS))
    if answer.x is not None:
        # Of what is linear, rounding leaves nothing unproved.
        assert answer.status is Status.OPTIMAL or wanted.curved
        assert answer.status in {Status.OPTIMAL, Status.FEASIBLE}
        assert_met(case, answer)
        if search:
            assert_nearest(case, wanted, answer, random)
    elif answer.status is Status.INFEASIBLE:
        assert_excluded(case, wanted, random)
    else:
        # Only what is curved is given up: the wrong way, or with its highest point as the wish.
        assert answer.status is Status.TIME_LIMIT
        assert wanted.curved
    return answer.status


def assert_refused(layer: Layer, wishes: Wishes, refused: OutOfRange) -> None:
    allowed = ACTIVATIONS[layer.activation].output_range
    (wish,) = [one for one in wishes if isinstance(one, Wish) and one.output == refused.output]
    assert wish.low >= allowed.high or wish.high <= allowed.low


def assert_met(case: Case, answer: Answer) -> None:
    layer, question, wishes = case
    numbers, x = question.numbers, answer.x
    assert x is not None
    assert np.isfinite(x).all()
    assert np.isfinite([answer.cost, answer.bound]).all()
    assert (x >= numbers.low).all()
    assert (x <= numbers.high).all()
    assert answer.cost == total(question.nearness, costs_of(question, x))
    assert 0.0 <= answer.bound <= answer.cost
    y = forward(layer, x[None])[0]
    z = pre_activation(layer, x[None])[0]
    for wish in wishes:
        if isinstance(wish, Wish):
            size = 1e-9 * max(1.0, abs(float(y[wish.output])))
            assert wish.low - size <= y[wish.output] <= wish.high + size
        elif len(y) == 1:
            chance = float(y[0]) if wish.winner else 1.0 - float(y[0])
            assert chance >= (wish.probability or 0.0) - 1e-9
            assert chance > 0.5 or abs(z[0]) > 37.0
        else:
            lead = z[wish.winner] - np.delete(z, wish.winner).max()
            assert lead >= wish.margin - 1e-9 * (1.0 + np.abs(z).max())
            assert y.argmax() == wish.winner
            assert y[wish.winner] >= (wish.probability or 0.0) - 1e-9
    prices = answer.prices
    assert prices is not None
    assert all(np.isfinite(price).all() for price in prices)


def moves_in(question: Question, conditions: Conditions) -> Moves:
    numbers = question.numbers
    value = conditions.a @ question.x
    return Moves(
        conditions.a,
        conditions.low - value,
        conditions.high - value,
        numbers.low - numbers.start,
        numbers.high - numbers.start,
        numbers.cost_up,
        numbers.cost_down,
    )


def assert_excluded(case: Case, wanted: Wanted, random: np.random.Generator) -> None:
    """A linear program finds nothing with a hair to spare; of what is curved, no search does."""
    layer, question, _ = case
    moves = moves_in(question, wanted.conditions)
    size = 1.0 + float(np.abs(layer.w @ question.x + layer.b).max())
    if not can_hold(moves, hair=1e-9 * size):
        return
    floors = [wish for wish in wanted.curved if wish.low > -np.inf]
    assert floors
    for _ in range(3):
        d = sequential_quadratic(
            moves,
            random.normal(size=len(question.x)),
            layer=layer,
            at=question.x,
            curved=[wish._replace(low=wish.low + 1e-6) for wish in floors],
        )
        assert d is None or any(
            odds_at(layer, question.x + d, wish.output) < wish.low + 1e-9 for wish in floors
        )


def assert_nearest(case: Case, wanted: Wanted, answer: Answer, random: np.random.Generator) -> None:
    """No linear program (l1, linf) and no search (l2) comes nearer."""
    layer, question, _ = case
    if answer.status is not Status.OPTIMAL:
        return
    moves = moves_in(question, wanted.conditions)
    if question.nearness != "l2":
        least = least_cost(moves, question.nearness)
        assert least is not None
        if not wanted.curved:
            assert answer.cost <= least * (1.0 + 1e-6) + 1e-7
        return
    assert answer.x is not None
    starts = [answer.x - question.x, np.zeros(len(question.x)), random.normal(size=len(question.x))]
    for index, start in enumerate(starts):
        d = sequential_quadratic(
            moves,
            start,
            layer=layer,
            at=question.x,
            curved=wanted.curved,
            method="trust-constr" if index == 2 and not wanted.curved else "SLSQP",
        )
        if d is not None:
            cost = total("l2", np.where(d > 0.0, moves.cost_up, moves.cost_down) * np.abs(d))
            assert answer.cost <= cost * (1.0 + 1e-6) + 1e-6
