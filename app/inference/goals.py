"""As large or as small as can be, and then the nearest of all that are."""

import numpy as np

from app.inference.questions import Asked
from app.models.trained_model import TrainedModel
from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.inversion import solve
from app.numeric.inversion.misses import prices_of_miss
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Answer as Found
from app.numeric.inversion.question import (
    Conditions,
    Prices,
    Question,
    Status,
    costs_of,
    misses,
    total,
)
from app.numeric.inversion.wishes import Wanted

# Conditions that are missed by no more hold; by less than the other, to the last digits.
HELD, TINY = 1e-9, 1e-12
ONE = np.ones(1)


def nearest_best(model: TrainedModel, asked: Asked, clock: Clock) -> tuple[Found, Wanted]:
    """Of all that make the goals as large as can be, the nearest."""
    direction = asked.goals @ model.layer.w
    if not ACTIVATIONS[model.layer.activation].elementwise:
        # Of softmax, that is of two outputs, what one gains the other loses.
        direction = direction - asked.goals[::-1] @ model.layer.w
    question = asked.question._replace(
        conditions=asked.question.conditions.and_these(*asked.wanted.conditions)
    )
    best = solve.farthest(question, direction, clock)
    if best.x is None:
        return Found(best.status, "lp" if question.is_continuous else "milp"), asked.wanted
    least = best.value - 1e-10 * (1.0 + abs(best.value))
    wanted = asked.wanted._replace(
        conditions=asked.wanted.conditions.and_these(
            direction[None], np.array([least]), np.array([np.inf])
        ),
        weights=np.append(asked.wanted.weights, 1.0),
    )
    found = solve.nearest(model.layer, asked.question, wanted, clock)
    cost = total(question.nearness, costs_of(question, best.x))
    missed = float(misses(question.conditions, best.x).max(initial=0.0))
    if found.x is None:
        # Rounding, or time: the best itself is an answer if it holds what it must.
        if missed > HELD:
            return Found(Status.TIME_LIMIT, found.method), wanted
        found = Found(Status.FEASIBLE, found.method, best.x, cost)
    elif cost <= found.cost * (1.0 + 1e-6) and missed < TINY:
        # As near as any, and without the room that rounding was given.
        bound = cost if found.status is Status.OPTIMAL else found.bound
        found = found._replace(x=best.x, cost=cost, bound=bound)
    if best.status is not Status.OPTIMAL:
        found = found._replace(status=Status.FEASIBLE)
    prices = prices_of_goal(model, asked, question, direction, best.x)
    return found._replace(prices=prices), wanted


def prices_of_goal(
    model: TrainedModel, asked: Asked, question: Question, direction: Array, best: Array
) -> Prices:
    """How much further direction x goes as a limit gives way by one unit.

    Of identity with one goal in units of the output, else in those of z.
    """
    beyond = float(direction @ best) + 1.0
    goal = Wanted(Conditions(direction[None], np.array([beyond]), np.array([np.inf])), ONE, ())
    goals = np.flatnonzero(asked.goals)
    unit = 1.0
    if model.layer.activation == "identity" and len(goals) == 1:
        unit = model.outputs[goals[0]].scale / abs(asked.goals[goals[0]])
    return prices_of_miss(question, goal, best, unit * ONE)
