"""The attainable interval of each output, by name and in the caller's units."""

import numpy as np

from app.inference.inversion_schemas import Answer
from app.models.trained_model import TrainedModel
from app.numeric.inversion.attainable import attainable
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Question


def attainable_of(model: TrainedModel, question: Question, clock: Clock) -> dict[str, Answer]:
    """Empty if nothing meets the limits and constraints of the question."""
    intervals = attainable(model.layer, question, clock)
    if intervals is None:
        return {}
    told: dict[str, Answer] = {}
    for output, interval in zip(model.outputs, intervals, strict=True):
        low, high = (
            float(output.offset + output.scale * end) for end in (interval.low, interval.high)
        )
        told[output.name] = {
            "min": low if np.isfinite(low) else None,
            "max": high if np.isfinite(high) else None,
            "exact": interval.exact,
        }
    return told
