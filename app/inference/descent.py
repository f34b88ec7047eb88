"""Down the slope dC/dx, from the start or from the exact answer."""

import numpy as np

from app.errors import InvalidInput
from app.inference import explanations
from app.inference.explanations import told
from app.inference.inversion_schemas import Answer, InvertIn
from app.inference.questions import Asked
from app.inference.rules import Rules
from app.models.trained_model import TrainedModel
from app.numeric.inversion import gradient, solve
from app.numeric.inversion.gradient import Descent, Goal
from app.numeric.inversion.program import Clock
from app.numeric.inversion.wishes import ClassWish

TRACE_POINTS_MAX = 1000
# A class is predicted from this probability on, whatever the others have.
MAJORITY = 0.501


def by_gradient(
    model: TrainedModel, body: InvertIn, rules: Rules, asked: Asked, clock: Clock
) -> Answer:
    """Down the slope from the start, or from the exact answer. Categories stay at their start."""
    question, numbers = asked.question, asked.question.numbers
    x_low, x_high = question.x.copy(), question.x.copy()
    x_low[numbers.at], x_high[numbers.at] = numbers.low, numbers.high
    start = question.x
    if body.gradient_from == "exact":
        still = question._replace(choices=())
        exact = solve.nearest(model.layer, still, asked.wanted, clock)
        start = start if exact.x is None else exact.x
    found = gradient.descend(
        model.layer,
        start,
        goal_of(model, asked, body.tolerance),
        x_low,
        x_high,
        learning_rate=None if body.learning_rate == "auto" else body.learning_rate,
        steps_max=body.steps_max,
        clock=clock,
    )
    if not np.isfinite(found.trace).all():
        raise InvalidInput("The values are too large for this model.")
    checked = explanations.checked(model, rules, [asked], [found.x])[0]
    answer = explanations.solution(model, body, rules, asked, checked, None)
    return told(
        found.status,
        "gradient",
        None,
        [answer],
        trace=trace_of(found) if "trace" in body.returned else None,
        warnings=held_categories(rules),
    )


def goal_of(model: TrainedModel, asked: Asked, tolerance: float) -> Goal:
    """The intervals that the gradient goes for, in the units of sigma."""
    m = len(model.outputs)
    low, high, weight = np.full(m, -np.inf), np.full(m, np.inf), np.ones(m)
    for wish in asked.wishes:
        if isinstance(wish, ClassWish):
            share = max(wish.probability or 0.0, MAJORITY)
            if m == 1:
                low[0], high[0] = (share, np.inf) if wish.winner else (-np.inf, 1.0 - share)
            else:
                low[wish.winner] = share
        else:
            low[wish.output], high[wish.output] = wish.low, wish.high
            weight[wish.output] = wish.weight
    scaling = model.output_scaling
    sizes = np.abs(scaling.offset + scaling.scale * np.array([low, high]))
    smaller = np.where(np.isfinite(sizes), sizes, 1.0).min(axis=0)
    # As strict in the units of sigma as the tolerance is in those of the caller.
    near = tolerance * np.maximum(1.0, smaller)
    return Goal(low, high, weight, near / scaling.scale)


def trace_of(found: Descent) -> Answer:
    count = len(found.trace)
    steps = np.unique(np.linspace(0, count - 1, min(count, TRACE_POINTS_MAX)).astype(int))
    return {"step": steps.tolist(), "cost": found.trace[steps].tolist()}


def held_categories(rules: Rules) -> list[str]:
    names = [rule.item.name for rule in rules.levels if not rule.frozen]
    if not names:
        return []
    return [f"The gradient holds categories at their start: {', '.join(names[:20])}."]
