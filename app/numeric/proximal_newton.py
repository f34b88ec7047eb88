"""Proximal Newton: penalties on |w| and the limit w >= 0, with weights that are exactly 0.

A step goes to where a quadratic model of the smooth part of f, together with l1 |w|_1 and the limit
as they are, is lowest (Lee, Sun and Saunders 2014). Where f is convex and the unknowns are few, the
model is made of the second derivatives at P: `NewtonSteps`. Otherwise one serves for many steps:
`MetricSteps`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.curvature_matrices import (
    TINY,
    bound_matrix,
    centre_of,
    has_own_matrices,
    local_matrices,
    second_derivatives,
    softmax_second_derivatives,
)
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.proximal_model import Model, Penalty, lowest_rows, model_of, unshifted

# Second derivatives of so many unknowns of softmax cost as much as a few dozen passes.
SOFTMAX_UNKNOWNS_MAX = 700
# Costs whose second derivative is 0 over half of the line would give models without a lowest point.
STRICTLY_CONVEX = frozenset(
    {("sigmoid", "cross_entropy"), ("softmax", "cross_entropy"), ("exp", "poisson")}
)
# The share that a step must reach of the decrease that the slope promises (Armijo 1966).
ARMIJO = 1e-4
LENGTH_MIN = 2.0**-60
# The decrease of f, as a share of the rounding unit of the rows, that sums over many rows show.
ROUNDING_SHARE = 0.25

# A metric is made anew after so many steps, after twice as many, four times and so on: the work
# stays a share of the work that it follows.
FIRST_RENEWAL = 12
# A metric is made so much steeper where it led no lower, up to a limit, and so much flatter after
# each step.
STEEPER, FLATTER = 4.0, 0.9
STEEPEST = 1e150
# The weight that follows the weight 1 of a step that starts at P.
SECOND_WEIGHT = 0.5 * (1.0 + math.sqrt(5.0))

BoolArray = NDArray[np.bool_]


def prepare(objective: Objective, settings: Settings) -> Run:
    """Starts at the mean target. All pairs, with or without l1 and the limit w >= 0."""
    steps = NewtonSteps if _has_second_derivatives(objective) else MetricSteps
    method = steps(objective, settings.tolerance)
    return Run(method.state_at(objective.start()), method.step, learning_rate=None)


def _has_second_derivatives(objective: Objective) -> bool:
    """Whether they exist, are positive, and few enough."""
    if (objective.activation, objective.cost) not in STRICTLY_CONVEX:
        return False
    if objective.sigma.elementwise:
        return has_own_matrices(objective)
    return math.prod(objective.shape) <= SOFTMAX_UNKNOWNS_MAX


def _rounding_of(objective: Objective) -> float:
    return ROUNDING_SHARE * float(np.finfo(objective.rows.dtype).eps)


class NewtonMemory(NamedTuple):
    """The slope (m, n + 1) at P; and of each part of f: its value, and what its last step promised.

    A part is an output or, of softmax, all of them: (m,) or (1,). Values are without l1.
    """

    slope: Array
    values: Array
    gains: Array


class NewtonSteps:
    """Steps with the second derivatives at P, of each part of f by itself: model, length and end.

    The memory of a state is a NewtonMemory.
    """

    def __init__(self, objective: Objective, tolerance: float) -> None:
        self._objective = objective
        self._penalty = Penalty(objective.l1, objective.non_negative)
        self._rounding = _rounding_of(objective)
        self._tolerance = max(tolerance, self._rounding)
        self._centre = centre_of(objective.rows)

    @np.errstate(over="ignore", invalid="ignore")
    def state_at(self, parameters: Array) -> State:
        """The state before the first step, from any allowed P (m, n + 1)."""
        values, slope = self._objective.values_and_slope(parameters)
        memory = NewtonMemory(slope, values, np.full(len(values), math.inf))
        cost = float((values + self._l1(parameters, len(values))).sum())
        return State(0, 0, parameters, cost, False, memory)

    @np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore")
    def step(self, state: State) -> State:
        """One step of each part that goes on."""
        memory, epoch = NewtonMemory(*state.memory), state.epoch + 1
        parts = len(memory.values)
        least = self._tolerance * abs(state.cost) / parts
        active = memory.gains > least
        models = self._models(state.parameters, active)
        if models is None or not np.isfinite(memory.slope).all():
            return state._replace(epoch=epoch, cost=math.nan)
        there, gains = state.parameters.copy(), memory.gains.copy()
        rows = there.reshape(parts, -1, there.shape[1])
        for part, model in models.items():
            slope = memory.slope.reshape(rows.shape)[part]
            rows[part], gains[part] = lowest_rows(model, rows[part], slope, self._penalty)
        return self._shortened(state, there, gains, active)

    def _models(self, parameters: Array, active: BoolArray) -> dict[int, Model] | None:
        """Models of the active parts; None if they overflow."""
        objective, parts = self._objective, np.flatnonzero(active)
        if objective.sigma.elementwise:
            matrices = second_derivatives(objective, parameters, parts, centre=self._centre)
            found = [model_of(matrix, self._centre) for matrix in matrices]
        else:
            matrix = softmax_second_derivatives(objective, parameters, centre=self._centre)
            found = [model_of(matrix, self._centre, outputs=len(parameters))] if len(parts) else []
        models = {part: model for part, model in zip(parts.tolist(), found, strict=True) if model}
        return models if len(models) == len(parts) else None

    def _shortened(self, state: State, there: Array, gains: Array, active: BoolArray) -> State:
        """The state after the step of each active part, halved until its value falls enough."""
        memory = NewtonMemory(*state.memory)
        start, parts = state.parameters, len(gains)
        before = memory.values + self._l1(start, parts)
        way = there - start
        promised = (way * memory.slope).reshape(parts, -1).sum(axis=1)
        promised += self._l1(there, parts) - self._l1(start, parts)
        hidden = max(self._rounding * abs(state.cost) / parts, TINY)
        length = active.astype(np.float64)
        while True:
            each = np.repeat(length, len(start) // parts)[:, np.newaxis]
            # Not start + way at length 1: zeros and limits are to be met exactly.
            trial = np.where(each == 1.0, there, np.where(each > 0.0, start + each * way, start))
            values, slope = self._objective.values_and_slope(trial)
            after = values + self._l1(trial, parts)
            failed = (length > 0.0) & ~(after <= before + ARMIJO * length * promised)
            if not failed.any():
                break
            length[failed] *= 0.5
            length[failed & ~((length * gains > hidden) & (length > LENGTH_MIN))] = 0.0
        cost = float(after.sum())
        gains = np.where(active & (length == 0.0), 0.0, gains)
        converged = bool((gains <= self._tolerance * abs(cost) / parts).all())
        memory = NewtonMemory(slope, values, gains)
        return State(state.epoch + 1, 0, trial, cost, converged, memory)

    def _l1(self, parameters: Array, parts: int) -> Array:
        """l1 |w|_1 of each part."""
        sizes: Array = np.abs(parameters[:, :-1]).reshape(parts, -1).sum(axis=1)
        return self._objective.l1 * sizes


class MetricMemory(NamedTuple):
    """How P came here, and what the metric is.

    `last`: the last step (m, n + 1). `numbers`: the weight that says how far to go on in its
    direction, and the scale of the metric. `reference`: P where the metric was made; (0, n + 1)
    while it is that of the bound.
    """

    last: Array
    numbers: Array
    reference: Array


class Attempt(NamedTuple):
    """P (m, n + 1) where the model is lowest, f there, and by how much the model saw f fall."""

    parameters: Array
    cost: float
    gain: float


class MetricSteps:
    """Steps with one matrix for a while: first of the bound of the curvature, then of its size.

    The model of the bound lies above f, so that a step never raises f (of softmax: diag(p) - p p^T
    <= 1/2 I); other metrics are made steeper until it does not. With identity and squared error the
    model is f. Steps start beyond P, in the direction of the last one (Beck and Teboulle 2009), and
    from P again as soon as that has not led lower (O'Donoghue and Candes 2015).
    The memory of a state is a MetricMemory.
    """

    def __init__(self, objective: Objective, tolerance: float) -> None:
        self._objective = objective
        self._penalty = Penalty(objective.l1, objective.non_negative)
        self._rounding = _rounding_of(objective)
        self._tolerance = max(tolerance, self._rounding)
        self._centre = centre_of(objective.rows)
        self._bounded = self._models(bound_matrix(objective, np.float64, centre=self._centre))
        self._local: tuple[Array, list[Model]] = (np.empty(0), [])

    def state_at(self, parameters: Array) -> State:
        """The state before the first step, from any allowed P (m, n + 1)."""
        reference = np.empty((0, parameters.shape[1]))
        memory = MetricMemory(np.zeros_like(parameters), np.ones(2), reference)
        return State(0, 0, parameters, self._objective.value(parameters), False, memory)

    @np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore")
    def step(self, state: State) -> State:
        """One step that lowers f; the same P, converged, if nothing lower is found."""
        memory, epoch = MetricMemory(*state.memory), state.epoch + 1
        weight, scale = memory.numbers.tolist()
        models = self._models_of(memory.reference)
        following = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * weight * weight))
        beyond = (weight - 1.0) / following
        found = self._attempt(state.parameters + beyond * memory.last, models, scale)
        if beyond and not found.cost < state.cost:
            following, beyond = SECOND_WEIGHT, 0.0
            found = self._attempt(state.parameters, models, scale)
        hidden = max(self._rounding * abs(state.cost), TINY)
        while not found.cost < state.cost and found.gain > hidden and scale < STEEPEST:
            scale *= STEEPER
            found = self._attempt(state.parameters, models, scale)
        if not math.isfinite(state.cost + found.gain):
            return state._replace(epoch=epoch, cost=math.nan)
        if not found.cost < state.cost:
            return state._replace(epoch=epoch, converged=True)
        least = self._tolerance * abs(found.cost)
        gain = max(scale, 1.0) * found.gain
        arrived = gain <= least and state.cost - found.cost <= least
        last, reference = found.parameters - state.parameters, memory.reference
        # A step from beyond P may be short for other reasons: the next one, from P, decides.
        numbers = np.array([1.0 if arrived else following, FLATTER * scale])
        # However little f falls: where the metric is what makes it slow, little says nothing.
        if _is_due(epoch) and not arrived:
            last, numbers, reference = np.zeros_like(last), np.ones(2), found.parameters
        memory = MetricMemory(last, numbers, reference)
        converged = arrived and not beyond
        return State(epoch, 0, found.parameters, found.cost, converged, memory)

    def _attempt(self, start: Array, models: list[Model], scale: float) -> Attempt:
        """Where the model at some start is lowest; nothing that is lower if it overflows."""
        _, slope = self._objective.value_and_slope(start)
        if not models or not np.isfinite(slope).all():
            return Attempt(start, math.nan, math.nan)
        rows, gain = np.empty_like(start), 0.0
        for output in range(len(start)):
            model = models[output % len(models)]
            own = slice(output, output + 1)
            rows[own], fall = lowest_rows(model, start[own], slope[own], self._penalty, scale)
            gain += fall
        if not self._objective.sigma.elementwise:
            rows[:, :-1] = unshifted(rows[:, :-1], self._objective.l2, self._penalty)
        return Attempt(rows, self._objective.value(rows), gain)

    def _models_of(self, reference: Array) -> list[Model]:
        """The models of the metric made at a reference: one, or one for each output.

        None at all if they overflow. Those made last are kept, others are made anew, with the same
        bits.
        """
        if not len(reference):
            return self._bounded
        if reference is not self._local[0] and not np.array_equal(reference, self._local[0]):
            matrices = local_matrices(self._objective, reference, np.float64, centre=self._centre)
            self._local = reference, self._models(matrices) or self._bounded
        return self._local[1]

    def _models(self, matrices: Array) -> list[Model]:
        """The models of matrices of one output each; none if one is not finite."""
        found = [model_of(matrix, self._centre) for matrix in matrices]
        models = [model for model in found if model is not None]
        return models if len(models) == len(found) else []


def _is_due(epoch: int) -> bool:
    """Whether the epoch is FIRST_RENEWAL times a power of 2."""
    times, rest = divmod(epoch, FIRST_RENEWAL)
    return not rest and times & (times - 1) == 0
