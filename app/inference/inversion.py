"""Backward: from a wanted output to an input, checked forward before it is given."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from app.errors import Fault, InvalidInput
from app.inference import wire
from app.inference.schemas import (
    ChangeOut,
    DistanceOut,
    FeatureIn,
    InfeasibilityOut,
    IntervalOut,
    InvertIn,
    InvertOut,
    NearestOut,
    SolutionOut,
    TraceOut,
)
from app.models.trained_model import TrainedModel
from app.numeric import inversion, preprocessing, target_scaling
from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.errors import OutOfRange
from app.numeric.inversion import Inversion, Status
from app.numeric.preprocessing import CategoricalInput, NumericInput

TRACE_POINTS_MAX = 1000
# A change smaller than this share of an input's spread is rounding, not advice.
CHANGE_MIN = 1e-9


class Question(NamedTuple):
    """What is asked, as arrays. Raw: start, low, high (k,); encoded: x_low, x_high (n,)."""

    start: Array
    low: Array
    high: Array
    x_start: Array
    x_low: Array
    x_high: Array
    target: Array  # (m,), nan where any output will do; in units of the targets


@np.errstate(over="ignore", invalid="ignore")
def invert(model: TrainedModel, body: InvertIn, *, steps_max: int) -> InvertOut:
    """Raises InvalidInput for a question that does not fit the model."""
    question = question_of(model, body)
    method = chosen_method(model, body)
    if body.steps_max > steps_max:
        raise InvalidInput(
            f"At most {steps_max:,} steps are allowed here.", [Fault("Too many.", "/steps_max")]
        )
    found = search(model, question, body, method)
    answer = decoded(model, question, found.x)
    prediction = model.predict(answer[np.newaxis])[0]
    x = preprocessing.encode(model.preprocessing, answer[np.newaxis])[0]
    size = np.square(x - question.x_start).sum()
    if not np.isfinite([*prediction, size, *found.trace]).all():
        raise InvalidInput("The values are too large for this model.")
    infeasible = found.status is Status.INFEASIBLE
    return InvertOut(
        model_id=model.id,
        model_version=model.version,
        status=found.status,
        method=method,
        solutions=[] if infeasible else [solution(model, question, body, answer, prediction)],
        infeasibility=infeasibility(model, question, answer, prediction) if infeasible else None,
        trace=trace_of(found) if "trace" in body.returned else None,
        warnings=warnings_of(model, body),
    )


def question_of(model: TrainedModel, body: InvertIn) -> Question:
    """The question as arrays. Raises InvalidInput with every fault in it."""
    faults: list[Fault] = []
    start = start_row(model, body, faults)
    low, high = limits(model, body, start, faults)
    target = target_of(model, body, faults)
    if faults:
        raise wire.invalid(faults)
    rows = np.array([start, low, high])
    x_start, x_low, x_high = preprocessing.encode_limits(model.preprocessing, rows)
    return Question(start, low, high, x_start, x_low, x_high, target)


def start_row(model: TrainedModel, body: InvertIn, faults: list[Fault]) -> Array:
    start = preprocessing.typical_row(model.preprocessing).copy()
    given = body.start or {}
    faults += unknown_names("from", given, model.input_names)
    for k, column in enumerate(model.preprocessing.inputs):
        if column.name not in given:
            continue
        codes = {level: code for code, level in enumerate(wire.levels_of(column))}
        cell = given[column.name]
        value = wire.cell_value(column, codes, float(cell) if type(cell) is int else cell)
        if value == wire.UNKNOWN_LEVEL and isinstance(column, CategoricalInput):
            value = wire.unknown_level(column, codes)
        if isinstance(value, str):
            faults.append(Fault(value, f"/from/{wire.escaped(column.name)}", column=column.name))
        else:
            start[k] = value
    return start


def limits(
    model: TrainedModel, body: InvertIn, start: Array, faults: list[Fault]
) -> tuple[Array, Array]:
    """Raw limits of each input. Categories stay at their start, as frozen inputs do."""
    faults += unknown_names("features", body.features, model.input_names)
    low, high = np.full(len(start), -np.inf), np.full(len(start), np.inf)
    for k, column in enumerate(model.preprocessing.inputs):
        feature = body.features.get(column.name, FeatureIn())
        pointer = f"/features/{wire.escaped(column.name)}"
        if isinstance(column, CategoricalInput):
            low[k] = high[k] = start[k]
            if feature.min is not None or feature.max is not None:
                detail = f"{column.name!r} is a category: it has no minimum or maximum."
                faults.append(Fault(detail, pointer, column=column.name))
            continue
        low[k] = -np.inf if feature.min is None else feature.min
        high[k] = np.inf if feature.max is None else feature.max
        if low[k] > high[k]:
            detail = f"min {low[k]:g} is above max {high[k]:g}."
            faults.append(Fault(detail, pointer, column=column.name))
        elif feature.frozen and not low[k] <= start[k] <= high[k]:
            detail = f"It is frozen at {start[k]:g}, which lies outside its own min and max."
            faults.append(Fault(detail, pointer, column=column.name))
        elif feature.frozen:
            low[k] = high[k] = start[k]
    return low, high


def target_of(model: TrainedModel, body: InvertIn, faults: list[Fault]) -> Array:
    faults += unknown_names("target", body.target, model.output_names)
    return np.array([body.target.get(name, np.nan) for name in model.output_names], dtype=float)


def unknown_names(field: str, given: Iterable[str], known: tuple[str, ...]) -> list[Fault]:
    return [
        Fault(
            f"{name[:80]!r} is not known to this model. It has: {', '.join(known[:20])}.",
            f"/{field}/{wire.escaped(name[:80])}",
        )
        for name in given
        if name not in known
    ]


def chosen_method(model: TrainedModel, body: InvertIn) -> str:
    invertible = ACTIVATIONS[model.layer.activation].strictly_monotone
    if body.method == "auto":
        return "exact" if invertible else "gradient"
    if body.method == "exact" and not invertible:
        detail = (
            f"{model.layer.activation} gives the same output for many inputs, so it cannot be "
            "inverted exactly. Use method 'gradient'."
        )
        raise InvalidInput(detail, [Fault(detail, "/method")])
    return body.method


def search(model: TrainedModel, question: Question, body: InvertIn, method: str) -> Inversion:
    """The answer of the layer, whose outputs and targets are scaled."""
    target = target_scaling.scale(model.output_scaling, question.target)
    try:
        if method == "exact":
            return inversion.invert_exact(
                model.layer, question.x_start, target, question.x_low, question.x_high
            )
        return inversion.invert_gradient(
            model.layer,
            question.x_start,
            target,
            question.x_low,
            question.x_high,
            learning_rate=None if body.learning_rate == "auto" else body.learning_rate,
            steps_max=body.steps_max,
            tolerance=scaled_tolerance(model, question.target, target, body.tolerance),
        )
    except OutOfRange as error:
        output = model.outputs[error.output]
        name = output.name
        low, high = (output.offset + output.scale * end for end in (error.low, error.high))
        detail = (
            f"{name!r} can only lie between {low:g} and {high:g}"
            f"{', ends left out' if method == 'exact' else ''}: "
            f"{model.layer.activation} reaches nothing else."
        )
        raise InvalidInput(detail, [Fault(detail, f"/target/{wire.escaped(name)}")]) from None


def scaled_tolerance(model: TrainedModel, target: Array, scaled: Array, tolerance: float) -> float:
    """A tolerance relative to max(1, |scaled|) that is as strict as that of the caller's units."""
    wanted = ~np.isnan(target)
    allowed = tolerance * np.maximum(1.0, np.abs(target)) / model.output_scaling.scale
    share = allowed / np.maximum(1.0, np.abs(scaled))
    return float(share[wanted].min(initial=np.inf))


