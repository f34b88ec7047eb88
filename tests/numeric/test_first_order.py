import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike
from sklearn.datasets import load_breast_cancer, load_diabetes

from app.numeric import first_order
from app.numeric.activations import Array
from app.numeric.method import Prepare, Run, Schedule, Settings, State
from app.numeric.objective import Objective
from app.numeric.rows import Rows, rows_of
from app.numeric.updates import UPDATES
from tests.numeric.builders import PAIRS, allowed_targets, in_blocks

SOLVERS: dict[str, Prepare] = {name: getattr(first_order, name) for name in UPDATES}
LOWERING = ["gradient_descent", "momentum", "nesterov"]
SQUARED = ("identity", "half_squared_error")
LOGISTIC = ("sigmoid", "cross_entropy")


def standardised(x: Array) -> Array:
    scaled: Array = (x - x.mean(axis=0)) / x.std(axis=0)
    return scaled


def diabetes() -> Rows:
    x, y = load_diabetes(return_X_y=True)
    return rows_of(standardised(x), standardised(y[:, None]))


def breast_cancer() -> Rows:
    x, y = load_breast_cancer(return_X_y=True)
    return rows_of(standardised(x), y[:, None].astype(float))


def stepped(run: Run, epochs: int, state: State | None = None) -> State:
    *_, last = states(run, epochs, state)
    return last


def states(run: Run, epochs: int, state: State | None = None) -> Iterator[State]:
    """The start and every state after it, until it has converged or after so many epochs."""
    state = run.start if state is None else state
    yield state
    while state.epoch < epochs and not state.converged:
        state = run.step(state)
        yield state


def moves(objective: Objective, name: str, rate: float, k: float) -> Iterator[Array]:
    """P after every step of the textbook, from the start."""
    p, v, s = objective.start(), np.zeros(objective.shape), np.zeros(objective.shape)
    for t in range(1, 1000):
        if name == "adam":
            g = objective.value_and_slope(p)[1]
            v, s = k * v + (1 - k) * g, 0.999 * s + 0.001 * g**2
            p = p - rate * v / (1 - k**t) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        else:
            k = 0.0 if name == "gradient_descent" else k
            g = objective.value_and_slope(p + k * v if name == "nesterov" else p)[1]
            v = k * v - rate * g
            p = p + v
        yield p


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_are_those_of_the_textbook(name: str) -> None:
    objective = Objective(*LOGISTIC, breast_cancer(), l2=0.1)
    run = SOLVERS[name](objective, Settings(learning_rate=0.05, momentum=0.5))

    found = [state.parameters for state in states(run, 8)]

    textbook = moves(objective, name, 0.05, 0.5)
    for p in found[1:]:
        np.testing.assert_allclose(p, next(textbook), rtol=1e-11, atol=1e-13)


def test_heavy_ball_takes_the_steps_that_polyak_wrote() -> None:
    objective = Objective(*SQUARED, diabetes(), l2=0.1)
    run = first_order.momentum(objective, Settings(learning_rate=0.01, momentum=0.5))

    found = [state.parameters for state in states(run, 3)]

    before, at = found[0], found[0]
    for p in found[1:]:
        _, pull = objective.value_and_slope(at)
        before, at = at, at - 0.01 * pull + 0.5 * (at - before)
        np.testing.assert_allclose(p, at, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_long_slope_is_shortened_to_the_norm_asked_for(name: str) -> None:
    objective = Objective(*SQUARED, diabetes())
    _, pull = objective.value_and_slope(objective.start())
    length = float(np.linalg.norm(pull))
    chosen = Settings(learning_rate=0.01, clip_norm=length / 4)

    clipped = SOLVERS[name](objective, chosen)
    whole = SOLVERS[name](objective, chosen._replace(clip_norm=length * 1.001))

    moved, moved_whole = (
        (run.step(run.start).parameters - run.start.parameters)[:, :-1] for run in (clipped, whole)
    )
    expected = moved_whole if name == "adam" else moved_whole / 4
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_schedule_multiplies_the_rate_of_an_epoch(name: str) -> None:
    objective = Objective(*SQUARED, diabetes())
    schedule = Schedule("step", every_epochs=1, factor=0.5)
    run = SOLVERS[name](objective, Settings(learning_rate=0.02, momentum=0.0, schedule=schedule))

    found = [state.parameters for state in states(run, 3)]

    for epoch, (before, after) in enumerate(itertools.pairwise(found)):
        _, pull = objective.value_and_slope(before)
        if name == "adam":
            assert np.abs(after - before).max() <= 1.01 * 0.02 * 0.5**epoch * math.sqrt(epoch + 1)
        else:
            np.testing.assert_allclose(after - before, -0.02 * 0.5**epoch * pull, atol=1e-14)


@pytest.mark.parametrize("name", LOWERING)
@pytest.mark.parametrize(
    "penalty", [{"l2": 0.01}, {"l1": 0.002}, {"l2": 0.01, "l1": 0.01, "non_negative": True}]
)
@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_the_objective_never_rises_with_the_automatic_rate(
    activation: str, cost: str, penalty: dict[str, Any], name: str
) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(60, 4)) * [0.1, 1.0, 3.0, 1.0] + [0.0, 0.0, 5.0, 0.0]
    y = allowed_targets(2, 60, 2, activation, cost)
    objective = Objective(activation, cost, rows_of(x, y), **penalty)

    run = SOLVERS[name](objective, Settings(momentum=0.99))
    costs = np.array([state.cost for state in states(run, 100)])

    assert (np.diff(costs) <= 1e-12 * costs[:-1]).all()
    assert costs[-1] < costs[0]


