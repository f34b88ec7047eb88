"""Gradient descent, heavy ball, Nesterov's steps and Adam, on all rows; see updates for the rules.

A batch size below N leads to mini_batch instead. On all rows, a step with momentum that raises the
objective is taken back: the velocity is emptied and the plain step taken (function restart,
O'Donoghue and Candes 2015). Where no rate is given, the plain step is halved until it lowers the
objective by what a quadratic of curvature 1 / rate promises (backtracking, Beck and Teboulle 2009),
so that the objective falls monotonically whatever the momentum, for costs that are not convex too.
With a bound L of the curvature the first rate is 1 / L, which needs no halving. Adam has neither.

With l1 or non_negative, w is shrunk after every step (proximal gradient), and the velocity is the
change of P. A first-order method cannot tell a long valley from its end: `converged` says only that
rounding leaves nothing to gain.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from app.numeric import learning_rate, mini_batch, schedules
from app.numeric.activations import Array
from app.numeric.method import Prepare, Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.updates import UPDATES, Update, shrink

# A measured curvature may be too large as well as too small, and changes on the way: a plain step
# tries that much more than the last one, up to 1 / L where there is a bound.
GROWTH = 1.1
# Slopes err by the precision of the rows, what they promise to gain by its square.
NO_GAIN = {4: 1e-13, 8: 2.3e-16}
# The objective errs by so much of itself: a step that raises it by less may have lowered it.
NOISE = {4: 5e-7, 8: 2e-15}
TINY = float(np.finfo(np.float64).tiny)


class _Arrival(NamedTuple):
    """Where a step led, and the objective there.

    `pull` is the slope that it followed, `slope` that at P, or `pull` again if that was not asked.
    """

    parameters: Array
    velocities: tuple[Array, ...]
    cost: float
    pull: Array
    slope: Array


def _prepare(update: Update, objective: Objective, settings: Settings) -> Run:
    """Starts at the mean target with no velocity. A batch of all rows or more is full batch.

    Raises NumericError for mini-batches of rows that are not in memory, or without a rate where
    there is no automatic one.
    """
    batch_size = settings.batch_size
    if batch_size is not None and batch_size < objective.rows.total:
        return mini_batch.prepare(update, objective, settings, batch_size)
    rate = settings.learning_rate
    if rate is None and update.adaptive:
        rate = learning_rate.automatic_for_adam(objective, full_batch=True)
    elif rate is None:
        rate = learning_rate.automatic(objective)
    parameters = objective.start()
    cost, slope = objective.value_and_slope(parameters)
    velocities = tuple(np.zeros_like(parameters) for _ in range(update.velocities))
    start = State(0, 0, parameters, cost, False, (np.array([rate]), slope, *velocities))
    rate_max = rate if math.isfinite(objective.curvature) else math.inf
    full_batch = _FullBatch(update, objective, settings, rate_max)
    return Run(start, full_batch.adapted if update.adaptive else full_batch.lowered, rate)


gradient_descent: Prepare = partial(_prepare, UPDATES["gradient_descent"])
momentum: Prepare = partial(_prepare, UPDATES["momentum"])
nesterov: Prepare = partial(_prepare, UPDATES["nesterov"])
adam: Prepare = partial(_prepare, UPDATES["adam"])


class _FullBatch:
    """Steps on all rows.

    The memory of a state: the rate (1,), the slope (at P, or ahead of it where it was taken), the
    velocities. `rate_max` limits a rate that was not given.
    """

    def __init__(
        self, update: Update, objective: Objective, settings: Settings, rate_max: float
    ) -> None:
        self._update = update
        self._objective = objective
        self._settings = settings
        self._limited = bool(objective.l1) or objective.non_negative
        self._rate_max = rate_max
        self._noise = NOISE[objective.rows.dtype.itemsize]
        self._no_gain = NO_GAIN[objective.rows.dtype.itemsize]

    @np.errstate(all="ignore")
    def adapted(self, state: State) -> State:
        """A step of Adam, wherever it leads."""
        rate = float(state.memory[0][0])
        arrival = self._moved(state, state.memory[2:], rate * self._factor(state.epoch))
        gain = rate * float(np.abs(arrival.slope).sum())
        return self._state(state, arrival, rate, gain <= self._no_gain * abs(arrival.cost))

    @np.errstate(all="ignore")
    def lowered(self, state: State) -> State:
        """A step with momentum, or the plain step if that raises the objective."""
        rate, velocities = float(state.memory[0][0]), state.memory[2:]
        factor = self._factor(state.epoch)
        arrival = None
        if any(velocity.any() for velocity in velocities):
            arrival = self._moved(state, velocities, rate * factor)
        if arrival is None or not arrival.cost <= state.cost + self._noise * abs(state.cost):
            arrival, rate = self._plain(state, rate, factor)
        if arrival is None:
            return state._replace(epoch=state.epoch + 1, converged=factor == 1.0)
        gain = self._gain(arrival, rate)
        return self._state(state, arrival, rate, gain <= self._no_gain * abs(arrival.cost))

    def _factor(self, epoch: int) -> float:
        settings = self._settings
        return schedules.factor(settings.schedule, settings.epochs, done=epoch, share=1.0)

    def _state(self, state: State, arrival: _Arrival, rate: float, converged: bool) -> State:
        memory = (np.array([rate]), arrival.slope, *arrival.velocities)
        return State(state.epoch + 1, 0, arrival.parameters, arrival.cost, converged, memory)

    def _plain(self, state: State, rate: float, factor: float) -> tuple[_Arrival | None, float]:
        """The step without velocity and the rate that it took, None if rounding allows none.

        A rate that was given is taken as it is; else it is halved until the objective falls by
        what slope d + |d|^2 / (2 rate) promises, with l1 counted on both sides.
        """
        rest = tuple(np.zeros_like(velocity) for velocity in state.memory[2:])
        if self._settings.learning_rate is not None:
            return self._moved(state, rest, rate * factor), rate
        rate = min(GROWTH * rate, self._rate_max)
        while True:
            arrival = self._moved(state, rest, rate * factor)
            promised = self._promised(state, arrival, rate * factor)
            limit = state.cost - max(promised, 0.0) + self._noise * abs(state.cost)
            if arrival.cost <= limit or not np.isfinite(arrival.pull).all() or math.isnan(rate):
                return arrival, rate
            rate /= 2.0
            if promised <= self._no_gain * abs(state.cost) or not rate:
                return None, rate

    def _moved(self, state: State, velocities: tuple[Array, ...], pace: float) -> _Arrival:
        """The update from P with these velocities at the rate `pace`; all of them are kept."""
        objective, p = self._objective, state.parameters.copy()
        velocities = tuple(velocity.copy() for velocity in velocities)
        ahead, move = self._update.rule(velocities, self._settings.momentum)
        pull = state.memory[1]
        if ahead is not None:
            ahead(p)
            _, pull = objective.value_and_slope(p)
        move(p, pull.copy(), self._scale(pull), pace, state.epoch + 1)
        if self._limited:
            shrink(p[:, :-1], pace * objective.l1, non_negative=objective.non_negative)
            for velocity in velocities:
                np.subtract(p, state.parameters, velocity)
        if ahead is not None:
            return _Arrival(p, velocities, objective.value(p), pull, pull)
        cost, slope = objective.value_and_slope(p)
        return _Arrival(p, velocities, cost, pull, slope)

    def _scale(self, slope: Array) -> float:
        """What shortens the slope to `clip_norm`."""
        clip_norm = self._settings.clip_norm
        if clip_norm is None:
            return 1.0
        length = float(np.linalg.norm(slope))
        return clip_norm / length if length > clip_norm else 1.0

    def _promised(self, state: State, arrival: _Arrival, pace: float) -> float:
        """By how much a quadratic with curvature 1 / pace says that a plain step lowers f."""
        d = (arrival.parameters - state.parameters).ravel()
        fall = -float(d @ arrival.pull.ravel()) - 0.5 * float(d @ d) / max(pace, TINY)
        if self._objective.l1:
            before, after = (
                np.abs(p[:, :-1]).sum() for p in (state.parameters, arrival.parameters)
            )
            fall += self._objective.l1 * float(before - after)
        return fall

    def _gain(self, arrival: _Arrival, rate: float) -> float:
        """What the next plain step promises, at the full rate, and the energy of the velocity."""
        there = arrival.parameters - rate * arrival.slope
        if self._limited:
            objective = self._objective
            shrink(there[:, :-1], rate * objective.l1, non_negative=objective.non_negative)
        there -= arrival.parameters
        energy = sum(float(np.vdot(way, way)) for way in (there, *arrival.velocities))
        return 0.5 * energy / rate