def decoded(model: TrainedModel, question: Question, x: Array) -> Array:
    """The raw row (k,), within the raw limits to the last bit."""
    raw = preprocessing.decode(model.preprocessing, x[np.newaxis])[0]
    within: Array = np.clip(raw, question.low, question.high)
    return within


def is_met(target: Array, prediction: Array, tolerance: float) -> bool:
    wanted = ~np.isnan(target)
    distance = np.abs(prediction[wanted] - target[wanted])
    return bool((distance <= tolerance * np.maximum(1.0, np.abs(target[wanted]))).all())


def solution(
    model: TrainedModel, question: Question, body: InvertIn, answer: Array, prediction: Array
) -> SolutionOut:
    changes = changes_of(model, question, answer)
    x = preprocessing.encode(model.preprocessing, answer[np.newaxis])[0]
    step = x - question.x_start
    return SolutionOut(
        input=named_input(model, answer),
        changes=changes,
        prediction=named_prediction(model, prediction),
        verified=is_met(question.target, prediction, body.tolerance),
        distance=DistanceOut(
            l1=float(np.abs(step).sum()),
            l2=float(np.linalg.norm(step)),
            linf=float(np.abs(step).max()),
            changed=len(changes),
        ),
        in_training_range=all(
            column.minimum <= value <= column.maximum
            for column, value in zip(model.preprocessing.inputs, answer, strict=True)
            if isinstance(column, NumericInput)
        ),
        text=sentence(changes),
    )


