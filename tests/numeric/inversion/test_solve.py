import itertools

import numpy as np
import pytest

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.inversion import solve
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import (
    NEARNESS,
    Answer,
    Question,
    Status,
    costs_of,
)
from app.numeric.inversion.wishes import ClassWish, Wanted, Wish, wanted_of
from app.numeric.layer import Layer, forward
from tests.numeric.builders import random_layer
from tests.numeric.inversion.cases import box_question, random_question
from tests.numeric.inversion.oracles import nearest_by_enumeration, settings_of
from tests.numeric.inversion.searches import sequential_quadratic
from tests.numeric.inversion.sweeps import moves_in
from tests.numeric.inversion.test_mixed import assert_kept

SECONDS = 30.0


def output_of(layer: Layer, x: Array) -> Array:
    y: Array = forward(layer, x[None])[0]
    return y


def kinds_question(random: np.random.Generator) -> Question:
    """Continuous numbers, multiples and choices, and no conditions of their own."""
    return random_question(random, free=2, whole=1, choices=1, rows=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("nearness", NEARNESS)
def test_the_nearest_x_gives_what_was_wanted_and_none_is_nearer(
    activation: str, nearness: str
) -> None:
    random = np.random.default_rng(0)
    solved = 0
    for seed in range(20):
        question = kinds_question(random)._replace(nearness=nearness)
        layer = random_layer(seed, outputs=2, inputs=len(question.x), activation=activation)
        y = output_of(layer, question.x + 0.5 * random.normal(size=len(question.x)))
        wishes = [Wish(0, y[0] - 0.1, y[0] + 0.1), Wish(1, -np.inf, y[1] + 0.2)]
        wanted = wanted_of(layer, wishes[: 1 + seed % 2])

        answer = solve.nearest(layer, question, wanted, Clock(SECONDS))

        least = nearest_by_enumeration(question._replace(conditions=wanted.conditions))
        assert (answer.x is None) is (least is None)
        if answer.x is None:
            assert answer.status is Status.INFEASIBLE
            continue
        found = output_of(layer, answer.x)
        assert_kept(question, answer.x)
        assert abs(found[0] - y[0]) <= 0.1 + 1e-9
        assert seed % 2 == 0 or found[1] <= y[1] + 0.2 + 1e-9
        assert answer.cost == pytest.approx(least, rel=1e-6, abs=1e-8)
        solved += 1

    assert solved >= 3


def curved_case(seed: int) -> tuple[Layer, Question, Array]:
    """Three or four probabilities over a box, at its start and at an x within."""
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 7))
    layer = random_layer(seed, outputs=3 + seed % 2, inputs=n, activation="softmax")
    layer = layer._replace(w=2.0 * layer.w)
    start = random.normal(size=n)
    low, high = start - 2.0 * random.random(n), start + 2.0 * random.random(n)
    y = output_of(layer, random.uniform(low, high))
    return layer, box_question(start, low, high), y


