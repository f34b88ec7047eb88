"""How much each row counts in training: a column of the table, balanced labels, or both."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.datasets.stored_table import StoredColumn
from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.rows import DataArray

Places = NDArray[np.intp]


class RowWeights(NamedTuple):
    """The weight of a row is its cell in `column` times that of its label, where there are such.

    Training and validation each divide by the mean of their own rows, so that both means are 1;
    `validation_mean` is 0 if no row held out has a weight.
    """

    column: str | None
    by_label: Array | None
    training_mean: float
    validation_mean: float

    def of(self, cells: DataArray | None, places: Places | None) -> Array:
        """The weights (k,) of rows before the division: cells (k,), places of labels (k,)."""
        return product(cells, self.by_label, places)


def row_weights(
    column: StoredColumn | None, places: Places | None, validates: NDArray[np.bool_], *, labels: int
) -> RowWeights | None:
    """The weights of rows that are held out where `validates`, or None if all weigh the same.

    With `places` (N,) among so many labels, every label weighs the same in training.
    Raises NumericError for a weight that is none, and if no training row has one above 0.
    """
    if column is None and places is None:
        return None
    cells = None if column is None else column.values
    trains = ~validates
    if column is not None:
        require_weights(column, trains)
    by_label = None
    if places is not None:
        counts = np.bincount(
            places[trains], None if cells is None else cells[trains], minlength=labels
        )
        by_label = balancing(counts)
    weights = product(cells, by_label, places)
    with np.errstate(over="ignore"):
        training_mean = float(weights[trains].mean())
        validation_mean = float(weights[validates].mean()) if validates.any() else 0.0
    if not np.isfinite([training_mean, validation_mean]).all():
        raise NumericError("the weights of the rows are too large to be added up")
    name = None if column is None else column.name
    return RowWeights(name, by_label, training_mean, validation_mean)


def require_weights(column: StoredColumn, trains: NDArray[np.bool_]) -> None:
    values = column.values
    wrong = np.flatnonzero(~((values >= 0.0) & np.isfinite(values)))
    if len(wrong):
        row = int(wrong[0])
        raise NumericError(
            f"the weight {column.name!r} of row {row + 1} is {values[row]:g}; "
            "a weight is a number of at least 0"
        )
    if not values[trains].any():
        raise NumericError(f"the weight {column.name!r} is 0 in every row that is trained on")


def balancing(counts: NDArray[np.number]) -> Array:
    """N / (K N_k) for each of K labels that has N_k of N rows, which may be weighted; else 1.

    As scikit-learn's class_weight="balanced", which counts the labels that are there.
    """
    there = counts > 0
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(there, counts.sum() / (there.sum() * counts), 1.0)


def product(cells: DataArray | None, by_label: Array | None, places: Places | None) -> Array:
    if by_label is None or places is None:
        return np.asarray(cells, dtype=np.float64)
    return by_label[places] if cells is None else by_label[places] * cells
