import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike
from scipy.optimize import minimize_scalar
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from app.numeric.activations import Array
from app.numeric.rows import DataArray
from app.numeric.updates import UPDATES, shrink

Trace = list[DataArray]

# The slope of a quadratic bowl whose curvatures differ.
BOWL = np.array([[1.0, 5.0, 0.2], [0.5, 2.0, 9.0]])


def bowl(p: DataArray) -> DataArray:
    pull: DataArray = (BOWL * (p - 1.0)).astype(p.dtype)
    return pull


def followed(
    name: str,
    *,
    rate: float,
    momentum: float,
    steps: int = 20,
    scale: float = 1.0,
    dtype: DTypeLike = np.float64,
) -> tuple[Trace, Trace]:
    """P after each step, and the first velocity, from P = 0, with the slope handed over / scale."""
    update = UPDATES[name]
    p = np.zeros(BOWL.shape, dtype)
    velocities = [np.zeros_like(p) for _ in range(update.velocities)]
    rule = update.rule(velocities, momentum)
    trace, speeds = [], []
    for step in range(1, steps + 1):
        if rule.ahead is not None:
            rule.ahead(p)
        rule.move(p, bowl(p) / scale, scale, rate, step)
        trace.append(p.copy())
        speeds.append(velocities[0].copy() if velocities else np.zeros_like(p))
    return trace, speeds


def followed_by_scikit_learn(optimizer: SGDOptimizer | AdamOptimizer, steps: int = 20) -> Trace:
    p = np.zeros(BOWL.shape)
    trace = []
    for _ in range(steps):
        optimizer.update_params([p], [bowl(p)])
        trace.append(p.copy())
    return trace


def textbook_adam(rate: float, beta1: float, steps: int = 20) -> Trace:
    p, m, v, trace = np.zeros(BOWL.shape), np.zeros(BOWL.shape), np.zeros(BOWL.shape), []
    for t in range(1, steps + 1):
        g = bowl(p)
        m = beta1 * m + (1 - beta1) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - 0.999**t)
        p = p - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        trace.append(p)
    return trace


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_heavy_ball_moves_as_in_scikit_learn(momentum: float) -> None:
    found, _ = followed("momentum", rate=0.05, momentum=momentum)

    optimizer = SGDOptimizer([np.zeros(BOWL.shape)], 0.05, momentum=momentum, nesterov=False)
    np.testing.assert_allclose(found, followed_by_scikit_learn(optimizer), rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_nesterov_looks_ahead_to_where_scikit_learn_stands(momentum: float) -> None:
    """They keep P + k v, where the slope is taken, instead of P."""
    found, speeds = followed("nesterov", rate=0.05, momentum=momentum)

    optimizer = SGDOptimizer([np.zeros(BOWL.shape)], 0.05, momentum=momentum, nesterov=True)
    ahead = [p + momentum * v for p, v in zip(found, speeds, strict=True)]
    np.testing.assert_allclose(ahead, followed_by_scikit_learn(optimizer), rtol=1e-12)


def test_plain_descent_is_heavy_ball_without_momentum() -> None:
    plain, _ = followed("gradient_descent", rate=0.05, momentum=0.9)
    ball, _ = followed("momentum", rate=0.05, momentum=0.0)

    np.testing.assert_allclose(plain, ball, rtol=1e-13)


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_adam_is_algorithm_1_of_kingma_and_ba(beta1: float) -> None:
    found, _ = followed("adam", rate=0.05, momentum=beta1)

    np.testing.assert_allclose(found, textbook_adam(0.05, beta1), rtol=1e-12)


def test_adam_moves_as_in_scikit_learn_but_for_epsilon() -> None:
    """They do not correct epsilon for the bias: it is 1e-8 of slopes near 1."""
    found, _ = followed("adam", rate=0.05, momentum=0.9)

    optimizer = AdamOptimizer([np.zeros(BOWL.shape)], 0.05)
    np.testing.assert_allclose(found, followed_by_scikit_learn(optimizer), rtol=1e-5)


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_scaled_slope_counts_as_scale_times_itself_in_every_precision(
    name: str, dtype: DTypeLike
) -> None:
    found, _ = followed(name, rate=0.05, momentum=0.9, scale=0.01, dtype=dtype)

    expected, _ = followed(name, rate=0.05, momentum=0.9)
    assert found[-1].dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-3 if dtype is np.float32 else 1e-12)


@given(weight=st.floats(-3, 3), threshold=st.floats(0, 3), non_negative=st.booleans())
def test_shrinking_minimises_what_it_says(
    weight: float, threshold: float, non_negative: bool
) -> None:
    w = np.array([[weight]])

    shrink(w, threshold, non_negative=non_negative)

    def total(v: float) -> float:
        return 0.5 * (v - weight) ** 2 + threshold * abs(v)

    low = 0.0 if non_negative else -4.0
    best = minimize_scalar(total, bounds=(low, 4.0), method="bounded", options={"xatol": 1e-10})
    assert total(float(w[0, 0])) <= best.fun + 1e-12
    assert w[0, 0] >= low


@pytest.mark.parametrize("non_negative", [False, True])
def test_what_is_within_the_threshold_becomes_zero_exactly(non_negative: bool) -> None:
    w: Array = np.array([[0.3, -0.3, 0.29999, -0.1, 0.0]])

    shrink(w, 0.3, non_negative=non_negative)

    assert w.tolist() == [[0.0] * 5]
