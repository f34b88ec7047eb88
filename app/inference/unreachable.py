"""An answer where there is none: what can be reached instead, and what stands in the way."""

import numpy as np

from app.inference import explanations
from app.inference.attainable import attainable_of
from app.inference.explanations import told
from app.inference.inversion_schemas import Answer, InvertIn
from app.inference.questions import Asked
from app.inference.rules import Rules
from app.models.trained_model import TrainedModel
from app.numeric.activations import Array
from app.numeric.inversion import misses
from app.numeric.inversion.conflicts import Range, conflict_of
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Answer as Found
from app.numeric.inversion.question import Question, Status
from app.numeric.inversion.wishes import Wish


def out_of_reach(
    model: TrainedModel, body: InvertIn, rules: Rules, asked: Asked, found: Found, clock: Clock
) -> Answer:
    """What can be reached instead, and what stands in the way."""
    if body.items is None:
        # The reason is worth a little more time than was left.
        clock = Clock(max(clock.seconds, 1.0))
    attainable = attainable_of(model, asked.question, clock)
    near, prices, best = None, None, None
    if attainable:
        miss = misses.nearest_miss(model.layer, asked.question, asked.wanted, clock)
        if miss is not None and miss.x is not None:
            best = miss.x
            raw, _, y = explanations.checked(model, rules, [asked], [miss.x])[0]
            near = {
                "input": explanations.named_input(model, asked, raw),
                "prediction": explanations.named_prediction(model, y[0]),
                "label": explanations.label_of(model, y),
                "verified": True,
            }
            wanted = misses.flattened(model.layer, asked.wanted, miss.x)
            prices = misses.prices_of_miss(
                asked.question, wanted, miss.x, wish_units(model, asked, len(wanted.weights))
            )
    conflict = None
    if not attainable or "conflict" in body.returned:
        whole = asked.question
        if attainable:
            wanted = misses.flattened(model.layer, asked.wanted, whole.x if best is None else best)
            whole = whole._replace(conditions=whole.conditions.and_these(*wanted.conditions))
        conflict = conflict_of(whole, clock, training_range(body, rules, whole))
    return told(
        Status.INFEASIBLE,
        found.method,
        0.0,
        [],
        infeasibility={
            "text": explanations.reason(model, attainable, asked.targets),
            "attainable": attainable,
            "nearest": near,
            "binding": [] if prices is None else explanations.binding(body, rules, asked, prices),
            "conflict": explanations.conflict_out(rules, asked, conflict),
        },
    )


def training_range(body: InvertIn, rules: Rules, question: Question) -> Range | None:
    """The limits of numbers without any of their own, which a stricter own limit gives way to."""
    if body.within != "training_range":
        return None
    low, high = ((ends - rules.offset) / rules.scale for ends in (rules.minimum, rules.maximum))
    numbers = question.numbers
    low, high = np.minimum(low, numbers.start), np.maximum(high, numbers.start)
    own_low = np.array([rule.feature.min is not None for rule in rules.numbers], dtype=bool)
    own_high = np.array([rule.feature.max is not None for rule in rules.numbers], dtype=bool)
    return Range(
        np.where(numbers.low > low, low, np.where(own_low, -np.inf, numbers.low)),
        np.where(numbers.high < high, high, np.where(own_high, np.inf, numbers.high)),
    )


def wish_units(model: TrainedModel, asked: Asked, count: int) -> Array:
    """What one unit of z is worth in a miss (count,): of identity that of the output, else 1."""
    units = np.ones(count)
    if model.layer.activation == "identity" and len(asked.wishes) == len(units):
        for row, wish in enumerate(asked.wishes):
            if isinstance(wish, Wish):
                units[row] = model.outputs[wish.output].scale
    return units
