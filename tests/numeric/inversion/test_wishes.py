import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.errors import OutOfRange
from app.numeric.inversion.question import Conditions, misses
from app.numeric.inversion.wishes import (
    LEAD_MIN,
    ClassWish,
    Wish,
    log_odds,
    wanted_of,
    z_interval,
)
from app.numeric.layer import Layer, forward
from tests.numeric.builders import random_layer
from tests.numeric.inversion.cases import CHECKED

ELEMENTWISE = sorted(name for name, row in ACTIVATIONS.items() if row.elementwise)
ENDS = {
    "identity": (-2.0, 3.0),
    "sigmoid": (0.1, 0.999),
    "tanh": (-0.9, 0.5),
    "softplus": (1e-3, 40.0),
    "relu": (0.5, 2.0),
    "leaky_relu": (-0.02, 2.0),
    "elu": (-0.99, 2.0),
    "exp": (1e-6, 1e6),
}


@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_the_ends_of_z_give_the_ends_of_y(activation: str) -> None:
    sigma = ACTIVATIONS[activation]
    low, high = ENDS[activation]

    z = np.array(z_interval(sigma, 0, low, high))

    np.testing.assert_allclose(sigma.forward(z), (low, high), rtol=1e-14)


@CHECKED
@given(
    activation=st.sampled_from(ELEMENTWISE),
    z=st.tuples(*[st.floats(-30.0, 30.0)] * 2),
    at=st.floats(-40.0, 40.0),
)
def test_y_lies_in_the_interval_where_z_does_and_nowhere_else(
    activation: str, z: tuple[float, float], at: float
) -> None:
    sigma = ACTIVATIONS[activation]
    ends = sigma.forward(np.sort(z))
    if not sigma.output_range.contains(ends).all():
        return

    z_low, z_high = z_interval(sigma, 0, *ends)

    y = float(sigma.forward(np.array([at]))[0])
    hair = 1e-9 * (1.0 + abs(at))
    if z_low + hair <= at <= z_high - hair:
        assert ends[0] * (1 - 1e-12) - 1e-15 <= y + 1e-12 * abs(y)
        assert y <= ends[1] + 1e-12 * abs(ends[1]) + 1e-15
    if y < ends[0]:
        assert at < z_low + hair
    if y > ends[1]:
        assert at > z_high - hair


@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_an_interval_that_is_open_or_wider_than_the_range_leaves_z_open(activation: str) -> None:
    sigma = ACTIVATIONS[activation]
    allowed = sigma.output_range

    assert z_interval(sigma, 0, -np.inf, np.inf) == (-np.inf, np.inf)
    assert z_interval(sigma, 0, allowed.low, allowed.high) == (-np.inf, np.inf)
    assert z_interval(sigma, 0, allowed.low - 1.0, ENDS[activation][1])[0] == -np.inf


def test_relu_gives_nothing_for_every_z_up_to_0() -> None:
    relu = ACTIVATIONS["relu"]

    assert z_interval(relu, 0, 0.0, 0.0) == (-np.inf, 0.0)
    assert z_interval(relu, 0, -1.0, 2.0) == (-np.inf, 2.0)
    assert z_interval(relu, 0, 0.0, np.inf) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [
        ("sigmoid", 1.0, 1.0),
        ("sigmoid", 0.0, 0.0),
        ("sigmoid", 1.5, np.inf),
        ("sigmoid", -np.inf, -0.1),
        ("tanh", 1.0, 2.0),
        ("tanh", -2.0, -1.0),
        ("softplus", -1.0, 0.0),
        ("exp", 0.0, 0.0),
        ("elu", -np.inf, -1.0),
        ("relu", -2.0, -1.0),
        ("identity", np.inf, np.inf),
    ],
)
def test_what_the_activation_never_gives_is_refused_with_its_range(
    activation: str, low: float, high: float
) -> None:
    layer = random_layer(0, outputs=2, inputs=2, activation=activation)
    allowed = ACTIVATIONS[activation].output_range

    with pytest.raises(OutOfRange) as caught:
        wanted_of(layer, [Wish(1, low, high)])

    assert (caught.value.output, caught.value.low, caught.value.high) == (
        1,
        allowed.low,
        allowed.high,
    )


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.0, 0.0), (1.2, 2.0), (-1.0, -0.5)])
@pytest.mark.parametrize("outputs", [2, 3])
def test_a_probability_beyond_0_and_1_is_refused(low: float, high: float, outputs: int) -> None:
    layer = random_layer(0, outputs=outputs, inputs=2, activation="softmax")

    with pytest.raises(OutOfRange):
        wanted_of(layer, [Wish(0, low, high)])


def met(conditions: Conditions, x: Array) -> bool:
    return bool((misses(conditions, x) <= 1e-9 * (1.0 + np.abs(conditions.a) @ np.abs(x))).all())


@CHECKED
@given(seed=st.integers(0, 2**32 - 1), activation=st.sampled_from([*ELEMENTWISE, "softmax"]))
def test_the_conditions_hold_where_the_outputs_are_as_wanted(seed: int, activation: str) -> None:
    random = np.random.default_rng(seed)
    layer = random_layer(seed, outputs=2, inputs=3, activation=activation)
    here, there = random.normal(size=(2, 3))
    y, other = forward(layer, np.stack((here, there)))
    room = 1e-3 * np.abs(y)

    wanted = wanted_of(layer, [Wish(k, y[k] - room[k], y[k] + room[k], 2.0) for k in range(2)])

    assert wanted.curved == ()
    assert wanted.weights.tolist() == [2.0, 2.0]
    assert met(wanted.conditions, here)
    # What lies beside its interval by more than a hair may not pass.
    if (np.abs(other - y) > 1.001 * room + 1e-12).any():
        assert not met(wanted.conditions, there)


