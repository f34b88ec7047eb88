import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import SGDClassifier, SGDRegressor

from app.numeric import first_order, mini_batch
from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.method import Prepare, Run, Schedule, Settings, State
from app.numeric.objective import Objective
from app.numeric.rows import rows_of
from app.numeric.updates import UPDATES
from tests.numeric.builders import PAIRS, allowed_targets

Order = NDArray[np.intp]
SOLVERS: dict[str, Prepare] = {name: getattr(first_order, name) for name in UPDATES}


def standardised(x: Array) -> Array:
    scaled: Array = (x - x.mean(axis=0)) / x.std(axis=0)
    return scaled


def diabetes() -> tuple[Array, Array]:
    x, y = load_diabetes(return_X_y=True)
    return standardised(x), standardised(y[:, None])


def breast_cancer() -> tuple[Array, Array]:
    x, y = load_breast_cancer(return_X_y=True)
    return standardised(x), y[:, None].astype(float)


def least_squares(x: Array, y: Array, **options: Any) -> Objective:
    return Objective("identity", "half_squared_error", rows_of(x, y), **options)


def stepped(run: Run, epochs: int) -> State:
    state = run.start
    while state.epoch < epochs:
        state = run.step(state)
    return state


def order_of(seed: int, epoch: int, rows: int) -> Order:
    """The documented order of an epoch, counted from 1."""
    bits = np.random.Philox(np.random.SeedSequence([seed, epoch]))
    return np.random.Generator(bits).permutation(rows)


class Textbook:
    """Least squares by a plain loop over batches, one formula a line, w and b apart."""

    def __init__(self, x: Array, y: Array, weight: Array, settings: Settings) -> None:
        self.x, self.y, self.settings = x, y, settings
        self.weight = weight / weight.mean()
        self.w = np.zeros((1, x.shape[1]))
        self.b = np.average(y, axis=0, weights=weight)
        self.v_w, self.v_b = np.zeros_like(self.w), np.zeros_like(self.b)
        self.s_w, self.s_b = np.zeros_like(self.w), np.zeros_like(self.b)
        self.t = 0

    def pull(self, rows: Order, w: Array, b: Array, l2: float) -> tuple[Array, Array]:
        residual = self.weight[rows, None] * (self.x[rows] @ w.T + b - self.y[rows])
        pull_w = residual.T @ self.x[rows] / len(rows) + l2 * w
        pull_b = residual.mean(axis=0)
        length = math.sqrt(float(np.sum(pull_w**2) + np.sum(pull_b**2)))
        clip = self.settings.clip_norm
        if clip is not None and length > clip:
            pull_w, pull_b = pull_w * clip / length, pull_b * clip / length
        return pull_w, pull_b

    def step(self, name: str, rows: Order, rate: float, l2: float) -> None:
        k = self.settings.momentum
        self.t += 1
        if name == "adam":
            pull_w, pull_b = self.pull(rows, self.w, self.b, l2)
            self.v_w, self.v_b = k * self.v_w + (1 - k) * pull_w, k * self.v_b + (1 - k) * pull_b
            self.s_w = 0.999 * self.s_w + 0.001 * pull_w**2
            self.s_b = 0.999 * self.s_b + 0.001 * pull_b**2
            first, second = 1 - k**self.t, 1 - 0.999**self.t
            self.w = self.w - rate * (self.v_w / first) / (np.sqrt(self.s_w / second) + 1e-8)
            self.b = self.b - rate * (self.v_b / first) / (np.sqrt(self.s_b / second) + 1e-8)
            return
        k = 0.0 if name == "gradient_descent" else k
        ahead = k if name == "nesterov" else 0.0
        pull_w, pull_b = self.pull(rows, self.w + ahead * self.v_w, self.b + ahead * self.v_b, l2)
        self.v_w, self.v_b = k * self.v_w - rate * pull_w, k * self.v_b - rate * pull_b
        self.w, self.b = self.w + self.v_w, self.b + self.v_b

    def run(self, name: str, *, epochs: int, l2: float, rate: Callable[[float], float]) -> Array:
        """P after so many epochs; the rate comes from the epochs done before a batch."""
        size, count = self.settings.batch_size, len(self.x)
        assert size is not None
        for epoch in range(epochs):
            order = order_of(self.settings.seed, epoch + 1, count)
            batches = np.split(order, range(size, count, size))
            for number, rows in enumerate(batches):
                self.step(name, rows, rate(epoch + number / len(batches)), l2)
        found: Array = np.column_stack((self.w, self.b))
        return found


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize("name", SOLVERS)
def test_mini_batches_follow_the_documented_order_and_steps(
    name: str, clip_norm: float | None
) -> None:
    x, y = diabetes()
    weight = np.random.default_rng(0).random(len(x)) + 0.1
    chosen = Settings(learning_rate=0.01, batch_size=100, seed=3, clip_norm=clip_norm)
    rows = rows_of(x, y, weight)

    run = SOLVERS[name](Objective("identity", "half_squared_error", rows, l2=0.2), chosen)
    found = stepped(run, 3).parameters

    expected = Textbook(x, y, weight, chosen).run(name, epochs=3, l2=0.2, rate=lambda _: 0.01)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_schedule_goes_on_with_every_batch(name: str) -> None:
    x, y = diabetes()
    chosen = Settings(
        learning_rate=0.02, batch_size=50, epochs=4, schedule=Schedule("cosine"), seed=1
    )

    found = stepped(SOLVERS[name](least_squares(x, y), chosen), 4).parameters

    def rate(done: float) -> float:
        return 0.01 * (1.0 + math.cos(math.pi * done / 4))

    textbook = Textbook(x, y, np.ones(len(x)), chosen)
    expected = textbook.run(name, epochs=4, l2=0.0, rate=rate)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


