"""Gradient descent with heavy-ball momentum, on all rows or on mini-batches.

    v <- momentum v - rate slope        (w, b) <- (w, b) + v              Polyak 1964

Full batch: a step that raises the objective is taken back, v is emptied and the plain step taken
instead (function restart, O'Donoghue and Candes 2015). With rate <= 1 / L the plain step cannot
raise it, so the objective falls monotonically whatever the momentum, for costs that are not convex
too.
Mini-batches: epoch k visits the rows in the order of the permutation of Philox(SeedSequence([seed,
k])), in contiguous slices; the last one may be smaller. v stays across epochs.
"""

from collections.abc import Callable

import numpy as np

from app.numeric import learning_rate
from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.layer import Layer, initial_layer
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective, slope, value


def prepare(objective: Objective, settings: Settings) -> Run:
    """Starts at the mean target with no velocity. A batch of all rows or more is full batch."""
    rows, inputs = objective.x.shape
    batch_size = settings.batch_size
    if batch_size is not None and batch_size >= rows:
        batch_size = None
    rate = settings.learning_rate
    if rate is None:
        rate = learning_rate.automatic(objective, batch_size=batch_size, momentum=settings.momentum)
    layer = initial_layer(objective.activation, objective.y, inputs)
    memory = (np.zeros_like(layer.w), np.zeros_like(layer.b))
    start = State(0, layer, value(objective, layer), memory)
    if batch_size is None:
        epoch = _full_batch(objective, rate, settings.momentum)
    else:
        epoch = _mini_batch(objective, rate, settings.momentum, batch_size, settings.seed)
    return Run(start, epoch, rate)


def _full_batch(objective: Objective, rate: float, momentum: float) -> Callable[[State], State]:
    @np.errstate(over="ignore", invalid="ignore")
    def moved(layer: Layer, step_w: Array, step_b: Array) -> tuple[Layer, float]:
        there = layer._replace(w=layer.w + step_w, b=layer.b + step_b)
        return there, value(objective, there)

    @np.errstate(over="ignore", invalid="ignore")
    def epoch(state: State) -> State:
        dC_dw, dC_db = slope(objective, state.layer)
        plain_w, plain_b = -rate * dC_dw, -rate * dC_db
        v_w, v_b = momentum * state.memory[0] + plain_w, momentum * state.memory[1] + plain_b
        layer, cost = moved(state.layer, v_w, v_b)
        if cost > state.cost and momentum and state.memory[0].any():
            v_w, v_b = plain_w, plain_b
            layer, cost = moved(state.layer, v_w, v_b)
        return State(state.epoch + 1, layer, cost, (v_w, v_b))

    return epoch


def _mini_batch(
    objective: Objective, rate: float, momentum: float, batch_size: int, seed: int
) -> Callable[[State], State]:
    x, y = np.empty_like(objective.x), np.empty_like(objective.y)
    sigma, cost_delta = ACTIVATIONS[objective.activation], COSTS[objective.cost].delta
    rows = len(x)
    z_buffer = np.empty((batch_size, y.shape[1]))

    @np.errstate(over="ignore", invalid="ignore")
    def epoch(state: State) -> State:
        order = _generator(seed, state.epoch + 1).permutation(rows)
        # The order is a permutation, so nothing is clipped: the mode only lets `take` write in
        # place.
        np.take(objective.x, order, axis=0, out=x, mode="clip")
        np.take(objective.y, order, axis=0, out=y, mode="clip")
        w, b = state.layer.w.copy(), state.layer.b.copy()
        v_w, v_b = (velocity.copy() for velocity in state.memory)
        dC_dw = np.empty_like(w)
        for first in range(0, rows, batch_size):
            batch = x[first : first + batch_size]
            z = np.matmul(batch, w.T, out=z_buffer[: len(batch)])
            z += b
            dC_dz = cost_delta(sigma, z, y[first : first + batch_size])
            dC_dz *= rate / len(batch)
            np.matmul(dC_dz.T, batch, out=dC_dw)
            v_w *= momentum
            v_w -= dC_dw
            if objective.l2:
                v_w -= (rate * objective.l2) * w
            v_b *= momentum
            v_b -= dC_dz.sum(axis=0)
            w += v_w
            b += v_b
        layer = state.layer._replace(w=w, b=b)
        return State(state.epoch + 1, layer, value(objective, layer), (v_w, v_b))

    return epoch


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))
