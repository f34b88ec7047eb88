"""What the tests of the second-order solvers share: hard inputs, runs, and one minimum to beat."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, optimize, special

from app.numeric.activations import Array
from app.numeric.method import Run, State
from app.numeric.objective import Objective

HARD_INPUTS = ("plain", "scales", "offset", "duplicates", "constant", "near duplicates", "wide")
# More columns than rows have no minimum without a penalty.
HARD_PROBLEMS = [(kind, l2) for kind in HARD_INPUTS for l2 in (0.0, 1e-2) if l2 or kind != "wide"]


def hard_inputs(kind: str, seed: int, *, rows: int = 300, inputs: int = 6) -> Array:
    """Inputs that defeat a solver of one weakness each; `wide` has more columns than rows."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, inputs))
    if kind == "scales":
        return x * 10.0 ** np.linspace(-6, 6, inputs)
    if kind == "offset":
        return x + 1e3
    if kind == "duplicates":
        return np.hstack((x, x[:, :3]))
    if kind == "constant":
        return np.hstack((x, np.full((rows, 1), 3.0)))
    if kind == "near duplicates":
        return np.hstack((x, x[:, :3] + 1e-7 * random.normal(size=(rows, 3))))
    if kind == "wide":
        return random.normal(size=(40, 60))
    return x


def hard_targets(x: Array, seed: int, draw: Callable[[np.random.Generator, Array], Array]) -> Array:
    """Targets (N, 2) drawn around a linear score of the columns, brought to unit size first."""
    random = np.random.default_rng(seed)
    scaled = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    score = scaled @ random.normal(size=(x.shape[1], 2)) / np.sqrt(x.shape[1])
    return draw(random, 1.5 * score)


def flipped_labels(random: np.random.Generator, score: Array) -> Array:
    labels = random.random(score.shape) < special.expit(score)
    return (labels ^ (random.random(score.shape) < 0.05)).astype(np.float64)


def counts(random: np.random.Generator, score: Array) -> Array:
    return random.poisson(np.exp(score)).astype(np.float64)


def heavy_tails(random: np.random.Generator, score: Array) -> Array:
    return score + random.standard_t(1.5, size=score.shape)


class Loss(NamedTuple):
    """C of one output, its slope and second derivative in z, each written from the textbook."""

    value: Callable[[Array, Array], Array]
    slope: Callable[[Array, Array], Array]
    curvature: Callable[[Array, Array], Array]


def _huber(z: Array, y: Array) -> Array:
    size = np.abs(z - y)
    return np.where(size <= 1.0, 0.5 * size * size, size - 0.5)


LOSSES = {
    "cross_entropy": Loss(
        lambda z, y: np.logaddexp(0.0, z) - y * z,
        lambda z, y: special.expit(z) - y,
        lambda z, _: special.expit(z) * special.expit(-z),
    ),
    "poisson": Loss(
        lambda z, y: np.exp(z) - y * z + special.xlogy(y, y) - y,
        lambda z, y: np.exp(z) - y,
        lambda z, _: np.exp(z),
    ),
    "huber": Loss(
        _huber,
        lambda z, y: np.clip(z - y, -1.0, 1.0),
        # A little more, lest the peer's matrix be singular; it only directs its steps.
        lambda z, y: np.where(np.abs(z - y) <= 1.0, 1.0, 1e-9),
    ),
}


def least_value(loss: Loss, x: Array, y: Array, l2: float) -> float:
    """The minimum over w, b of the mean loss plus l2/2 |w|^2, by SciPy's trust region.

    In well-conditioned unknowns: without penalty in an orthonormal basis of the columns (which b
    lets be centred), with one in columns of unit deviation. y (N, m); the outputs add up.
    """
    design, penalty = conditioned(x, l2)

    def fit(target: Array) -> float:
        def value(v: Array) -> float:
            return float(loss.value(design @ v, target).mean() + 0.5 * (penalty * v) @ v)

        def slope(v: Array) -> Array:
            return design.T @ loss.slope(design @ v, target) / len(x) + penalty * v

        def hessian(v: Array) -> Array:
            curved = design * loss.curvature(design @ v, target)[:, None]
            return design.T @ curved / len(x) + np.diag(penalty)

        start = np.zeros(design.shape[1])
        found = optimize.minimize(
            value, start, jac=slope, hess=hessian, method="trust-exact", options={"gtol": 1e-12}
        )
        return float(found.fun)

    return sum(fit(target) for target in y.T)


def conditioned(x: Array, l2: float) -> tuple[Array, Array]:
    """Inputs and ones (N, k) that span what x and b do, and l2 in their units (k,)."""
    deviation = x.std(axis=0)
    scale = np.where(deviation > 1e-9 * np.abs(x).max(axis=0), deviation, 1.0)
    unit = (x - x.mean(axis=0)) / scale
    ones = np.ones((len(x), 1))
    if l2:
        return np.hstack((unit, ones)), np.append(l2 / scale**2, 0.0)
    u, s, _ = linalg.svd(unit, full_matrices=False)
    basis = np.sqrt(len(x)) * u[:, s > 1e-12 * s[0]]
    return np.hstack((basis, ones)), np.zeros(basis.shape[1] + 1)


def arrived(run: Run, state: State | None = None, *, steps_max: int = 200) -> State:
    """The state where a run ends; no step may raise the cost on the way."""
    return trajectory(run, state, steps_max=steps_max)[-1]


def trajectory(run: Run, state: State | None = None, *, steps_max: int = 200) -> list[State]:
    """All states from the start to where the run ends, with costs that never rise."""
    states = [run.start if state is None else state]
    while not states[-1].converged and len(states) <= steps_max:
        states.append(run.step(states[-1]))
        assert states[-1].cost <= states[-2].cost
    return states


def put_aside(state: State) -> State:
    """The state as another process would read it: equal arrays in other places."""
    memory = tuple(np.array(array) for array in state.memory)
    return state._replace(parameters=np.array(state.parameters), memory=memory)


def assert_same_bits(one: list[State], other: list[State]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.epoch, a.cost, a.converged) == (b.epoch, b.cost, b.converged)
        assert a.parameters.tobytes() == b.parameters.tobytes()
        assert [m.tobytes() for m in a.memory] == [m.tobytes() for m in b.memory]


def assert_resuming_changes_nothing(prepare: Callable[[], Run], cut: int) -> None:
    """A run cut after some steps and taken up by a freshly prepared one gives the same states."""
    whole = trajectory(prepare())
    cut %= len(whole)

    resumed = trajectory(prepare(), put_aside(whole[cut]), steps_max=len(whole) - 1 - cut)

    assert_same_bits(resumed, whole[cut:])


def complex_step_matrix(slope: Callable[[Any], Any], parameters: Array) -> Array:
    """The derivatives (m q, m q) of a slope (m, q) that takes complex P (Squire and Trapp 1998)."""
    size, step = parameters.size, 1e-30
    columns = np.empty((size, size))
    for column in range(size):
        there = parameters.astype(np.complex128)
        there.ravel()[column] += 1j * step
        columns[:, column] = slope(there).imag.ravel() / step
    return columns


def excess(objective: Objective, state: State, least: float) -> float:
    """How far the cost, evaluated anew, lies above a minimum that somebody else found."""
    return (objective.value(state.parameters) - least) / least
