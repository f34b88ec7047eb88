from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso, LinearRegression

from app.numeric import first_order, mini_batch
from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.method import Prepare, Run, Schedule, Settings, State
from app.numeric.objective import Objective
from app.numeric.rows import rows_of
from app.numeric.updates import UPDATES
from tests.numeric.builders import PAIRS, allowed_targets, in_blocks

Order = NDArray[np.intp]
SOLVERS: dict[str, Prepare] = {name: getattr(first_order, name) for name in UPDATES}


def standardised(x: Array) -> Array:
    scaled: Array = (x - x.mean(axis=0)) / x.std(axis=0)
    return scaled


def diabetes() -> tuple[Array, Array]:
    x, y = load_diabetes(return_X_y=True)
    return standardised(x), standardised(y[:, None])


def least_squares(x: Array, y: Array, **options: Any) -> Objective:
    return Objective("identity", "half_squared_error", rows_of(x, y), **options)


def stepped(run: Run, epochs: int) -> State:
    state = run.start
    while state.epoch < epochs:
        state = run.step(state)
    return state


def weights(state: State) -> Array:
    return state.parameters[:, :-1]


def order_of(seed: int, epoch: int, rows: int) -> Order:
    """The documented order of an epoch, counted from 1."""
    bits = np.random.Philox(np.random.SeedSequence([seed, epoch]))
    return np.random.Generator(bits).permutation(rows)


@pytest.mark.parametrize("batch_size", [1, 32, 441])
def test_mini_batches_of_the_same_seed_give_the_same_bits(batch_size: int) -> None:
    objective = least_squares(*diabetes())
    chosen = Settings(batch_size=batch_size, seed=7)

    first, second, other = (
        stepped(SOLVERS["momentum"](objective, chosen._replace(seed=seed)), 3).parameters
        for seed in (7, 7, 8)
    )

    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("name", ["gradient_descent", "momentum", "nesterov"])
@pytest.mark.parametrize("batch_size", [1, 10, 100])
def test_mini_batches_with_the_automatic_rate_come_near_the_minimum(
    name: str, batch_size: int
) -> None:
    x, y = diabetes()

    last = stepped(SOLVERS[name](least_squares(x, y), Settings(batch_size=batch_size)), 60)

    best = (1.0 - LinearRegression().fit(x, y).score(x, y)) / 2.0
    assert last.cost <= 1.1 * best


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_adam_with_the_automatic_rate_comes_near_the_minimum_in_any_unit(scale: float) -> None:
    x, y = diabetes()
    y = scale * y
    chosen = Settings(batch_size=16, epochs=100, schedule=Schedule("cosine"))

    last = stepped(SOLVERS["adam"](least_squares(x, y), chosen), 100)

    best = (
        scale**2 * (1.0 - LinearRegression().fit(x, standardised(y)).score(x, standardised(y))) / 2
    )
    assert last.cost <= 1.01 * best


def test_a_last_batch_of_one_far_row_does_not_throw_descent_off() -> None:
    """At the rate of a batch of 100 this row alone would be overshot a hundredfold."""
    random = np.random.default_rng(0)
    x = random.normal(size=(101, 3))
    x[0] *= 1000.0
    y = x @ [[1.0], [2.0], [3.0]]
    run = SOLVERS["gradient_descent"](least_squares(x, y), Settings(batch_size=100, seed=0))
    assert any(order_of(0, epoch + 1, 101)[-1] == 0 for epoch in range(300))

    state, costs = run.start, []
    while state.epoch < 300:
        state = run.step(state)
        costs.append(state.cost)

    assert max(costs) <= run.start.cost
    np.testing.assert_array_less(np.diff(costs), 1e-9 * run.start.cost)


@pytest.mark.parametrize("name", ["gradient_descent", "momentum", "nesterov"])
@pytest.mark.parametrize("non_negative", [False, True])
def test_with_a_penalty_on_sizes_batches_come_near_the_minimum_of_scikit_learn(
    name: str, non_negative: bool
) -> None:
    x, y = diabetes()
    objective = least_squares(x, y, l1=0.1, non_negative=non_negative)
    chosen = Settings(batch_size=32, epochs=100, schedule=Schedule("cosine"))

    last = stepped(SOLVERS[name](objective, chosen), 100)

    best = Lasso(alpha=0.1, positive=non_negative, tol=1e-12).fit(x, y[:, 0])
    parameters = np.append(best.coef_, best.intercept_)[None]
    assert last.cost <= objective.value(parameters) * (1 + 1e-4)


@pytest.mark.parametrize("non_negative", [False, True])
def test_a_strong_penalty_sets_weights_to_zero_exactly(non_negative: bool) -> None:
    x, y = diabetes()
    objective = least_squares(x, y, l1=0.4, non_negative=non_negative)

    last = stepped(SOLVERS["momentum"](objective, Settings(batch_size=100)), 100)

    zeros = Lasso(alpha=0.4, positive=non_negative).fit(x, y[:, 0]).coef_ == 0.0
    assert 0 < zeros.sum() < 10
    assert (weights(last)[0, zeros] == 0.0).mean() > 0.5
    assert (weights(last)[0, ~zeros] != 0.0).all()


def restored(state: State) -> State:
    """As from a checkpoint: the same numbers in other arrays."""
    memory = tuple(np.array(array) for array in state.memory)
    return state._replace(parameters=np.array(state.parameters), memory=memory)