def test_momentum_needs_fewer_epochs_than_the_plain_step() -> None:
    objective = Objective(*SQUARED, diabetes())

    plain, ball, nesterov = (
        stepped(SOLVERS[name](objective, Settings()), 150).cost for name in LOWERING
    )

    assert ball < plain
    assert nesterov < plain


@pytest.mark.parametrize("name", LOWERING)
def test_a_rate_that_was_given_is_kept_although_the_objective_rises(name: str) -> None:
    objective = Objective(*SQUARED, diabetes())

    run = SOLVERS[name](objective, Settings(learning_rate=50.0))
    costs = [state.cost for state in states(run, 400)]

    assert run.learning_rate == 50.0
    assert costs[1] > costs[0]
    assert not np.isfinite(costs[-1])


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("pair", [SQUARED, ("exp", "half_squared_error")])
def test_inputs_whose_squares_overflow_end_at_a_cost_that_is_not_finite(
    name: str, pair: tuple[str, str]
) -> None:
    x = 1e200 * np.random.default_rng(0).normal(size=(30, 3))

    run = SOLVERS[name](Objective(*pair, rows_of(x, np.abs(x[:, :1]) / 1e200)), Settings())

    assert not np.isfinite(stepped(run, 3).cost)


@pytest.mark.parametrize("name", LOWERING)
@pytest.mark.parametrize("pair", [("exp", "poisson"), ("leaky_relu", "half_squared_error")])
def test_a_curvature_that_was_measured_too_small_is_met_by_halving(
    name: str, pair: tuple[str, str]
) -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=(80, 3)) * [1.0, 30.0, 0.1]
    y = np.exp(np.clip(0.05 * x[:, 1:2], -3, 3))
    objective = Objective(*pair, rows_of(x, y))
    run = SOLVERS[name](objective, Settings())
    far_too_large = 1e6 * run.start.memory[0]

    start = run.start._replace(memory=(far_too_large, *run.start.memory[1:]))
    after = run.step(start)

    assert after.cost < start.cost
    assert after.memory[0] < far_too_large


@pytest.mark.parametrize(("pair", "growth"), [(("exp", "poisson"), 1.1), (SQUARED, 1.0)])
def test_only_a_rate_that_was_measured_grows_again(pair: tuple[str, str], growth: float) -> None:
    random = np.random.default_rng(4)
    rows = rows_of(random.normal(size=(80, 3)), random.random((80, 1)))
    run = first_order.gradient_descent(Objective(*pair, rows), Settings())
    small = run.start.memory[0] if growth == 1.0 else 1e-6 * run.start.memory[0]
    start = run.start._replace(memory=(small, *run.start.memory[1:]))

    after = stepped(run, 10, start)

    assert after.memory[0] == pytest.approx(small * growth**10)


@pytest.mark.parametrize("name", LOWERING)
@pytest.mark.parametrize("non_negative", [False, True])
def test_with_a_penalty_on_sizes_the_velocity_is_how_far_a_step_went(
    name: str, non_negative: bool
) -> None:
    objective = Objective(*SQUARED, diabetes(), l1=0.1, non_negative=non_negative)
    run = SOLVERS[name](objective, Settings(learning_rate=0.02, momentum=0.5))

    found = [state.parameters for state in states(run, 15)]

    p, v = objective.start(), np.zeros(objective.shape)
    k = 0.0 if name == "gradient_descent" else 0.5
    for after in found[1:]:
        slope = objective.value_and_slope(p + k * v if name == "nesterov" else p)[1]
        there = p + k * v - 0.02 * slope
        w = np.sign(there[:, :-1]) * np.maximum(np.abs(there[:, :-1]) - 0.002, 0.0)
        there[:, :-1] = np.maximum(w, 0.0) if non_negative else w
        p, v = there, there - p
        np.testing.assert_allclose(after, p, rtol=1e-10, atol=1e-14)