def test_warm_up_rises_with_every_batch() -> None:
    x, y = diabetes()
    schedule = Schedule("constant", warm_up_epochs=2)
    chosen = Settings(learning_rate=0.02, batch_size=50, schedule=schedule)

    run = SOLVERS["gradient_descent"](least_squares(x, y), chosen)
    found = stepped(run, 3).parameters

    textbook = Textbook(x, y, np.ones(len(x)), chosen)
    batches = math.ceil(len(x) / 50)
    expected = textbook.run(
        "gradient_descent",
        epochs=3,
        l2=0.0,
        rate=lambda done: 0.02 * min((done + 1 / batches) / 2, 1.0),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_batches_of_one_row_move_as_the_regression_of_scikit_learn() -> None:
    x, y = diabetes()
    y = y - y.mean()
    run = SOLVERS["gradient_descent"](
        least_squares(x, y, l2=0.1), Settings(learning_rate=0.003, batch_size=1, seed=5)
    )

    found = stepped(run, 2).parameters

    reference = SGDRegressor(
        alpha=0.1, learning_rate="constant", eta0=0.003, shuffle=False, max_iter=1, tol=None
    )
    for epoch in (1, 2):
        order = order_of(5, epoch, len(x))
        reference.partial_fit(x[order], y[order, 0])
    expected = np.append(reference.coef_, reference.intercept_)
    np.testing.assert_allclose(found[0], expected, rtol=1e-9)


def test_batches_of_one_row_move_as_the_classifier_of_scikit_learn() -> None:
    x, y = breast_cancer()
    objective = Objective("sigmoid", "cross_entropy", rows_of(x, y), l2=0.01)
    run = SOLVERS["gradient_descent"](objective, Settings(learning_rate=0.01, batch_size=1, seed=5))

    found = run.step(run.start).parameters

    reference = SGDClassifier(
        "log_loss", alpha=0.01, learning_rate="constant", eta0=0.01, shuffle=False, tol=None
    )
    order = order_of(5, 1, len(x))
    reference.max_iter = 1
    reference.fit(
        x[order],
        y[order, 0],
        coef_init=np.zeros((1, 30)),
        intercept_init=run.start.parameters[0, -1:],
    )
    expected = np.append(reference.coef_, reference.intercept_)
    np.testing.assert_allclose(found[0], expected, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("activation", "cost"), PAIRS)
def test_the_slopes_in_place_are_those_of_the_tables(
    activation: str, cost: str, dtype: DTypeLike
) -> None:
    random = np.random.default_rng(0)
    z = 4 * random.normal(size=(3, 50))
    z[:, :3] = [[0.0], [90.0], [-90.0]]
    y = allowed_targets(1, 50, 3, activation, cost).T
    objective = Objective(activation, cost, rows_of(np.zeros((50, 1)), y.T, dtype=dtype))
    delta = mini_batch.delta_of(objective)

    found = z.astype(dtype)
    with np.errstate(over="ignore"):
        delta(found, y.astype(dtype), np.empty_like(found))

    with np.errstate(over="ignore"):
        expected = COSTS[cost].delta(ACTIVATIONS[activation], z.T, y.T).T.astype(dtype)
    precision = 1e-13 if dtype is np.float64 else 1e-5
    np.testing.assert_allclose(found, expected, rtol=precision, atol=precision)


@pytest.mark.parametrize("name", ["gradient_descent", "momentum", "nesterov"])
@pytest.mark.parametrize("non_negative", [False, True])
def test_every_batch_shrinks_the_weights_by_rate_times_l1(name: str, non_negative: bool) -> None:
    x, y = diabetes()
    chosen = Settings(learning_rate=0.02, batch_size=100, seed=3)
    objective = least_squares(x, y, l2=0.1, l1=0.1, non_negative=non_negative)

    found = stepped(SOLVERS[name](objective, chosen), 3).parameters

    textbook = Textbook(x, y, np.ones(len(x)), chosen)
    for epoch in (1, 2, 3):
        for rows in np.split(order_of(3, epoch, len(x)), range(100, len(x), 100)):
            before = textbook.w
            textbook.step(name, rows, 0.02, 0.1)
            shrunk = np.sign(textbook.w) * np.maximum(np.abs(textbook.w) - 0.02 * 0.1, 0.0)
            textbook.w = np.maximum(shrunk, 0.0) if non_negative else shrunk
            textbook.v_w = textbook.w - before
    expected = np.column_stack((textbook.w, textbook.b))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
    assert not non_negative or (found[:, :-1] == 0.0).any()


def test_heavy_ball_remembers_how_far_it_went_after_shrinking() -> None:
    x, y = diabetes()
    run = SOLVERS["momentum"](
        least_squares(x, y, l1=0.2), Settings(learning_rate=0.05, batch_size=221)
    )

    one = run.step(run.start)

    with mock.patch.object(mini_batch, "STEP_SECONDS", 0.0):
        halves = SOLVERS["momentum"](
            least_squares(x, y, l1=0.2), Settings(learning_rate=0.05, batch_size=221)
        )
    half = halves.step(halves.start)
    whole = halves.step(half)
    assert (half.batch, whole.epoch) == (1, 1)
    np.testing.assert_array_equal(whole.memory[0], whole.parameters - half.parameters)
    assert whole.parameters.tobytes() == one.parameters.tobytes()
