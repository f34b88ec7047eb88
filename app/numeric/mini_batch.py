"""Steps on mini-batches: what a step costs beside its two products is counted in microseconds.

Epoch e = 1, 2, ... visits the rows in the order of the permutation of Philox(SeedSequence([seed,
e])), in contiguous slices; the last one may be smaller. The slope of a batch is its mean of weight
dC/dP plus l2 w; it is shortened to `clip_norm`, then the update is made with the rate that the
schedule gives, then w is shrunk by rate * l1. Velocities stay across epochs.

Batches are gathered some at a time into row-major buffers, so that z = P x^T (m, B) and the slope
delta x (m, n + 1) are one product each.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric import learning_rate, schedules
from app.numeric.costs import COSTS
from app.numeric.errors import NumericError
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.rows import DataArray, Rows
from app.numeric.updates import Update, Velocities, shrink

# dC/dz into z (m, B), from z and y (m, B); scratch is (m, B) too.
Delta = Callable[[DataArray, DataArray, DataArray], None]

# What is gathered at a time stays in the cache until its batches have used it.
GATHERED_BYTES = 1 << 20
# More views than that, made once, save little over making them again.
GATHERED_BATCHES_MAX = 1024
# A step of the solver is to take about 50 ms, between two looks at the clock: by what the calls of
# a batch cost, and by products of skinny matrices, measured at 1e10 operations a second.
STEP_SECONDS = 0.05
CALLS_SECONDS = 2e-5
OPERATIONS_PER_SECOND = 1e10


class Plan(NamedTuple):
    """The sizes of an epoch: rows of a batch and of the last, batches of it and of a step."""

    batch_size: int
    last_size: int
    batches: int
    per_step: int


class Batch(NamedTuple):
    """x (B, n + 1), its last column ones, and x^T; y (m, B); weight (B,) or None for 1 each.

    With room for z and scratch (m, B), and B l2 (n + 1,), its last entry 0; None without l2.
    """

    x: DataArray
    x_transposed: DataArray
    y: DataArray
    weight: DataArray | None
    z: DataArray
    scratch: DataArray
    ridge: DataArray | None


def prepare(update: Update, objective: Objective, settings: Settings, batch_size: int) -> Run:
    """Steps of some batches each, for 1 <= batch_size < N.

    A rate that is not given is that of learning_rate; the last batch of an epoch, if smaller, then
    has one of its own, as it is noisier.
    Raises NumericError for rows that are not in memory, and where there is no automatic rate.
    """
    if not objective.rows.in_memory:
        raise NumericError("mini-batches need rows in memory; leave batch_size out")
    plan = plan_of(objective.rows, batch_size)
    rates = _rates(update, objective, settings, plan)
    parameters = objective.start()
    memory = tuple(np.zeros_like(parameters) for _ in range(update.velocities))
    start = State(0, 0, parameters, objective.value(parameters), False, memory)
    gathering = _Gathering(objective, plan, settings.seed)
    descend = _descent(update, objective, settings)

    @np.errstate(all="ignore")
    def step(state: State) -> State:
        end = min(state.batch + plan.per_step, plan.batches)
        p = state.parameters.astype(objective.rows.dtype)
        velocities = tuple(velocity.astype(p.dtype) for velocity in state.memory)
        descend(
            p,
            velocities,
            gathering.batches(state.epoch + 1, state.batch, end),
            _scheduled(settings, plan, state.epoch, range(state.batch, end), rates),
            state.epoch * plan.batches + state.batch,
        )
        parameters = p.astype(np.float64, copy=False)
        memory = tuple(velocity.astype(np.float64, copy=False) for velocity in velocities)
        if end < plan.batches:
            return State(state.epoch, end, parameters, state.cost, False, memory)
        return State(state.epoch + 1, 0, parameters, objective.value(parameters), False, memory)

    return Run(start, step, rates[0])


def plan_of(rows: Rows, batch_size: int) -> Plan:
    """How an epoch is cut: it depends on the sizes alone, so that a resumed run is cut alike."""
    batches = -(-rows.total // batch_size)
    operations = 4 * batch_size * (rows.inputs + 1) * rows.outputs
    per_step = round(STEP_SECONDS / (CALLS_SECONDS + operations / OPERATIONS_PER_SECOND))
    last_size = rows.total - (batches - 1) * batch_size
    return Plan(batch_size, last_size, batches, max(1, min(per_step, batches)))


def _rates(
    update: Update, objective: Objective, settings: Settings, plan: Plan
) -> tuple[float, float]:
    """Of a batch, and of the last one of an epoch."""
    if settings.learning_rate is not None:
        return float(settings.learning_rate), float(settings.learning_rate)
    if update.adaptive:
        rate = learning_rate.automatic_for_adam(objective, full_batch=False)
        return rate, rate
    rate, last_rate = learning_rate.automatic_for_batches(
        objective,
        (plan.batch_size, plan.last_size),
        momentum=settings.momentum if update.velocities else 0.0,
    )
    return rate, last_rate


def _scheduled(
    settings: Settings, plan: Plan, epoch: int, batches: range, rates: tuple[float, float]
) -> Iterator[float]:
    rate, last_rate = rates
    schedule, share, last = settings.schedule, 1.0 / plan.batches, plan.batches - 1
    # The usual case, without a call for every batch.
    is_constant = schedule.name == "constant" and epoch >= schedule.warm_up_epochs
    for batch in batches:
        now = rate if batch < last else last_rate
        if not is_constant:
            done = epoch + batch / plan.batches
            now *= schedules.factor(schedule, settings.epochs, done=done, share=share)
        yield now


def _descent(
    update: Update, objective: Objective, settings: Settings
) -> Callable[[DataArray, Velocities, Iterable[Batch], Iterable[float], int], None]:
    delta, clip_norm, matmul = delta_of(objective), settings.clip_norm, np.matmul
    l1, non_negative = objective.l1, objective.non_negative
    limited = bool(l1) or non_negative

    def descend(
        p: DataArray,
        velocities: Velocities,
        batches: Iterable[Batch],
        rates: Iterable[float],
        number: int,
    ) -> None:
        ahead, move = update.rule(velocities, settings.momentum)
        slope, pull, before = np.empty_like(p), np.empty_like(p), np.empty_like(p)
        flat = slope.reshape(-1)
        for batch, rate in zip(batches, rates, strict=True):
            x, x_transposed, y, weight, z, scratch, ridge = batch
            number += 1
            if limited:
                np.copyto(before, p)
            if ahead is not None:
                ahead(p)
            matmul(p, x_transposed, z)
            delta(z, y, scratch)
            if weight is not None:
                np.multiply(z, weight, z)
            matmul(z, x, slope)
            if ridge is not None:
                np.multiply(p, ridge, pull)
                np.add(slope, pull, slope)
            scale = 1.0 / len(x)
            if clip_norm is not None:
                length = scale * math.sqrt(flat.dot(flat))
                if length > clip_norm:
                    scale *= clip_norm / length
            move(p, slope, scale, rate, number)
            if limited:
                shrink(p[:, :-1], rate * l1, non_negative=non_negative)
                for velocity in velocities:
                    np.subtract(p, before, velocity)

    return descend


class _Gathering:
    """All rows, row-major, and room for those of some batches."""

    def __init__(self, objective: Objective, plan: Plan, seed: int) -> None:
        rows, size = objective.rows, plan.batch_size
        self._x, self._y, self._weight = _row_major(rows)
        row_bytes = (rows.inputs + rows.outputs + 2) * rows.dtype.itemsize
        fitting = min(GATHERED_BYTES // (size * row_bytes), GATHERED_BATCHES_MAX, plan.per_step)
        self._size, self._together = size, max(1, fitting)
        room = min(self._together * size, rows.total)
        self._room_x, self._room_y = np.empty_like(self._x[:room]), np.empty_like(self._y[:room])
        self._room_weight = None if self._weight is None else np.empty_like(self._weight[:room])
        self._z, self._scratch = np.empty((2, rows.outputs, size), rows.dtype)
        self._ridge = np.full(rows.inputs + 1, objective.l2, rows.dtype)
        self._ridge[-1] = 0.0
        self._views = [self._batch(start, size) for start in range(0, room - size + 1, size)]

        # The order of the epoch under way; another call finds the same.
        @lru_cache(maxsize=1)
        def order_of(epoch: int) -> NDArray[np.intp]:
            return permutation(seed, epoch, rows.total)

        self._order_of = order_of

    def batches(self, epoch: int, first: int, end: int) -> Iterator[Batch]:
        """Batches `first` to before `end` of an epoch; each holds until the next is taken."""
        order, size = self._order_of(epoch), self._size
        for start in range(first, end, self._together):
            stop = min(start + self._together, end)
            chosen = order[start * size : stop * size]
            _take(self._x, chosen, self._room_x)
            _take(self._y, chosen, self._room_y)
            if self._weight is not None and self._room_weight is not None:
                _take(self._weight, chosen, self._room_weight)
            whole = len(chosen) // size
            yield from self._views[:whole]
            if whole < stop - start:
                yield self._batch(whole * size, len(chosen) - whole * size)

    def _batch(self, start: int, count: int) -> Batch:
        part = slice(start, start + count)
        x = self._room_x[part]
        return Batch(
            x,
            x.T,
            self._room_y[part].T,
            None if self._room_weight is None else self._room_weight[part],
            self._z[:, :count],
            self._scratch[:, :count],
            self._ridge * count if self._ridge.any() else None,
        )


def _take(source: DataArray, chosen: NDArray[np.intp], room: DataArray) -> None:
    # Nothing is clipped: the mode only lets `take` write in place.
    np.take(source, chosen, axis=0, out=room[: len(chosen)], mode="clip")


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.intp]:
    """The order in which an epoch, counted from 1, visits so many rows."""
    bits = np.random.Philox(np.random.SeedSequence([seed, epoch]))
    return np.random.Generator(bits).permutation(count)


def _row_major(rows: Rows) -> tuple[DataArray, DataArray, DataArray | None]:
    """x (N, n + 1), y (N, m) and the weights (N,), of rows that are in memory."""
    blocks = list(rows.blocks())
    # Into C order: by itself, `concatenate` would keep that of the transposed blocks.
    x = np.empty((rows.total, rows.inputs + 1), rows.dtype)
    y = np.empty((rows.total, rows.outputs), rows.dtype)
    np.concatenate([block.x.T for block in blocks], out=x)
    np.concatenate([block.y.T for block in blocks], out=y)
    weights = [block.weight for block in blocks if block.weight is not None]
    return x, y, np.concatenate(weights) if weights else None


def delta_of(objective: Objective) -> Delta:
    """The quickest way to dC/dz of the pair."""
    row, sigma = COSTS[objective.cost], objective.sigma

    def from_tables(z: DataArray, y: DataArray, _: DataArray) -> None:
        z[...] = row.delta(sigma, z.T, y.T).T

    return DELTAS.get((objective.activation, objective.cost), from_tables)


def _residual(z: DataArray, y: DataArray, _: DataArray) -> None:
    np.subtract(z, y, z)


def _sigmoid(z: DataArray) -> None:
    np.negative(z, z)
    np.exp(z, z)
    np.add(z, 1.0, z)
    np.reciprocal(z, z)


def _sigmoid_residual(z: DataArray, y: DataArray, _: DataArray) -> None:
    _sigmoid(z)
    np.subtract(z, y, z)


def _sigmoid_half_squared_error(z: DataArray, y: DataArray, scratch: DataArray) -> None:
    _sigmoid(z)
    np.subtract(z, y, scratch)
    np.multiply(scratch, z, scratch)
    np.subtract(1.0, z, z)
    np.multiply(z, scratch, z)


def _tanh_half_squared_error(z: DataArray, y: DataArray, scratch: DataArray) -> None:
    np.tanh(z, z)
    np.subtract(z, y, scratch)
    np.multiply(z, z, z)
    np.subtract(1.0, z, z)
    np.multiply(z, scratch, z)


_largest, _total = np.maximum.reduce, np.add.reduce


def _softmax_residual(z: DataArray, y: DataArray, scratch: DataArray) -> None:
    row = scratch[:1]
    _largest(z, axis=0, out=row, keepdims=True)
    np.subtract(z, row, z)
    np.exp(z, z)
    _total(z, axis=0, out=row, keepdims=True)
    np.divide(z, row, z)
    np.subtract(z, y, z)


DELTAS: Mapping[tuple[str, str], Delta] = MappingProxyType(
    {
        ("identity", "half_squared_error"): _residual,
        ("sigmoid", "half_squared_error"): _sigmoid_half_squared_error,
        ("tanh", "half_squared_error"): _tanh_half_squared_error,
        ("sigmoid", "cross_entropy"): _sigmoid_residual,
        ("softmax", "cross_entropy"): _softmax_residual,
    }
)
