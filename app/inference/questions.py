"""A start and a target under the rules of a body, as a question to the numeric core."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import Fault, InvalidInput
from app.inference import magnitudes, wire
from app.inference.inversion_schemas import InvertIn, Row, TargetIn
from app.inference.rules import Rules, first_multiple, last_multiple, unknown_names
from app.models.trained_model import TrainedModel
from app.numeric import encoding, preprocessing
from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.errors import OutOfRange
from app.numeric.inversion.question import Choice, Numbers, Question
from app.numeric.inversion.robustness import tightened
from app.numeric.inversion.wishes import ClassWish, Wanted, Wish, wanted_of

# A number that differs from its start by less, in units of x, differs by rounding.
DUST = 1e-13


class Item(NamedTuple):
    """A start and targets, with the pointers to where these stand in the body."""

    start: Row | None
    start_pointer: str
    targets: Mapping[str, TargetIn]
    pointer: str
    pointers: Mapping[str, str]


class Asked(NamedTuple):
    """One question: `start`, `low` and `high` are raw; of a category they are level codes.

    `row` is the start as it was given. `wanted` holds for inputs that are off as robust_epsilon
    says, `plain` only for exact ones.
    `goals` (m,): how much each output is to be large (above 0) or small, 0 if it is not.
    """

    start: Array
    low: Array
    high: Array
    question: Question
    row: Row
    targets: dict[str, TargetIn]
    wishes: tuple[Wish | ClassWish, ...]
    wanted: Wanted
    plain: Wanted
    goals: Array


def starts_of(
    model: TrainedModel, rows: list[tuple[Row | None, str]], faults: list[Fault]
) -> Array:
    """Raw starts (T, k) of rows, each with the pointer to it; what a row leaves out is typical."""
    typical = preprocessing.typical_row(model.preprocessing)
    starts = np.tile(typical, (len(rows), 1))
    for start, (given, pointer) in zip(starts, rows, strict=True):
        if not given:
            continue
        known = (*model.input_names, *model.target_names)
        faults += unknown_names(pointer.removeprefix("/"), given, known)
        for k, column in enumerate(model.preprocessing.inputs):
            if column.name not in given:
                continue
            codes = {level: code for code, level in enumerate(wire.levels_of(column))}
            cell = given[column.name]
            value = wire.cell_value(column, codes, float(cell) if type(cell) is int else cell)
            if isinstance(value, str):
                at = f"{pointer}/{wire.escaped(column.name)}"
                faults.append(Fault(value, at, column=column.name))
            elif np.isnan(value) and column.fill is not None:
                # An answer has every value, so what is missing starts where training filled it.
                start[k] = column.fill
            else:
                start[k] = value
    faults += magnitudes.start_faults(model, starts, [pointer for _, pointer in rows])
    return starts


class Limits(NamedTuple):
    """Raw limits (T, k) of starts (T, k); of a category both are its start."""

    low: Array
    high: Array


def limits_of(rules: Rules, starts: Array, faults: list[Fault]) -> Limits:
    """Of every start. A start beside the training range may stay where it is."""
    low, high = starts.copy(), starts.copy()
    for rule in rules.numbers:
        start, feature = starts[:, rule.place], rule.feature
        least, most = np.full(len(start), rule.low), np.full(len(start), rule.high)
        if feature.min is None:
            first = first_multiple(start, rule.step) if rule.step else start
            least = np.minimum(least, first)
        if feature.max is None:
            last = last_multiple(start, rule.step) if rule.step else start
            most = np.maximum(most, last)
        if feature.direction == "up":
            least = np.maximum(least, start)
        if feature.direction == "down":
            most = np.minimum(most, start)
        if feature.frozen:
            own_low = -np.inf if feature.min is None else feature.min
            own_high = np.inf if feature.max is None else feature.max
            outside = (start < own_low) | (start > own_high)
            if outside.any():
                faults.append(_frozen_fault(rule.item.name, float(start[outside.argmax()])))
            least = most = start
        if (least > most).any():
            faults.append(
                Fault(
                    f"Nothing is left of {rule.item.name!r} between its limits.",
                    f"/features/{wire.escaped(rule.item.name)}",
                    column=rule.item.name,
                )
            )
        low[:, rule.place], high[:, rule.place] = least, most
    return Limits(low, high)


def level_faults(rules: Rules, starts: Array, *, held: bool) -> list[Fault]:
    """The categories of which no level is left to some start.

    Those that are unknown or frozen stay, and all of them where they are `held`.
    """
    faults = []
    for rule in rules.levels:
        barred = np.isinf(rule.costs.diagonal())
        levels = np.unique(starts[:, rule.place]).astype(int)
        stuck = [
            barred.any() if level < 0 else np.isinf(rule.costs[level]).all() for level in levels
        ]
        if held or rule.frozen:
            stuck = [barred.any() if level < 0 else barred[level] for level in levels]
        if any(stuck):
            detail = (
                f"No level of {rule.item.name!r} is left: its start can neither stay nor change."
            )
            at = f"/features/{wire.escaped(rule.item.name)}"
            faults.append(Fault(detail, at, column=rule.item.name))
    return faults


def _frozen_fault(name: str, start: float) -> Fault:
    detail = f"{name!r} is frozen at {start:g}, which its own min or max does not allow."
    return Fault(detail, f"/features/{wire.escaped(name)}", column=name)


def choices_of(rules: Rules, start: Array) -> tuple[Choice, ...]:
    """The categories that may change; one that starts at no known level stays so."""
    choices = []
    for rule in rules.levels:
        level = int(start[rule.place])
        if level < 0 or rule.frozen:
            continue
        choices.append(Choice(rule.column, level, rule.costs[level]))
    return tuple(choices)


def questions_of(
    model: TrainedModel, body: InvertIn, rules: Rules, starts: Array, limits: Limits
) -> list[Question]:
    """The question of each start, without its target."""
    x = encoding.encode(model.preprocessing, starts)
    low, high = (
        (ends[:, rules.places] - rules.offset) / rules.scale for ends in (limits.low, limits.high)
    )
    questions = []
    for row, start in enumerate(starts):
        numbers = Numbers(
            at=rules.columns,
            start=x[row, rules.columns],
            low=low[row],
            high=high[row],
            origin=-rules.offset / rules.scale,
            spacing=rules.spacing,
            cost_up=rules.cost_up,
            cost_down=rules.cost_down,
        )
        questions.append(
            Question(
                x=x[row].copy(),
                numbers=numbers,
                choices=choices_of(rules, start),
                conditions=rules.conditions,
                nearness=body.nearness,
                changed_max=body.max_changed,
            )
        )
    return questions


def target_faults(
    model: TrainedModel, body: InvertIn, targets: Mapping[str, TargetIn], pointer: str
) -> list[Fault]:
    """Every mistake in the targets."""
    if not targets:
        return [Fault("There is no target.", pointer)]
    known = tuple(dict.fromkeys((*model.output_names, *model.target_names)))
    faults = unknown_names(pointer.removeprefix("/"), targets, known)
    for name, target in targets.items():
        detail = _target_fault(model, name, target) if name in known else None
        if detail is None and body.method == "gradient":
            detail = _gradient_fault(model, target)
        if detail is not None:
            faults.append(Fault(detail, f"{pointer}/{wire.escaped(name)}"))
    return faults


def _target_fault(model: TrainedModel, name: str, target: TargetIn) -> str | None:
    classes = model.classes
    if classes is not None and name == classes.target and name not in model.output_names:
        if target.label is None:
            return f"{name!r} is a label: give a class."
        if target.label not in classes.levels:
            return (
                f"{target.label[:80]!r} is no label of {name!r}: {', '.join(classes.levels[:20])}."
            )
        told = target.probability is None or tells_probability(model)
        return None if told else "This model gives no probability."
    if target.label is not None:
        return f"{name!r} has no classes."
    return magnitudes.target_fault(model.outputs[model.output_names.index(name)], target)


def _gradient_fault(model: TrainedModel, target: TargetIn) -> str | None:
    if target.goal is not None:
        return "The gradient knows no maximize or minimize. Use method 'auto'."
    if target.margin:
        return "The gradient knows no margin. Use method 'auto'."
    if target.label is not None and not tells_probability(model):
        return "The gradient follows a probability, and this model gives none. Use method 'auto'."
    return None


def tells_probability(model: TrainedModel) -> bool:
    """Whether the outputs are probabilities, 1 in sum."""
    activation = model.layer.activation
    return activation == "softmax" or (activation == "sigmoid" and len(model.outputs) == 1)


def wishes_of(
    model: TrainedModel,
    targets: Mapping[str, TargetIn],
    *,
    stepped: bool = False,
    tolerance: float = 0.0,
) -> list[Wish | ClassWish]:
    """The wishes of targets, in units of the layer; goals are none.

    `stepped`: every number that moves goes in steps.
    """
    wishes: list[Wish | ClassWish] = []
    for name, target in targets.items():
        if target.label is not None and model.classes is not None:
            scaling = model.output_scaling
            threshold = (0.5 - scaling.offset[0]) / scaling.scale[0]
            wishes.append(
                ClassWish(
                    model.classes.levels.index(target.label),
                    target.margin,
                    target.probability,
                    float(threshold),
                    target.weight,
                )
            )
        elif target.goal is None:
            index = model.output_names.index(name)
            output = model.outputs[index]
            low = target.min if target.value is None else target.value
            high = target.max if target.value is None else target.value
            if stepped and target.value is not None:
                # Where nothing moves freely, a value is met as nearly as it must be.
                near = tolerance * max(1.0, abs(target.value))
                low, high = target.value - near, target.value + near
            least = -np.inf if low is None else (low - output.offset) / output.scale
            most = np.inf if high is None else (high - output.offset) / output.scale
            wishes.append(Wish(index, least, most, target.weight))
    return wishes


def wanted_by(
    model: TrainedModel, wishes: list[Wish | ClassWish], pointers: Mapping[str, str]
) -> Wanted:
    """The wishes as conditions. Raises InvalidInput for what the activation never gives."""
    try:
        return wanted_of(model.layer, wishes)
    except OutOfRange as error:
        output = model.outputs[error.output]
        low, high = (output.offset + output.scale * end for end in (error.low, error.high))
        closed = not ACTIVATIONS[model.layer.activation].output_range.low_open
        detail = (
            f"{output.name!r} can only lie between {low:g} and {high:g}"
            f"{'' if closed else ', ends left out'}: {model.layer.activation} reaches nothing else."
        )
        raise InvalidInput(detail, [Fault(detail, pointers[output.name])]) from None


def held_by(body: InvertIn, plain: Wanted, numbers: NDArray[np.intp]) -> Wanted:
    """The wishes as they hold for numbers that are off. Raises InvalidInput where none can."""
    if not body.robust_epsilon:
        return plain
    if (plain.conditions.low == plain.conditions.high).any() or plain.curved:
        detail = "Only an interval or a class with a margin can be held by inputs that are off."
        raise InvalidInput(detail, [Fault(detail, "/robust_epsilon")])
    conditions = tightened(plain.conditions, numbers, body.robust_epsilon)
    if (conditions.low > conditions.high).any():
        detail = "The interval is narrower than what inputs that are off so much make of it."
        raise InvalidInput(detail, [Fault(detail, "/robust_epsilon")])
    return plain._replace(conditions=conditions)


def goals_of(model: TrainedModel, targets: Mapping[str, TargetIn]) -> Array:
    """How much each output (m,) is to be large, below 0 if small. Raises InvalidInput."""
    goals = np.zeros(len(model.outputs))
    for name, target in targets.items():
        if target.goal is not None:
            sign = 1.0 if target.goal == "maximize" else -1.0
            goals[model.output_names.index(name)] = sign * target.weight
    together = np.count_nonzero(goals) > 1 and model.layer.activation != "identity"
    curved = goals.any() and not ACTIVATIONS[model.layer.activation].elementwise
    if together or (curved and (len(goals) > 2 or np.count_nonzero(goals) > 1)):
        detail = (
            f"With {model.layer.activation} one output at a time is made large or small, and with "
            "softmax of more than two labels none: give the others intervals, or want a class."
        )
        raise InvalidInput(detail, [Fault(detail, "/target")])
    return goals


def asked_of(
    model: TrainedModel,
    body: InvertIn,
    question: Question,
    raw: tuple[Array, Array, Array],
    item: Item,
) -> Asked:
    """A question with its target; `raw` are its start, low and high. Raises InvalidInput."""
    targets = item.targets
    numbers = question.numbers
    moves = numbers.low < numbers.high
    stepped = bool(moves.any() and numbers.whole[moves].all())
    wishes = wishes_of(model, targets, stepped=stepped, tolerance=body.tolerance)
    plain = wanted_by(model, wishes, item.pointers)
    return Asked(
        *raw,
        question=question,
        row=item.start or {},
        targets=dict(targets),
        wishes=tuple(wishes),
        wanted=held_by(body, plain, question.numbers.at),
        plain=plain,
        goals=goals_of(model, targets),
    )


def raw_of(rules: Rules, asked: Asked, x: Array) -> Array:
    """The raw row (k,) of x, within its limits and on its steps to the last bit."""
    raw = asked.start.copy()
    numbers = x[rules.columns] * rules.scale + rules.offset
    whole = rules.step > 0.0
    numbers[whole] = rules.step[whole] * np.round(numbers[whole] / rules.step[whole])
    same = np.abs(x[rules.columns] - asked.question.x[rules.columns]) <= DUST
    numbers[same] = asked.start[rules.places][same]
    for ends in (asked.low[rules.places], asked.high[rules.places]):
        near = np.abs(numbers - ends) <= 10.0 * DUST * (1.0 + np.abs(numbers))
        numbers[near] = ends[near]
    raw[rules.places] = np.clip(numbers, asked.low[rules.places], asked.high[rules.places])
    for rule in rules.levels:
        # An unknown level stays one.
        if raw[rule.place] >= 0:
            raw[rule.place] = x[rule.column : rule.column + len(rule.item.levels)].argmax()
    return raw