@pytest.mark.parametrize("seed", range(20))
def test_a_probability_of_at_least_so_much_is_reached_as_near_as_can_be(seed: int) -> None:
    layer, question, y = curved_case(seed)
    output = int(y.argmax())
    wanted = wanted_of(layer, [Wish(output, y[output], np.inf), Wish(1 - output // 2, 0.01, 1.0)])

    answer = solve.nearest(layer, question, wanted, Clock(SECONDS))

    assert answer.x is not None
    assert answer.status is Status.OPTIMAL
    assert output_of(layer, answer.x)[output] >= y[output] - 1e-9
    random = np.random.default_rng(seed)
    for _ in range(4):
        start = random.uniform(question.numbers.low, question.numbers.high) - question.x
        d = sequential_quadratic(
            moves_in(question, wanted.conditions),
            start,
            layer=layer,
            at=question.x,
            curved=wanted.curved,
        )
        if d is not None:
            assert answer.cost <= np.linalg.norm(d) * (1.0 + 1e-6) + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_a_probability_of_at_most_so_much_is_reached_and_claimed_no_more_than_that(
    seed: int,
) -> None:
    layer, question, y = curved_case(seed)
    output = int(y.argmin())
    if output_of(layer, question.x)[output] <= y[output]:
        y[output] = 0.5 * output_of(layer, question.x)[output]
    wanted = wanted_of(layer, [Wish(output, -np.inf, y[output])])

    answer = solve.nearest(layer, question, wanted, Clock(SECONDS))

    assert answer.status in {Status.FEASIBLE, Status.TIME_LIMIT}
    if answer.x is not None:
        assert output_of(layer, answer.x)[output] <= y[output] + 1e-9
        assert 0.0 <= answer.bound <= answer.cost


def test_nearly_every_probability_that_can_be_given_is_found() -> None:
    given_up = 0
    for seed in range(40):
        layer, question, y = curved_case(seed)
        wanted = wanted_of(layer, [Wish(0, y[0], y[0])])

        answer = solve.nearest(layer, question, wanted, Clock(SECONDS))

        assert answer.status in {Status.OPTIMAL, Status.FEASIBLE, Status.TIME_LIMIT}
        if answer.x is None:
            given_up += 1
        else:
            assert output_of(layer, answer.x)[0] == pytest.approx(y[0], abs=1e-9)

    assert given_up <= 2


def test_a_probability_that_no_x_reaches_is_excluded() -> None:
    layer = random_layer(0, outputs=3, inputs=2, activation="softmax")
    question = box_question(np.zeros(2), -np.ones(2), np.ones(2))
    corners = forward(layer, np.array(list(itertools.product((-1.0, 1.0), repeat=2))))
    # The highest probability of a box need not be at a corner: well above all of them it is none.
    beyond = 0.5 * (1.0 + corners[:, 1].max())

    answer = solve.nearest(layer, question, wanted_of(layer, [Wish(1, beyond, 1.0)]), Clock(9.0))

    assert answer.status is Status.INFEASIBLE
    assert answer.x is None


@pytest.mark.parametrize("seed", range(10))
def test_a_class_with_its_probability_over_levels_and_multiples(seed: int) -> None:
    random = np.random.default_rng(seed)
    question = kinds_question(random)._replace(changed_max=None)
    layer = random_layer(seed, outputs=3, inputs=len(question.x), activation="softmax")
    winner = seed % 3
    wanted = wanted_of(layer, [ClassWish(winner, probability=0.4)])

    answer = solve.nearest(layer, question, wanted, Clock(SECONDS))

    reached = [output_of(layer, fixed.x) for fixed in settings_of(question)]
    if answer.x is None:
        assert answer.status is Status.INFEASIBLE
        assert all(y.argmax() != winner or y[winner] < 0.4 for y in reached)
    else:
        y = output_of(layer, answer.x)
        assert answer.status in {Status.OPTIMAL, Status.FEASIBLE}
        assert y.argmax() == winner
        assert y[winner] >= 0.4 - 1e-9
        assert_kept(question, answer.x)


def alternatives_of(
    seed: int, nearness: str, count: int
) -> tuple[Layer, Question, Wanted, list[Answer]]:
    random = np.random.default_rng(seed)
    question = random_question(random, free=3, whole=1, choices=1, rows=0)
    question = question._replace(nearness=nearness, changed_max=None)
    layer = random_layer(seed, outputs=1, inputs=len(question.x), activation="sigmoid")
    y = output_of(layer, question.x)[0]
    wanted = wanted_of(layer, [Wish(0, y + 0.05, 1.0)])
    clock = Clock(SECONDS)
    first = solve.nearest(layer, question, wanted, clock)
    if first.x is None:
        return layer, question, wanted, []
    return (
        layer,
        question,
        wanted,
        solve.alternatives(layer, question, wanted, first, count, clock),
    )


@pytest.mark.parametrize("nearness", NEARNESS)
@pytest.mark.parametrize("seed", range(12))
def test_alternatives_are_the_optimum_and_then_others_by_cost_that_differ_in_what_they_change(
    seed: int, nearness: str
) -> None:
    layer, question, wanted, found = alternatives_of(seed, nearness, 4)
    if not found:
        return

    costs = [answer.cost for answer in found]
    changed = [changes(question, answer) for answer in found]
    least = nearest_by_enumeration(question._replace(conditions=wanted.conditions))
    assert costs[0] == pytest.approx(least, rel=1e-6, abs=1e-8)
    assert (np.diff(costs) >= -1e-6).all()
    assert len(found) <= 4
    for before, after in itertools.combinations(changed, 2):
        assert not before <= after
    for answer in found:
        assert answer.x is not None
        assert_kept(question, answer.x)
        assert output_of(layer, answer.x)[0] >= output_of(layer, question.x)[0] + 0.05 - 1e-9


def changes(question: Question, answer: Answer) -> frozenset[int]:
    assert answer.x is not None
    return frozenset(np.flatnonzero(costs_of(question, answer.x) > 1e-9).tolist())


def test_three_numbers_of_which_each_suffices_are_three_alternatives() -> None:
    question = box_question(np.zeros(3), -9.0 * np.ones(3), 9.0 * np.ones(3), "l1")
    layer = Layer(np.array([[3.0, 2.0, 1.0]]), np.zeros(1), "identity")
    wanted = wanted_of(layer, [Wish(0, 6.0, np.inf)])
    clock = Clock(SECONDS)
    first = solve.nearest(layer, question, wanted, clock)

    found = solve.alternatives(layer, question, wanted, first, 9, clock)
    one = solve.alternatives(layer, question, wanted, first, 1, clock)

    assert [answer.cost for answer in found] == pytest.approx([2.0, 3.0, 6.0])
    assert [changes(question, answer) for answer in found] == [{0}, {1}, {2}]
    assert one == [first]


def test_where_nothing_has_to_change_there_is_no_alternative() -> None:
    question = box_question(np.zeros(2), -np.ones(2), np.ones(2))
    layer = Layer(np.ones((1, 2)), np.zeros(1), "identity")
    wanted = wanted_of(layer, [Wish(0, -1.0, 1.0)])
    first = solve.nearest(layer, question, wanted, Clock(SECONDS))

    found = solve.alternatives(layer, question, wanted, first, 3, Clock(SECONDS))

    assert found == [first]
    assert first.cost == 0.0


def test_what_may_not_stay_as_it_is_changes_in_every_alternative() -> None:
    question = box_question(
        np.array([2.0, 0.0, 0.0]), np.array([-1.0, -9.0, -9.0]), np.array([1.0, 9.0, 9.0])
    )
    layer = Layer(np.array([[0.0, 1.0, 2.0]]), np.zeros(1), "identity")
    wanted = wanted_of(layer, [Wish(0, 4.0, np.inf)])
    first = solve.nearest(layer, question, wanted, Clock(SECONDS))

    found = solve.alternatives(layer, question, wanted, first, 5, Clock(SECONDS))

    for answer in found:
        assert answer.x is not None
        assert -1.0 <= answer.x[0] <= 1.0
    assert len(found) >= 2


def test_a_clock_that_is_over_says_so() -> None:
    layer, question, y = curved_case(0)
    wanted = wanted_of(layer, [Wish(0, y[0], np.inf)])
    counted = question._replace(changed_max=1)

    answer = solve.nearest(layer, counted, wanted, Clock(0.0))

    assert answer.status is Status.TIME_LIMIT
    assert answer.x is None
