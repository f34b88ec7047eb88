import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.inversion.attainable import attainable
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Conditions, Question, Status
from app.numeric.inversion.solve import farthest
from app.numeric.layer import Layer, forward
from tests.numeric.builders import random_layer
from tests.numeric.inversion.cases import CHECKED, asking, box_question, random_question
from tests.numeric.inversion.oracles import farthest_by_enumeration
from tests.numeric.inversion.searches import climbed

ELEMENTWISE = sorted(name for name, row in ACTIVATIONS.items() if row.elementwise)
SEEDS = st.integers(0, 2**32 - 1)
SECONDS = 30.0


def random_box(seed: int, inputs: int) -> Question:
    random = np.random.default_rng(seed)
    low = random.normal(size=inputs)
    high = low + random.exponential(size=inputs)
    return box_question(random.normal(size=inputs), low, high)


def corners(question: Question) -> Array:
    ends = np.stack((question.numbers.low, question.numbers.high), axis=1)
    return np.array(list(itertools.product(*ends)))


@CHECKED
@given(seed=SEEDS, activation=st.sampled_from(ELEMENTWISE))
def test_of_a_box_the_ends_are_those_over_all_corners(seed: int, activation: str) -> None:
    question = random_box(seed, 4)
    layer = random_layer(seed, outputs=3, inputs=4, activation=activation)

    found = attainable(layer, question, Clock(SECONDS))

    y = forward(layer, corners(question))
    assert found is not None
    assert all(interval.exact for interval in found)
    np.testing.assert_allclose([one.low for one in found], y.min(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose([one.high for one in found], y.max(axis=0), rtol=1e-12, atol=1e-15)


@CHECKED
@given(seed=SEEDS, conditions=st.booleans())
def test_the_farthest_is_the_farthest_of_all_settings(seed: int, conditions: bool) -> None:
    random = np.random.default_rng(seed)
    question = random_question(
        random, free=2, whole=int(random.integers(0, 3)), choices=int(random.integers(0, 3)), rows=2
    )
    if not conditions:
        nothing = Conditions(np.zeros((0, len(question.x))), np.zeros(0), np.zeros(0))
        question = question._replace(conditions=nothing)
    direction = random.normal(size=len(question.x)) * (random.random(len(question.x)) < 0.8)

    found = farthest(question, direction, Clock(SECONDS))

    expected = farthest_by_enumeration(question, direction)
    if expected is None:
        assert found.status is Status.INFEASIBLE
    else:
        assert found.status in {Status.OPTIMAL, Status.FEASIBLE}
        assert found.x is not None
        assert found.value == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert found.bound >= expected - 1e-6
        assert direction @ found.x == pytest.approx(found.value, rel=1e-12, abs=1e-12)


def test_without_a_limit_in_the_way_there_is_no_farthest() -> None:
    endless = box_question(np.zeros(2), np.array([0.0, -np.inf]), np.full(2, np.inf))
    tied = asking(endless, np.array([1.0, 1.0]), 0.0, 4.0)

    apart = farthest(endless, np.array([1.0, 0.0]), Clock(SECONDS))
    together = farthest(tied, np.array([2.0, 1.0]), Clock(SECONDS))
    held = farthest(tied, np.array([1.0, 1.0]), Clock(SECONDS))

    assert apart.status is together.status is Status.UNBOUNDED
    assert apart.bound == together.bound == np.inf
    assert held.status is Status.OPTIMAL
    assert held.value == pytest.approx(4.0)


def test_an_interval_knows_endless_numbers_and_weights_of_nothing() -> None:
    layer = Layer(np.array([[0.0, 2.0], [-1.0, 1.0]]), np.array([1.0, 0.0]), "sigmoid")
    question = box_question(np.zeros(2), np.array([-np.inf, 0.0]), np.array([np.inf, 1.0]))

    first, second = attainable(layer, question, Clock(SECONDS)) or []

    assert (first.low, first.high) == pytest.approx((special.expit(1.0), special.expit(3.0)))
    assert (second.low, second.high) == (0.0, 1.0)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("outputs", [2, 3])
def test_where_the_conditions_cannot_hold_nothing_is_attainable(
    activation: str, outputs: int
) -> None:
    layer = random_layer(0, outputs=outputs, inputs=2, activation=activation)
    impossible = asking(box_question(np.zeros(2), -np.ones(2), np.ones(2)), np.ones(2), 3.0, 4.0)

    assert attainable(layer, impossible, Clock(SECONDS)) is None


@pytest.mark.parametrize("seed", range(10))
def test_two_probabilities_have_exact_ends(seed: int) -> None:
    question = random_box(seed, 4)
    layer = random_layer(seed, outputs=2, inputs=4, activation="softmax")

    found = attainable(layer, question, Clock(SECONDS))

    y = forward(layer, corners(question))
    assert found is not None
    assert all(interval.exact for interval in found)
    np.testing.assert_allclose([one.low for one in found], y.min(axis=0), rtol=1e-12)
    np.testing.assert_allclose([one.high for one in found], y.max(axis=0), rtol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_no_search_finds_a_probability_outside_its_interval(seed: int, tied: bool) -> None:
    random = np.random.default_rng(seed)
    question = random_box(seed, 3)
    middle = 0.5 * (question.numbers.low + question.numbers.high)
    a = random.normal(size=3)
    if tied:
        question = asking(question, a, float(a @ middle) - 0.1, float(a @ middle) + 0.1)
    layer = random_layer(seed, outputs=4, inputs=3, activation="softmax")
    layer = layer._replace(w=3.0 * layer.w)

    found = attainable(layer, question, Clock(SECONDS))

    x = dense(question, random)
    y = forward(layer, x)
    assert found is not None
    for output, interval in enumerate(found):
        highest = climbed(layer, question, output, x[y[:, output].argmax()])
        assert interval.high == pytest.approx(highest, rel=1e-6)
        assert y[:, output].max() <= interval.high * (1.0 + 1e-9)
        assert interval.low <= y[:, output].min() * (1.0 + 1e-9)
        assert not interval.exact
        if not tied:
            lowest = forward(layer, corners(question))[:, output].min()
            assert interval.low >= lowest * (1.0 - 1e-9)


def dense(question: Question, random: np.random.Generator) -> Array:
    """Many x within the limits and the conditions, the corners of the box among them."""
    numbers, conditions = question.numbers, question.conditions
    inside = numbers.low + (numbers.high - numbers.low) * random.random((20_000, len(numbers.at)))
    x = np.vstack((inside, corners(question)))
    value = x @ conditions.a.T
    held = ((value >= conditions.low) & (value <= conditions.high)).all(axis=1)
    return np.asarray(x[held])


def test_a_probability_falls_to_nothing_where_a_rival_rises_without_end() -> None:
    layer = Layer(np.array([[0.0], [1.0], [0.0]]), np.zeros(3), "softmax")
    question = box_question(np.zeros(1), np.zeros(1), np.full(1, np.inf))

    found = attainable(layer, question, Clock(SECONDS))

    assert found is not None
    assert found[0].low == 0.0
    assert found[0].high == pytest.approx(1.0 / 3.0)
    assert found[1].high == pytest.approx(1.0)


def test_a_clock_that_is_over_claims_nothing() -> None:
    random = np.random.default_rng(0)
    question = random_question(random, free=1, whole=2, choices=1, rows=1)
    layer = random_layer(0, outputs=1, inputs=len(question.x), activation="identity")

    found = attainable(layer, question._replace(changed_max=2), Clock(0.0))

    assert found is not None
    assert (found[0].low, found[0].high, found[0].exact) == (-np.inf, np.inf, False)