def changes_of(model: TrainedModel, question: Question, answer: Array) -> list[ChangeOut]:
    """What changed, the largest change in scaled units first."""
    changes: list[tuple[float, ChangeOut]] = []
    for column, before, after in zip(
        model.preprocessing.inputs, question.start, answer, strict=True
    ):
        if isinstance(column, CategoricalInput):
            continue
        size = abs(after - before) / column.scale
        if size > CHANGE_MIN:
            change = ChangeOut(
                feature=column.name, start=before, to=after, delta=float(after - before)
            )
            changes.append((size, change))
    return [change for _, change in sorted(changes, key=lambda item: -item[0])]


def sentence(changes: list[ChangeOut]) -> str:
    """Raise cement by 49 and lower water by 9."""
    parts = [
        f"{'raise' if change.delta > 0 else 'lower'} {change.feature} by {abs(change.delta):.4g}"
        for change in changes
        if change.delta
    ]
    if not parts:
        return "Nothing has to change."
    text = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{text[0].upper()}{text[1:]}."


def infeasibility(
    model: TrainedModel, question: Question, answer: Array, prediction: Array
) -> InfeasibilityOut:
    low, high = (
        target_scaling.unscale(model.output_scaling, end)
        for end in inversion.attainable(model.layer, question.x_low, question.x_high)
    )
    return InfeasibilityOut(
        attainable={
            name: IntervalOut(
                min=float(low[j]) if np.isfinite(low[j]) else None,
                max=float(high[j]) if np.isfinite(high[j]) else None,
            )
            for j, name in enumerate(model.output_names)
        },
        nearest=NearestOut(
            input=named_input(model, answer),
            prediction=named_prediction(model, prediction),
            verified=True,
        ),
    )


def named_input(model: TrainedModel, raw: Array) -> dict[str, float | str]:
    return {
        column.name: column.levels[int(value)]
        if isinstance(column, CategoricalInput)
        else float(value)
        for column, value in zip(model.preprocessing.inputs, raw, strict=True)
    }


def named_prediction(model: TrainedModel, y: Array) -> dict[str, float]:
    return dict(zip(model.output_names, y.tolist(), strict=True))


def trace_of(found: Inversion) -> TraceOut:
    count = len(found.trace)
    steps = np.unique(np.linspace(0, count - 1, min(count, TRACE_POINTS_MAX)).astype(int))
    return TraceOut(step=steps.tolist(), cost=found.trace[steps].tolist())


def warnings_of(model: TrainedModel, body: InvertIn) -> list[str]:
    held = [
        column.name
        for column in model.preprocessing.inputs
        if isinstance(column, CategoricalInput)
        and not body.features.get(column.name, FeatureIn()).frozen
    ]
    if not held:
        return []
    return [f"Categories are held at their start in this version: {', '.join(held)}."]
