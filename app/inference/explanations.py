"""An answer of the numeric core in the caller's words: named values, changes, prices, sentences."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.errors import InvalidInput
from app.inference.inversion_schemas import Answer, InvertIn, TargetIn
from app.inference.questions import Asked, raw_of, tells_probability
from app.inference.rules import Rules
from app.models.trained_model import TrainedModel
from app.numeric import encoding
from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.class_scores import predicted_classes
from app.numeric.inversion.conflicts import Conflict, Demand, Kind
from app.numeric.inversion.question import Prices, Status, costs_of, total
from app.numeric.inversion.robustness import robustness
from app.numeric.inversion.wishes import ClassWish
from app.numeric.preprocessing import CategoricalInput

# A change smaller than this share of an input's spread is rounding, not advice.
CHANGE_MIN = 1e-9
PRICE_MIN = 1e-9
TOLD_MAX = 12
# A probability beyond this is no reason for anything.
CERTAIN = 1.0 - 1e-6


def told(
    status: Status,
    method: str,
    gap: float | None,
    solutions: list[Answer],
    *,
    infeasibility: Answer | None = None,
    trace: Answer | None = None,
    warnings: Sequence[str] = (),
) -> Answer:
    """The shape of every result."""
    return {
        "status": status,
        "method": method,
        "gap": gap,
        "solutions": solutions,
        "infeasibility": infeasibility,
        "trace": trace,
        "warnings": list(warnings),
    }


class Checked(NamedTuple):
    """An input, raw (k,) and encoded (n,), with what predict makes of it, y (1, m)."""

    raw: Array
    x: Array
    y: Array


def checked(
    model: TrainedModel, rules: Rules, asked: Sequence[Asked], found: Sequence[Array]
) -> list[Checked]:
    """The x found for each question as inputs, run forward the way of predict."""
    if not found:
        return []
    raw = np.array([raw_of(rules, one, x) for one, x in zip(asked, found, strict=True)])
    exact = encoding.encode(model.preprocessing, raw)
    y = model.outputs_of(exact)
    return [Checked(*values) for values in zip(raw, exact, y[:, np.newaxis], strict=True)]


def solution(
    model: TrainedModel,
    body: InvertIn,
    rules: Rules,
    asked: Asked,
    found: Checked,
    prices: Prices | None,
) -> Answer:
    """An input as a solution. Raises InvalidInput if numbers overflow."""
    raw, exact, y = found
    costs = costs_of(asked.question, exact)
    if not (np.isfinite(y).all() and np.isfinite(costs).all()):
        raise InvalidInput("The values are too large for this model.")
    changes = changes_of(rules, asked, raw, costs)
    duals = "duals" in body.returned
    return {
        "input": named_input(model, asked, raw),
        "changes": changes,
        "prediction": named_prediction(model, y[0]),
        "label": label_of(model, y),
        "verified": is_verified(model, asked, exact, y, body.tolerance),
        "cost": total(asked.question.nearness, costs),
        "distance": distance_of(rules, asked, exact, len(changes)),
        "in_training_range": in_training_range(rules, raw),
        "robustness": robustness_of(asked, exact),
        "binding": binding(body, rules, asked, prices) if duals and prices is not None else None,
        "text": sentence(changes),
    }


def changes_of(rules: Rules, asked: Asked, raw: Array, costs: Array) -> list[Answer]:
    """What changed, the costliest first; `costs` are those of the numbers, then of the choices."""
    before, after = asked.start[rules.places], raw[rules.places]
    changed = np.flatnonzero(np.abs(after - before) > CHANGE_MIN * rules.scale)
    changes: list[Answer] = [
        {
            "feature": rules.numbers[k].item.name,
            "from": was,
            "to": became,
            "delta": became - was,
            "cost": cost,
        }
        for k, was, became, cost in zip(
            changed.tolist(),
            before[changed].tolist(),
            after[changed].tolist(),
            costs[changed].tolist(),
            strict=True,
        )
    ]
    for choice in rules.levels:
        level, new = int(asked.start[choice.place]), int(raw[choice.place])
        if new != level:
            levels = choice.item.levels
            changes.append(
                {
                    "feature": choice.item.name,
                    "from": levels[level],
                    "to": levels[new],
                    "delta": None,
                    "cost": float(choice.costs[level, new]),
                }
            )
    return sorted(changes, key=lambda change: -change["cost"])


def sentence(changes: Sequence[Answer]) -> str:
    """Raise cement by 49 and lower water by 9."""
    parts = []
    for change in changes[:TOLD_MAX]:
        name, delta = change["feature"], change["delta"]
        if delta is None:
            parts.append(f"set {name} to {change['to']}")
        else:
            parts.append(f"{'raise' if delta > 0 else 'lower'} {name} by {told_size(abs(delta))}")
    if not parts:
        return "Nothing has to change."
    if len(changes) > TOLD_MAX:
        parts.append(f"change {len(changes) - TOLD_MAX} more")
    text = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{text[0].upper()}{text[1:]}."


def told_size(size: float) -> str:
    """Four digits, and of large numbers all before the point: 0.4541, 12,840."""
    return f"{size:,.0f}" if 1e3 <= size < 1e9 else f"{size:.4g}"


def distance_of(rules: Rules, asked: Asked, x: Array, changed: int) -> Answer:
    numbers = asked.question.numbers
    moved = np.abs(x[numbers.at] - numbers.start)
    switched = [
        float(x[rule.column : rule.column + len(rule.item.levels)].argmax() != level)
        for rule in rules.levels
        if (level := int(asked.start[rule.place])) >= 0
    ]
    moved = np.append(moved, switched)
    return {
        "l1": float(moved.sum()),
        "l2": float(np.sqrt(np.square(moved).sum())),
        "linf": float(moved.max(initial=0.0)),
        "changed": changed,
    }


def in_training_range(rules: Rules, raw: Array) -> bool:
    """Whether every number lies between the least and the greatest of the training rows."""
    values = raw[rules.places]
    return bool(((values >= rules.minimum) & (values <= rules.maximum)).all())


def is_verified(model: TrainedModel, asked: Asked, x: Array, y: Array, tolerance: float) -> bool:
    """Whether the prediction y (1, m) is what was wanted, and the constraints hold."""
    conditions = asked.question.conditions
    size = 1.0 + np.abs(conditions.a) @ np.abs(x)
    value = conditions.a @ x
    held = (value >= conditions.low - 1e-9 * size) & (value <= conditions.high + 1e-9 * size)
    if not held.all():
        return False
    for name, target in asked.targets.items():
        numeric = target.goal is None and target.label is None
        if numeric and not _is_met(model, name, target, y, tolerance):
            return False
    labels = [target for target in asked.targets.values() if target.label is not None]
    wishes = [wish for wish in asked.wishes if isinstance(wish, ClassWish)]
    return all(
        _is_predicted(model, target, wish, x, y, tolerance)
        for target, wish in zip(labels, wishes, strict=True)
    )


def _is_predicted(
    model: TrainedModel, target: TargetIn, wish: ClassWish, x: Array, y: Array, tolerance: float
) -> bool:
    """Whether the class is predicted, by the margin and with the probability that are wanted."""
    if label_of(model, y) != target.label:
        return False
    if lead_of(model, x, wish) < target.margin - tolerance * max(1.0, target.margin):
        return False
    if target.probability is None:
        return True
    probabilities = model.probabilities(y)
    return probabilities is not None and bool(
        probabilities[0, wish.winner] >= target.probability - tolerance
    )


def lead_of(model: TrainedModel, x: Array, wish: ClassWish) -> float:
    """By how much z of a class leads that of every other; of one output, its threshold."""
    z = model.layer.w @ x + model.layer.b
    if len(z) > 1:
        return float(z[wish.winner] - np.delete(z, wish.winner).max())
    inverse = ACTIVATIONS[model.layer.activation].inverse
    threshold = np.asarray(wish.threshold)
    lead = float(z[0] - (threshold if inverse is None else inverse(threshold)))
    return lead if wish.winner else -lead


def _is_met(model: TrainedModel, name: str, target: TargetIn, y: Array, tolerance: float) -> bool:
    value = float(y[0, model.output_names.index(name)])
    low = target.min if target.value is None else target.value
    high = target.max if target.value is None else target.value
    return (low is None or value >= low - tolerance * max(1.0, abs(low))) and (
        high is None or value <= high + tolerance * max(1.0, abs(high))
    )


def robustness_of(asked: Asked, x: Array) -> Answer:
    wishes = asked.plain
    several = [isinstance(wish, ClassWish) for wish in asked.wishes]
    read = np.full(len(wishes.weights), 2.0 if any(several) and len(asked.goals) > 1 else 1.0)
    found = robustness(wishes.conditions, x, asked.question.numbers.at, read)
    return {
        name: None if np.isinf(value) or wishes.curved else value
        for name, value in found._asdict().items()
    }


def binding(body: InvertIn, rules: Rules, asked: Asked, prices: Prices) -> list[Answer]:
    """The limits that hold back, the dearest first, with their price per raw unit."""
    found: list[Answer] = []
    for index, rule in enumerate(rules.numbers):
        for end, price, value in (
            ("min", prices.low[index], asked.low[rule.place]),
            ("max", prices.high[index], asked.high[rule.place]),
        ):
            # Multiples are held by their steps: their limits have no price of their own.
            if price > PRICE_MIN and np.isfinite(value):
                found.append(
                    {
                        "limit": limit_name(rules, asked, index, end),
                        "value": float(value),
                        "price": float(price / rule.item.scale),
                    }
                )
    for row in range(len(rules.conditions.low)):
        price = max(prices.condition_low[row], prices.condition_high[row])
        if price > PRICE_MIN:
            value = body.constraints[row].value
            found.append({"limit": f"constraints[{row}]", "value": value, "price": float(price)})
    return sorted(found, key=lambda limit: -limit["price"])


def limit_name(rules: Rules, asked: Asked, index: int, end: str) -> str:
    """Who set the limit of a number: `features.cement.max`, `training_range.age.min` ..."""
    rule = rules.numbers[index]
    name, feature = rule.item.name, rule.feature
    if feature.frozen:
        return f"features.{name}.frozen"
    limit = (asked.low if end == "min" else asked.high)[rule.place]
    one_way = feature.direction == ("up" if end == "min" else "down")
    if one_way and limit == asked.start[rule.place]:
        return f"features.{name}.direction"
    own = feature.min if end == "min" else feature.max
    return f"{'training_range' if own is None else 'features'}.{name}.{end}"


def conflict_out(rules: Rules, asked: Asked, conflict: Conflict | None) -> Answer | None:
    if conflict is None:
        return None
    demands = [demand_name(rules, asked, demand) for demand in conflict.demands]
    return {"demands": list(dict.fromkeys(demands)), "smallest": conflict.smallest}


def demand_name(rules: Rules, asked: Asked, demand: Demand) -> str:
    """`target`, `constraints[0]`, `features.cement.max`, `features.species.levels` ..."""
    if demand.kind in (Kind.CONDITION_LOW, Kind.CONDITION_HIGH):
        own = len(rules.conditions.low)
        if demand.place < own:
            return f"constraints[{demand.place}]"
        names = list(asked.targets)
        return f"target.{names[0]}" if len(names) == 1 else "target"
    if demand.kind in (Kind.LOW, Kind.HIGH):
        end = "min" if demand.kind is Kind.LOW else "max"
        return limit_name(rules, asked, demand.place, end)
    if demand.kind is Kind.RANGE:
        return "within"
    if demand.kind is Kind.LEVELS:
        open_rules = [
            rule for rule in rules.levels if not rule.frozen and asked.start[rule.place] >= 0
        ]
        return f"features.{open_rules[demand.place].item.name}.levels"
    return "max_changed"


def label_of(model: TrainedModel, y: Array) -> str | None:
    """The predicted label of y (1, m)."""
    if model.classes is None:
        return None
    return model.classes.levels[int(predicted_classes(y)[0])]


def named_input(model: TrainedModel, asked: Asked, raw: Array) -> dict[str, Any]:
    """By name; a level that the model does not know as the caller wrote it."""
    named: dict[str, Any] = {}
    for column, value in zip(model.preprocessing.inputs, raw, strict=True):
        if not isinstance(column, CategoricalInput):
            named[column.name] = float(value)
        else:
            known = value >= 0
            named[column.name] = column.levels[int(value)] if known else asked.row[column.name]
    return named


def named_prediction(model: TrainedModel, y: Array) -> dict[str, float]:
    return dict(zip(model.output_names, y.tolist(), strict=True))


def reason(
    model: TrainedModel, attainable: Mapping[str, Answer], targets: Mapping[str, TargetIn]
) -> str:
    """strength reaches at most 46.2 within the limits."""
    for name, target in targets.items():
        if target.label is not None and attainable:
            return class_reason(model, attainable, target.label)
        interval = attainable.get(name)
        if interval is None:
            continue
        low = target.min if target.value is None else target.value
        high = target.max if target.value is None else target.value
        if low is not None and interval["max"] is not None and low > interval["max"]:
            return f"Within the limits {name} reaches {interval['max']:.6g} at most."
        if high is not None and interval["min"] is not None and high < interval["min"]:
            return f"Within the limits {name} is {interval['min']:.6g} at least."
    if not attainable:
        return "The limits and constraints contradict each other, whatever the target."
    return "Within the limits no input gives all that is wanted at once."


def class_reason(model: TrainedModel, attainable: Mapping[str, Answer], label: str) -> str:
    """No input within the limits is predicted as Gentoo; its probability is 0.07 at most."""
    text = f"Within the limits no input is told to be {label} as clearly as wanted"
    if not tells_probability(model) or model.classes is None:
        return f"{text}."
    place = model.classes.levels.index(label)
    ends = attainable[model.output_names[place if len(model.outputs) > 1 else 0]]
    most = ends["max"] if len(model.outputs) > 1 or place == 1 else 1.0 - ends["min"]
    if most >= CERTAIN:
        return f"{text}."
    return f"{text}; its probability is {most:.4g} at most."
