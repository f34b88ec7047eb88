"""Numbers so large or so small beside what a model was trained on that rounding eats the answer."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from app.errors import Fault
from app.inference import wire
from app.inference.inversion_schemas import ConstraintIn, FeatureIn, TargetIn
from app.models.trained_model import Output, TrainedModel
from app.numeric.activations import Array
from app.numeric.preprocessing import NumericInput

# In spreads of training: a start or a target beyond is refused, a limit so far is none.
FAR, NO_LIMIT = 1e6, 1e9
STEP_MIN, STEP_MAX = 1e-9, 1e6
# Of constraints, in the units of training; the value as a multiple of the largest factor.
FACTOR_MIN, FACTOR_MAX, VALUE_MAX = 1e-30, 1e30, 1e9


def start_faults(model: TrainedModel, starts: Array, pointers: Sequence[str]) -> Iterator[Fault]:
    """The numbers of raw starts (T, k) that lie too far from training, each at its pointer."""
    for place, item in enumerate(model.preprocessing.inputs):
        if not isinstance(item, NumericInput):
            continue
        far = np.abs(starts[:, place] - item.offset) > FAR * item.scale
        for row in np.flatnonzero(far).tolist():
            detail = f"{item.name!r} starts too far from what the model was trained on."
            at = f"{pointers[row]}/{wire.escaped(item.name)}"
            yield Fault(detail, at, column=item.name)


def feature_faults(item: NumericInput, feature: FeatureIn) -> Iterator[str]:
    """What is wrong with the size of limits and steps of a number."""
    far = "lies too far from what the model was trained on."
    if feature.min is not None and feature.min - item.offset > NO_LIMIT * item.scale:
        yield f"min {feature.min:g} {far}"
    if feature.max is not None and feature.max - item.offset < -NO_LIMIT * item.scale:
        yield f"max {feature.max:g} {far}"
    step = feature.step or (1.0 if feature.integer else None)
    if step is not None and not STEP_MIN <= step / item.scale <= STEP_MAX:
        yield (
            f"A step of {step:g} is out of proportion to {item.name!r}, "
            f"which spreads by {item.scale:g}."
        )


def end_of(item: NumericInput, end: float) -> float:
    """A limit of a number, infinite where it is so far that it is none."""
    near = abs(end - item.offset) <= NO_LIMIT * item.scale
    return end if near else math.copysign(math.inf, end)


def constraint_faults(
    constraint: ConstraintIn, columns: Mapping[str, NumericInput], pointer: str
) -> Iterator[Fault]:
    """Factors that are out of proportion to each other, and a value that is to all of them."""
    factors = {
        name: abs(factor) * columns[name].scale
        for name, factor in constraint.terms.items()
        if name in columns and factor
    }
    for name, factor in factors.items():
        if not FACTOR_MIN <= factor <= FACTOR_MAX:
            detail = f"The factor {constraint.terms[name]:g} is too large or too small."
            yield Fault(detail, f"{pointer}/terms/{wire.escaped(name)}")
    if factors and abs(constraint.value) > VALUE_MAX * max(factors.values()):
        yield Fault(f"{constraint.value:g} is too large for these terms.", f"{pointer}/value")


def target_fault(output: Output, target: TargetIn) -> str | None:
    """What is wrong with the size of the target of an output."""
    size = FAR * max(1.0, abs(output.minimum), abs(output.maximum), output.scale)
    ends = [end for end in (target.value, target.min, target.max) if end is not None]
    if any(abs(end) > size for end in ends):
        return f"{output.name!r} was trained on {output.minimum:g} to {output.maximum:g}: too far."
    return None