@settings(max_examples=30)
@given(
    name=st.sampled_from(sorted(SOLVERS)),
    pair=st.sampled_from(PAIRS),
    dtype=st.sampled_from([np.float32, np.float64]),
    size=st.integers(1, 40),
    seconds=st.sampled_from([0.0, 1e-4, 3e-4, 0.05]),
    cut=st.integers(0, 40),
    weighted=st.booleans(),
)
def test_resuming_at_any_step_gives_the_same_bits_as_never_stopping(
    name: str,
    pair: tuple[str, str],
    dtype: DTypeLike,
    size: int,
    seconds: float,
    cut: int,
    weighted: bool,
) -> None:
    random = np.random.default_rng(size)
    weight = random.random(41) if weighted else None
    rows = rows_of(
        random.normal(size=(41, 3)), allowed_targets(1, 41, 2, *pair), weight, dtype=dtype
    )
    chosen = Settings(
        learning_rate=0.01, batch_size=size, epochs=3, schedule=Schedule("cosine", 1), clip_norm=1.0
    )

    def prepared() -> Run:
        with mock.patch.object(mini_batch, "STEP_SECONDS", seconds):
            return SOLVERS[name](Objective(*pair, rows, l2=0.1), chosen)

    states = [prepared().start]
    run = prepared()
    while states[-1].epoch < 3:
        states.append(run.step(states[-1]))
    cut = min(cut, len(states) - 1)

    resumed, state = prepared(), restored(states[cut])
    while state.epoch < 3:
        state = resumed.step(state)

    last = states[-1]
    assert state.parameters.dtype == np.float64
    assert state.parameters.tobytes() == last.parameters.tobytes()
    assert [array.tobytes() for array in state.memory] == [a.tobytes() for a in last.memory]
    assert state.cost == last.cost


def test_a_state_that_was_stepped_from_stays_as_it_was() -> None:
    x, y = diabetes()
    before = x.copy(), y.copy()
    run = SOLVERS["adam"](least_squares(x, y), Settings(batch_size=16))
    states = [run.start]
    for _ in range(3):
        states.append(run.step(states[-1]))
    copies = [restored(state) for state in states]

    run.step(states[1])

    assert (x == before[0]).all()
    assert (y == before[1]).all()
    for state, copy in zip(states, copies, strict=True):
        assert state.parameters.tobytes() == copy.parameters.tobytes()
        assert [array.tobytes() for array in state.memory] == [a.tobytes() for a in copy.memory]
    assert not np.any(weights(states[0]))
    assert np.all(weights(states[1]) != weights(states[2]))


def test_within_an_epoch_batches_count_up_and_the_cost_is_that_of_its_beginning() -> None:
    objective = least_squares(*diabetes())
    with mock.patch.object(mini_batch, "STEP_SECONDS", 100 * mini_batch.CALLS_SECONDS):
        run = SOLVERS["momentum"](objective, Settings(batch_size=1))

    states = [run.start]
    while states[-1].epoch < 2:
        states.append(run.step(states[-1]))

    per_epoch = len(states) // 2
    batches = [state.batch for state in states[:per_epoch]]
    assert batches == [100 * number for number in range(per_epoch)]
    assert per_epoch > 1
    assert states[per_epoch].batch == 0
    assert {state.cost for state in states[:per_epoch]} == {run.start.cost}
    end = states[per_epoch]
    assert end.cost == objective.value(end.parameters) < run.start.cost


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "batch_size"),
    [(150, 4, 3, 16), (60_000, 784, 10, 128), (1_000_000, 30, 1, 1), (1000, 5000, 100, 999)],
)
def test_a_step_is_about_a_twentieth_of_a_second_or_an_epoch(
    count: int, inputs: int, outputs: int, batch_size: int
) -> None:
    shape = rows_of(np.zeros((1, 1)), np.zeros((1, 1)))._replace(
        total=count, inputs=inputs, outputs=outputs
    )

    plan = mini_batch.plan_of(shape, batch_size)

    assert (plan.batches - 1) * batch_size + plan.last_size == count
    assert 1 <= plan.last_size <= batch_size
    operations = plan.per_step * 4 * batch_size * (inputs + 1) * outputs
    seconds = operations / 1e10 + plan.per_step * 2e-5
    assert seconds == pytest.approx(0.05, rel=0.1) or plan.per_step in {1, plan.batches}


def test_rows_that_are_streamed_are_refused() -> None:
    x, y = diabetes()
    streamed = in_blocks(rows_of(x, y), 50)

    with pytest.raises(NumericError, match="in memory"):
        first_order.momentum(
            Objective("identity", "half_squared_error", streamed), Settings(batch_size=10)
        )


@pytest.mark.parametrize("name", SOLVERS)
def test_without_a_bound_of_the_curvature_batches_need_a_rate_but_for_adam(name: str) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 3))
    y = random.poisson(np.exp(0.3 * x[:, :1])).astype(float)
    objective = Objective("exp", "poisson", rows_of(x, y))

    if name == "adam":
        assert stepped(SOLVERS[name](objective, Settings(batch_size=10)), 5).cost < 0.6
        return
    with pytest.raises(NumericError, match="give a learning_rate"):
        SOLVERS[name](objective, Settings(batch_size=10))
    given_rate = Settings(batch_size=10, learning_rate=0.01)
    run = SOLVERS[name](objective, given_rate)
    assert stepped(run, 5).cost < run.start.cost


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_rate_far_too_large_is_silent_and_not_finite(name: str, dtype: DTypeLike) -> None:
    x, y = diabetes()
    rows = rows_of(x, y, dtype=dtype)
    objective = Objective("identity", "half_squared_error", rows)

    state = stepped(SOLVERS[name](objective, Settings(learning_rate=1e30, batch_size=20)), 30)

    assert name == "adam" or not np.isfinite(state.cost)
