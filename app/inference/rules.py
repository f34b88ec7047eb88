"""What the body of invert allows to change, as arrays: all but the start and the target.

Numbers and choices are the inputs of the model in its order, numbers first; raw units here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.errors import Fault
from app.inference import magnitudes, wire
from app.inference.inversion_schemas import ConstraintIn, FeatureIn, InvertIn
from app.models.trained_model import TrainedModel
from app.numeric.activations import Array
from app.numeric.inversion.question import Conditions
from app.numeric.preprocessing import CategoricalInput, NumericInput, blocks_of

NAMED_MAX = 20
OPERATORS: Mapping[str, Callable[[float], tuple[float, float]]] = {
    "<=": lambda value: (-np.inf, value),
    ">=": lambda value: (value, np.inf),
    "=": lambda value: (value, value),
}


# In steps: what is so near to a multiple is one.
NEAR_MULTIPLE = 1e-9


class NumberRule(NamedTuple):
    """What may happen to one number; limits of None are those of `within`."""

    item: NumericInput
    place: int
    column: int
    feature: FeatureIn
    low: float
    high: float
    step: float


class LevelRule(NamedTuple):
    """What may happen to one category; `costs` (K, K): from each level (row) to each."""

    item: CategoricalInput
    place: int
    column: int
    frozen: bool
    costs: Array


class Rules(NamedTuple):
    """All rules of a body; conditions are those on x.

    Of the numbers, (p,) each: `places` among the model's inputs, `columns` of x, offset and scale
    from raw to x, training range and
    `step` of raw (0 for none) and `spacing` of x, costs per unit of x.
    """

    numbers: tuple[NumberRule, ...]
    levels: tuple[LevelRule, ...]
    conditions: Conditions
    places: NDArray[np.intp]
    columns: NDArray[np.intp]
    offset: Array
    scale: Array
    minimum: Array
    maximum: Array
    step: Array
    spacing: Array
    cost_up: Array
    cost_down: Array


def rules_of(model: TrainedModel, body: InvertIn, faults: list[Fault]) -> Rules:
    """The rules, with every mistake in them added to the faults."""
    faults += unknown_names("features", body.features, model.input_names)
    numbers: list[NumberRule] = []
    levels: list[LevelRule] = []
    for place, (item, at) in enumerate(blocks_of(model.preprocessing)):
        feature = body.features.get(item.name, FeatureIn())
        pointer = f"/features/{wire.escaped(item.name)}"
        if isinstance(item, NumericInput):
            faults += _number_faults(item, feature, pointer)
            step = float(feature.step or (1.0 if feature.integer else 0.0))
            low, high = _own_limits(body, item, feature, step)
            numbers.append(NumberRule(item, place, at.start, feature, low, high, step))
        else:
            found = _level_faults(item, feature, pointer)
            faults += found
            costs = np.zeros((0, 0)) if found else _level_costs(item, feature)
            levels.append(LevelRule(item, place, at.start, feature.frozen, costs))
    scale = np.array([rule.item.scale for rule in numbers])
    features = [rule.feature for rule in numbers]
    unit = scale if body.units == "raw" else np.ones(len(scale))
    # What is frozen may stand between two multiples.
    steps = np.array([0.0 if rule.feature.frozen else rule.step for rule in numbers])
    return Rules(
        numbers=tuple(numbers),
        levels=tuple(levels),
        conditions=_conditions(model, body.constraints, numbers, faults),
        places=np.array([rule.place for rule in numbers], dtype=np.intp),
        columns=np.array([rule.column for rule in numbers], dtype=np.intp),
        offset=np.array([rule.item.offset for rule in numbers]),
        scale=scale,
        minimum=np.array([rule.item.minimum for rule in numbers]),
        maximum=np.array([rule.item.maximum for rule in numbers]),
        step=steps,
        spacing=steps / scale,
        cost_up=unit * np.array([feature.cost * feature.cost_up for feature in features]),
        cost_down=unit * np.array([feature.cost * feature.cost_down for feature in features]),
    )


def _own_limits(
    body: InvertIn, item: NumericInput, feature: FeatureIn, step: float
) -> tuple[float, float]:
    trained = body.within == "training_range"
    low = feature.min if feature.min is not None else (item.minimum if trained else -np.inf)
    high = feature.max if feature.max is not None else (item.maximum if trained else np.inf)
    # A wish of one's own for one end moves a training range that would contradict it.
    low, high = (min(low, high), high) if feature.min is None else (low, max(low, high))
    low, high = magnitudes.end_of(item, low), magnitudes.end_of(item, high)
    if not step:
        return low, high
    return float(first_multiple(low, step)), float(last_multiple(high, step))


@np.errstate(over="ignore", invalid="ignore")
def first_multiple(low: ArrayLike, step: float) -> Array:
    """The first multiple of the step from each limit (T,) on."""
    multiple: Array = step * np.ceil(np.asarray(low) / step - NEAR_MULTIPLE)
    return multiple


@np.errstate(over="ignore", invalid="ignore")
def last_multiple(high: ArrayLike, step: float) -> Array:
    """The last multiple of the step up to each limit (T,)."""
    multiple: Array = step * np.floor(np.asarray(high) / step + NEAR_MULTIPLE)
    return multiple


def _number_faults(item: NumericInput, feature: FeatureIn, pointer: str) -> list[Fault]:
    details = []
    if feature.min is not None and feature.max is not None and feature.min > feature.max:
        details.append(f"min {feature.min:g} is above max {feature.max:g}.")
    if feature.levels is not None or feature.order is not None:
        details.append(f"{item.name!r} is a number: it has no levels.")
    if feature.integer and feature.step is not None and feature.step % 1.0:
        details.append(f"A step of {feature.step:g} leads to values that are not whole.")
    details += magnitudes.feature_faults(item, feature)
    return [Fault(detail, pointer, column=item.name) for detail in details]


def _level_faults(item: CategoricalInput, feature: FeatureIn, pointer: str) -> list[Fault]:
    details = []
    if feature.min is not None or feature.max is not None or feature.step or feature.integer:
        details.append(f"{item.name!r} is a category: it has no min, max, step or integer.")
    unknown = [level for level in feature.levels or () if level not in item.levels]
    if unknown:
        details.append(f"{unknown[0][:80]!r} is no level of {item.name!r}: {_told(item.levels)}.")
    if feature.order is not None and sorted(feature.order) != sorted(item.levels):
        details.append(f"order must name each level of {item.name!r} once: {_told(item.levels)}.")
    if feature.direction is not None and feature.order is None:
        details.append(f"{item.name!r} goes up or down only along an order: give `order` too.")
    return [Fault(detail, pointer, column=item.name) for detail in details]


def _level_costs(item: CategoricalInput, feature: FeatureIn) -> Array:
    """(K, K) from each level to each: 1 each, or the steps along an order; infinite if barred."""
    count = len(item.levels)
    if feature.order is None:
        steps = 1.0 - np.eye(count)
        costs = steps * feature.cost
    else:
        rank = np.array([feature.order.index(level) for level in item.levels], dtype=float)
        steps = rank[None, :] - rank[:, None]
        costs = np.abs(steps) * feature.cost
        costs *= np.where(steps > 0, feature.cost_up, feature.cost_down)
        if feature.direction is not None:
            costs[steps < 0 if feature.direction == "up" else steps > 0] = np.inf
    if feature.levels is not None:
        barred = [level not in feature.levels for level in item.levels]
        costs[:, barred] = np.inf
    return costs


def _conditions(
    model: TrainedModel,
    constraints: Sequence[ConstraintIn],
    numbers: Sequence[NumberRule],
    faults: list[Fault],
) -> Conditions:
    """factor * (offset + scale x) summed up, on x."""
    columns = {rule.item.name: rule for rule in numbers}
    a = np.zeros((len(constraints), model.layer.w.shape[1]))
    ends = np.zeros((2, len(constraints)))
    for row, constraint in enumerate(constraints):
        items = {name: rule.item for name, rule in columns.items()}
        found = list(magnitudes.constraint_faults(constraint, items, f"/constraints/{row}"))
        if found:
            faults += found
            continue
        pointer = f"/constraints/{row}/terms"
        for name in constraint.terms:
            if name not in columns:
                known = _told(tuple(columns))
                detail = f"{name[:80]!r} is not a numeric input of this model. It has: {known}."
                if name in model.input_names:
                    detail = f"{name[:80]!r} is a category; constraints add up numbers."
                faults.append(Fault(detail, f"{pointer}/{wire.escaped(name[:80])}"))
        terms = [
            (columns[name], factor) for name, factor in constraint.terms.items() if name in columns
        ]
        for rule, factor in terms:
            a[row, rule.column] = factor * rule.item.scale
        fixed = sum(factor * rule.item.offset for rule, factor in terms)
        ends[:, row] = np.array(OPERATORS[constraint.op](constraint.value)) - fixed
    return Conditions(a, *ends)


def unknown_names(field: str, given: Iterable[str], known: tuple[str, ...]) -> list[Fault]:
    """A fault for each name that is not known."""
    return [
        Fault(
            f"{name[:80]!r} is not known to this model. It has: {_told(known)}.",
            f"/{field}/{wire.escaped(name[:80])}",
        )
        for name in given
        if name not in known
    ]


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED_MAX])