def test_a_batch_of_all_rows_is_full_batch() -> None:
    objective = Objective(*SQUARED, diabetes())

    whole, large = (
        stepped(first_order.momentum(objective, Settings(batch_size=size)), 5)
        for size in (None, 10_000)
    )

    assert whole.parameters.tobytes() == large.parameters.tobytes()


def restored(state: State) -> State:
    """As from a checkpoint: the same numbers in other arrays."""
    memory = tuple(np.array(array) for array in state.memory)
    return state._replace(parameters=np.array(state.parameters), memory=memory)


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(SOLVERS)),
    pair=st.sampled_from(PAIRS),
    dtype=st.sampled_from([np.float32, np.float64]),
    rate=st.sampled_from([None, 0.01]),
    l1=st.sampled_from([0.0, 0.05]),
    schedule=st.sampled_from([Schedule(), Schedule("cosine", 3)]),
    cut=st.integers(0, 12),
)
def test_resuming_at_any_epoch_gives_the_same_bits_as_never_stopping(
    name: str,
    pair: tuple[str, str],
    dtype: DTypeLike,
    rate: float | None,
    l1: float,
    schedule: Schedule,
    cut: int,
) -> None:
    random = np.random.default_rng(cut)
    y = allowed_targets(1, 41, 2, *pair)
    rows = rows_of(random.normal(size=(41, 3)), y, random.random(41), dtype=dtype)
    chosen = Settings(learning_rate=rate, epochs=12, schedule=schedule, clip_norm=2.0)

    def prepared() -> Run:
        penalty = 0.0 if name == "adam" else l1
        return SOLVERS[name](Objective(*pair, rows, l2=0.1, l1=penalty), chosen)

    found = list(states(prepared(), 12))
    cut = min(cut, len(found) - 1)
    last = stepped(prepared(), 12, restored(found[cut]))

    assert last.parameters.tobytes() == found[-1].parameters.tobytes()
    assert [array.tobytes() for array in last.memory] == [a.tobytes() for a in found[-1].memory]
    assert last[3:5] == found[-1][3:5]


@pytest.mark.parametrize("name", SOLVERS)
def test_a_state_that_was_stepped_from_stays_as_it_was(name: str) -> None:
    x, y = load_diabetes(return_X_y=True)
    before = x.copy(), y.copy()
    run = SOLVERS[name](Objective(*SQUARED, rows_of(x, y[:, None])), Settings())
    found = list(states(run, 3))
    copies = [restored(state) for state in found]

    run.step(found[1])

    assert (x == before[0]).all()
    assert (y == before[1]).all()
    for state, copy in zip(found, copies, strict=True):
        assert state.parameters.tobytes() == copy.parameters.tobytes()
        assert [array.tobytes() for array in state.memory] == [a.tobytes() for a in copy.memory]
    assert not np.any(found[0].parameters[:, :-1])
    assert np.all(found[1].parameters[:, :-1] != found[2].parameters[:, :-1])


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("pair", [LOGISTIC, ("exp", "poisson")])
def test_streamed_rows_give_the_steps_of_rows_in_memory(name: str, pair: tuple[str, str]) -> None:
    rows = breast_cancer()

    held, streamed = (
        stepped(SOLVERS[name](Objective(*pair, source, l2=0.1), Settings()), 20)
        for source in (rows, in_blocks(rows, 64))
    )

    np.testing.assert_allclose(streamed.parameters, held.parameters, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_row_weights_are_repeated_rows(name: str) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 4)), random.normal(size=(50, 2))
    times = random.integers(1, 4, 50)
    repeated = np.repeat(np.arange(50), times)

    weighted, plain = (
        stepped(SOLVERS[name](Objective(*SQUARED, rows), Settings()), 20)
        for rows in (rows_of(x, y, times.astype(float)), rows_of(x[repeated], y[repeated]))
    )

    np.testing.assert_allclose(weighted.parameters, plain.parameters, rtol=1e-8)


def count_passes(objective: Objective, run: Callable[[], object]) -> int:
    passes, blocks = 0, objective.rows.blocks

    def counted() -> Any:
        nonlocal passes
        passes += 1
        return blocks()

    objective.rows = objective.rows._replace(blocks=counted)
    run()
    return passes


@pytest.mark.parametrize(
    ("name", "passes"), [("gradient_descent", 10), ("momentum", 10), ("adam", 10), ("nesterov", 20)]
)
def test_an_epoch_that_is_not_taken_back_reads_the_rows_once_or_twice_if_ahead(
    name: str, passes: int
) -> None:
    objective = Objective(*SQUARED, diabetes())
    run = SOLVERS[name](objective, Settings(learning_rate=0.01))

    assert count_passes(objective, lambda: stepped(run, 10)) == passes