def test_all_probabilities_given_are_equations_and_one_less() -> None:
    layer = random_layer(0, outputs=3, inputs=2, activation="softmax")
    x = np.array([0.3, -0.7])
    y = forward(layer, x[None])[0]

    wanted = wanted_of(layer, [Wish(k, y[k], y[k]) for k in (2, 0, 1)])

    assert wanted.conditions.a.shape == (2, 2)
    np.testing.assert_array_equal(wanted.conditions.low, wanted.conditions.high)
    np.testing.assert_allclose(wanted.conditions.a @ x, wanted.conditions.low, rtol=1e-12)


@pytest.mark.parametrize("given", [(0.5, 0.6, 0.2), (0.2, 0.2, 0.2), (0.7, 0.7)])
def test_probabilities_that_do_not_sum_to_1_hold_for_no_x(given: tuple[float, ...]) -> None:
    layer = random_layer(0, outputs=len(given), inputs=2, activation="softmax")

    conditions = wanted_of(layer, [Wish(k, y, y) for k, y in enumerate(given)]).conditions

    assert not optimize.linprog(
        np.zeros(2),
        np.vstack((conditions.a, -conditions.a)),
        np.append(np.minimum(conditions.high, 1e20), -conditions.low),
        bounds=(None, None),
    ).success


def test_of_three_probabilities_one_is_curved_and_of_two_none() -> None:
    three = random_layer(0, outputs=3, inputs=2, activation="softmax")
    two = random_layer(0, outputs=2, inputs=2, activation="softmax")

    curved = wanted_of(three, [Wish(1, 0.25, np.inf)])
    straight = wanted_of(two, [Wish(1, 0.25, np.inf)])

    assert len(curved.conditions.low) == 0
    assert curved.curved[0].output == 1
    assert curved.curved[0].low == pytest.approx(special.logit(0.25))
    assert curved.curved[0].high == np.inf
    assert straight.curved == ()
    np.testing.assert_allclose(straight.conditions.a[0], two.w[1] - two.w[0])


def test_the_slope_of_the_log_odds_agrees_with_central_differences() -> None:
    layer = random_layer(3, outputs=4, inputs=5, activation="softmax")
    x = np.random.default_rng(0).normal(size=5)

    value, slope = log_odds(layer, x, 2)

    y = forward(layer, x[None])[0, 2]
    around = [
        (log_odds(layer, x + d, 2)[0] - log_odds(layer, x - d, 2)[0]) / 2e-5
        for d in 1e-5 * np.eye(5)
    ]
    assert value == pytest.approx(np.log(y) - np.log1p(-y), rel=1e-12)
    np.testing.assert_allclose(slope, around, rtol=1e-8)


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("outputs", [2, 4])
def test_a_class_wins_by_its_margin_where_its_conditions_hold(outputs: int, margin: float) -> None:
    layer = random_layer(1, outputs=outputs, inputs=3, activation="softmax")
    wanted = wanted_of(layer, [ClassWish(1, margin)])

    at_zero = np.delete(layer.b[1] - layer.b, 1)
    np.testing.assert_allclose(wanted.conditions.low + at_zero, max(margin, LEAD_MIN), rtol=1e-9)
    for x in np.random.default_rng(0).normal(size=(200, 3)) * 3.0:
        z = layer.w @ x + layer.b
        lead = z[1] - np.delete(z, 1).max()
        assert met(wanted.conditions, x) is bool(lead >= max(margin, LEAD_MIN) - 1e-9)


@pytest.mark.parametrize("probability", [None, 0.3, 0.8])
@pytest.mark.parametrize("winner", [0, 1])
def test_one_output_tells_two_classes(winner: int, probability: float | None) -> None:
    layer = random_layer(1, outputs=1, inputs=3, activation="sigmoid")
    wanted = wanted_of(layer, [ClassWish(winner, probability=probability)])
    needed = max(probability or 0.0, 0.5)

    for x in np.random.default_rng(0).normal(size=(200, 3)) * 3.0:
        y = float(forward(layer, x[None])[0, 0])
        chance = y if winner else 1.0 - y
        if abs(chance - needed) > 1e-5:
            assert met(wanted.conditions, x) is bool(chance > needed)


def test_a_class_above_its_own_threshold_needs_no_half() -> None:
    layer = Layer(np.ones((1, 1)), np.zeros(1), "identity")

    second = wanted_of(layer, [ClassWish(1, threshold=-2.0, margin=0.25)])
    first = wanted_of(layer, [ClassWish(0, threshold=-2.0, margin=0.25)])

    assert second.conditions.low.tolist() == [-1.75]
    assert second.conditions.high.tolist() == [np.inf]
    assert first.conditions.high.tolist() == [-2.25]


def test_an_interval_is_kept_a_hair_inside_so_that_rounding_does_not_leave_it() -> None:
    layer = Layer(np.ones((1, 1)), np.zeros(1), "identity")

    wide = wanted_of(layer, [Wish(0, 2.0, 3.0)]).conditions
    narrow = wanted_of(layer, [Wish(0, 2.0, 2.0 + 1e-13)]).conditions
    point = wanted_of(layer, [Wish(0, 2.0, 2.0)]).conditions

    assert 2.0 < wide.low[0] < 2.0 + 1e-9
    assert 3.0 - 1e-9 < wide.high[0] < 3.0
    assert 2.0 <= narrow.low[0] == narrow.high[0] <= 2.0 + 1e-13
    assert (point.low[0], point.high[0]) == (2.0, 2.0)
