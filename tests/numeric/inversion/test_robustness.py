import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.numeric.activations import Array
from app.numeric.inversion import mixed
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Conditions, misses
from app.numeric.inversion.robustness import robustness, tightened
from app.numeric.inversion.wishes import ClassWish, Wish, wanted_of
from app.numeric.layer import Layer, forward
from tests.numeric.builders import random_layer
from tests.numeric.inversion.cases import CHECKED, box_question

SEEDS = st.integers(0, 2**32 - 1)


def signs(count: int) -> Array:
    """Every choice of signs."""
    return np.array(np.meshgrid(*[[-1.0, 1.0]] * count)).reshape(count, -1).T


def around(seed: int) -> tuple[Conditions, Array]:
    """Intervals about an x, of which some are open."""
    random = np.random.default_rng(seed)
    a, x = random.normal(size=(3, 5)), random.normal(size=5)
    below, above = random.exponential(size=(2, 3))
    above[random.random(3) < 0.5] = np.inf
    return Conditions(a, a @ x - below, a @ x + above), x


@CHECKED
@given(seed=SEEDS)
def test_at_the_told_rounding_every_choice_of_signs_holds_and_beyond_it_one_does_not(
    seed: int,
) -> None:
    conditions, x = around(seed)
    numbers = np.array([0, 2, 3])

    rounding = robustness(conditions, x, numbers, np.ones(3)).input_rounding

    off = np.zeros((8, 5))
    off[:, numbers] = rounding * signs(3)
    assert all((misses(conditions, x + one) <= 1e-12).all() for one in off)
    assert any((misses(conditions, x + 1.001 * one) > 0.0).any() for one in off)


@CHECKED
@given(seed=SEEDS, activation=st.sampled_from(["sigmoid", "tanh", "identity", "softplus"]))
def test_weights_may_be_off_by_the_told_norm_and_no_more(seed: int, activation: str) -> None:
    random = np.random.default_rng(seed)
    layer = random_layer(seed, outputs=2, inputs=3, activation=activation)
    x = random.normal(size=3)
    y = forward(layer, x[None])[0]
    room = 0.05 * np.abs(y)
    wishes = wanted_of(layer, [Wish(k, y[k] - room[k], y[k] + room[k]) for k in range(2)])

    change = robustness(wishes.conditions, x, np.arange(3), np.ones(2)).weight_change

    worst = np.append(x, 1.0) / np.linalg.norm(np.append(x, 1.0))
    broken = []
    for size in (0.999, 1.001):
        off = [size * change * sign * worst for sign in (-1.0, 1.0)]
        ys = [
            forward(Layer(layer.w + d[:-1], layer.b + d[-1], activation), x[None])[0] for d in off
        ]
        broken.append(any((np.abs(one - y) > room).any() for one in ys))
    assert broken == [False, True]
    for _ in range(20):
        off_by = random.normal(size=(2, 4))
        off_by *= 0.999 * change / np.linalg.norm(off_by)
        moved = Layer(layer.w + off_by[:, :3], layer.b + off_by[:, 3], activation)
        assert (np.abs(forward(moved, x[None])[0] - y) <= room).all()


def test_a_class_is_lost_where_two_rows_of_weights_are_off_against_each_other() -> None:
    layer = random_layer(0, outputs=3, inputs=3, activation="softmax")
    x = np.array([0.4, -1.0, 2.0])
    winner = int(forward(layer, x[None])[0].argmax())
    wishes = wanted_of(layer, [ClassWish(winner)]).conditions

    change = robustness(wishes, x, np.arange(3), np.full(2, 2.0)).weight_change

    z = layer.w @ x + layer.b
    rival = int(np.argsort(z)[-2])
    worst = np.append(x, 1.0) / np.linalg.norm(np.append(x, 1.0)) / np.sqrt(2.0)
    kept = []
    for size in (0.99, 1.01):
        off = np.zeros((3, 4))
        off[winner], off[rival] = -size * change * worst, size * change * worst
        moved = Layer(layer.w + off[:, :3], layer.b + off[:, 3], "softmax")
        assert np.linalg.norm(off) == pytest.approx(size * change)
        kept.append(int(forward(moved, x[None])[0].argmax()) == winner)
    assert kept == [True, False]


def test_what_no_number_moves_and_no_wish_reads_is_robust_without_end() -> None:
    conditions = Conditions(np.array([[0.0, 1.0]]), np.array([0.0]), np.array([2.0]))
    nothing = Conditions(np.zeros((0, 2)), np.zeros(0), np.zeros(0))

    held = robustness(conditions, np.ones(2), np.array([0]), np.ones(1))
    none = robustness(nothing, np.ones(2), np.arange(2), np.zeros(0))

    assert held.input_rounding == np.inf
    assert held.weight_change == pytest.approx(1.0 / np.sqrt(3.0))
    assert none == (np.inf, np.inf)


def test_a_wish_that_is_missed_has_no_room() -> None:
    conditions = Conditions(np.ones((1, 2)), np.array([5.0]), np.array([6.0]))

    assert robustness(conditions, np.ones(2), np.arange(2), np.ones(1)) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(10))
def test_the_nearest_x_of_tightened_wishes_is_as_robust_as_was_asked(seed: int) -> None:
    conditions, x = around(seed)
    question = box_question(x + 1.0, x - 9.0, x + 9.0)
    epsilon = 0.3 * robustness(conditions, x, np.arange(5), np.ones(3)).input_rounding

    tight = tightened(conditions, np.arange(5), epsilon)
    answer = mixed.nearest(question._replace(conditions=tight), Clock(30.0))

    assert answer.x is not None
    told = robustness(conditions, answer.x, np.arange(5), np.ones(3)).input_rounding
    assert told >= epsilon * (1.0 - 1e-9)
    assert told == pytest.approx(epsilon, rel=1e-6) or answer.cost == 0.0
