"""Which rows of a stored table are held out: what the ways to split read of it."""

import numpy as np
from numpy.typing import NDArray

from app.datasets.stored_table import StoredColumn
from app.datasets.table import shown
from app.jobs.targets import labels_of, refuse_missing
from app.jobs.training_spec import ValidationSpec
from app.numeric.errors import NumericError
from app.numeric.split import METHODS, SplitColumn, split_by

HELD_OUT_TEXTS = frozenset({"true", "validation", "validate", "test"})
TRAINED_TEXTS = frozenset({"false", "train", "training"})


def validates(
    spec: ValidationSpec, rows: int, *, seed: int, column: StoredColumn | None
) -> NDArray[np.bool_]:
    """Whether each row is held out (rows,), by the column that the method reads, if it does.

    Raises NumericError for a cell that says nothing, or if no row is left to train on.
    """
    values = None if column is None else split_column(spec.method, column)
    parts = split_by(spec.method, rows, fraction=spec.fraction, seed=seed, column=values)
    held_out = np.zeros(rows, dtype=np.bool_)
    held_out[parts.validation] = True
    return held_out


def split_column(method: str, column: StoredColumn) -> SplitColumn:
    """Texts as their places in sorted order, a mask as 0 and 1, numbers as they are."""
    refuse_missing(column)
    match METHODS[method].column:
        case "mask":
            return mask_of(column)
        case "key" if column.levels is not None:
            raise NumericError(f"{column.name!r} holds text; an order is told by numbers")
        case _ if column.levels is not None:
            return labels_of(column).places(column.values)
        case _:
            return column.values


def mask_of(column: StoredColumn) -> SplitColumn:
    """1 for a row that is held out, 0 for one that trains: numbers, or words for the two."""
    marks = column.values
    if column.levels is not None:
        marks = np.array([mark_of(text) for text in column.levels])[marks.astype(np.intp)]
    wrong = np.flatnonzero(~((marks == 0.0) | (marks == 1.0)))
    if not len(wrong):
        return marks
    row = int(wrong[0])
    value = column.values[row]
    cell = f"{value:g}" if column.levels is None else shown(column.levels[int(value)])
    raise NumericError(
        f"{column.name!r} says {cell} in row {row + 1}; it must say 1, 'true', 'test', 'validate' "
        "or 'validation' for a row that is held out, and 0, 'false', 'train' or 'training' for "
        "one that is trained on"
    )


def mark_of(text: str) -> float:
    word = text.strip().lower()
    return 1.0 if word in HELD_OUT_TEXTS else 0.0 if word in TRAINED_TEXTS else float("nan")
