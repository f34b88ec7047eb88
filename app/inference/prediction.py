"""Forward: what is asked of predict, computed on plain values."""

import numpy as np
from numpy.typing import NDArray

from app.errors import Fault, InvalidInput
from app.inference import wire
from app.models.trained_model import TrainedModel
from app.numeric.activations import Array
from app.numeric.preprocessing import Input, NumericInput

NAMED_MAX = 10


def predict(model: TrainedModel, body: bytes, *, rows_max: int) -> bytes:
    """The answer's body. Raises MalformedJson or InvalidInput."""
    raw = wire.raw_rows(model, wire.decode(body, rows_max=rows_max))
    y = model.predict(raw)
    require_finite(y)
    return wire.encode(model, y, row_warnings(model, raw))


def require_finite(y: Array) -> None:
    """Raises InvalidInput for rows so far out that the layer overflows on them."""
    bad = np.flatnonzero(~np.isfinite(y).all(axis=1))
    if len(bad):
        faults = [
            Fault("The prediction for this row is not finite.", row=int(index) + 1)
            for index in bad[: wire.FAULTS_MAX]
        ]
        raise InvalidInput("The values are too large for this model.", faults)


def row_warnings(model: TrainedModel, raw: Array) -> list[list[str]]:
    """For each row, the inputs that are not like anything the model was trained on.

    A cell of two bytes must not come back as a hundred, so a row names `NAMED_MAX` of them.
    """
    warnings: list[list[str]] = [[] for _ in raw]
    unnamed = np.zeros(len(raw), dtype=int)
    for column, cells in zip(model.preprocessing.inputs, raw.T, strict=True):
        strange = np.flatnonzero(is_strange(column, cells))
        text = strangeness(column) if len(strange) else ""
        for index in strange:
            if len(warnings[index]) < NAMED_MAX:
                warnings[index].append(text)
            else:
                unnamed[index] += 1
    for index in np.flatnonzero(unnamed):
        warnings[index].append(f"{unnamed[index]} more inputs are unlike the training rows.")
    return warnings


def is_strange(column: Input, cells: Array) -> NDArray[np.bool_]:
    """Which cells (N,) training has seen nothing like; a missing one is not."""
    if isinstance(column, NumericInput):
        return np.asarray((cells < column.minimum) | (cells > column.maximum))
    return np.asarray(cells == wire.UNKNOWN_LEVEL)


def strangeness(column: Input) -> str:
    if isinstance(column, NumericInput):
        limits = f"[{column.minimum:g}, {column.maximum:g}]"
        return f"{column.name!r} is outside the training range {limits}."
    return f"{column.name!r} has a level that training never saw; it counts as none."
