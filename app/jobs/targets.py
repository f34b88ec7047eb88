"""The target columns, and the y that the layer learns from them: scaled numbers, or labels as 0, 1.

A label is known by its place among the sorted levels. Two levels are one output, 1 at the second,
unless the activation is softmax; K levels are K outputs, 1 at the row's own.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.datasets.columns import Column, NumericColumn
from app.datasets.stored_table import StoredColumn
from app.models.trained_model import Classes, Output
from app.numeric import target_scaling
from app.numeric.activations import Array
from app.numeric.column_statistics import ColumnStatistics
from app.numeric.errors import NumericError
from app.numeric.rows import DataArray
from app.numeric.target_scaling import TargetScaling

# Beyond it neighbouring whole numbers are no longer told apart.
WHOLE_MAX = 2.0**53


class Labels(NamedTuple):
    """The levels of a column of labels, sorted: texts by code point, numbers ascending.

    `keys` are what the column holds: for numbers the sorted values (K,); for texts, whose cells are
    codes, the place of each code among the levels, -1 where no row has it.
    """

    levels: tuple[str, ...]
    keys: Array
    is_text: bool

    def places(self, cells: DataArray) -> NDArray[np.intp]:
        """The places of cells (k,) among the levels."""
        places = self.keys[cells.astype(np.intp)] if self.is_text else self.keys.searchsorted(cells)
        return np.asarray(places, dtype=np.intp)


class Targets(NamedTuple):
    """The target columns by name; `labels` if there is one of them and it holds labels."""

    names: tuple[str, ...]
    labels: Labels | None
    scaling: TargetScaling
    outputs: int

    @np.errstate(over="ignore")
    def write(self, cells: Sequence[DataArray], out: DataArray) -> None:
        """Writes y (outputs, k) of the cells (k,) of each column."""
        if self.labels is None:
            out[...] = target_scaling.scale(self.scaling, np.stack(cells, axis=1)).T
            return
        places = self.labels.places(cells[0])
        if self.outputs == 1:
            out[0] = places
        else:
            out[...] = 0.0
            out[places, np.arange(len(places))] = 1.0

    def places(self, y: DataArray) -> NDArray[np.intp]:
        """The places of labels that y (outputs, k) was written from."""
        places = y[0] if self.outputs == 1 else y.argmax(axis=0)
        return np.asarray(places, dtype=np.intp)

    @property
    def classes(self) -> Classes | None:
        return None if self.labels is None else Classes(self.names[0], self.labels.levels)

    def described(self, ranges: Sequence[tuple[float, float]]) -> tuple[Output, ...]:
        """The outputs, with the range of each target in the training rows."""
        if self.labels is None:
            scaling = zip(self.scaling.offset.tolist(), self.scaling.scale.tolist(), strict=True)
            return tuple(
                Output(name, *ends, offset, scale)
                for name, ends, (offset, scale) in zip(self.names, ranges, scaling, strict=True)
            )
        told = self.labels.levels[-self.outputs :]
        return tuple(Output(f"{self.names[0]}={level}", 0.0, 1.0) for level in told)


def numeric_targets(
    names: Sequence[str], described: Mapping[str, Column], *, scaling: str
) -> Targets:
    """Targets that are numbers, scaled by the statistics of all rows.

    Raises NumericError for one that cannot be.
    """
    found = [statistics_of(described[name]) for name in names]
    return Targets(tuple(names), None, target_scaling.fit(scaling, found), len(found))


def statistics_of(column: Column) -> ColumnStatistics:
    if isinstance(column, NumericColumn) and not column.missing:
        match column.minimum, column.maximum, column.mean, column.sd:
            case float(minimum), float(maximum), float(mean), float(deviation):
                return ColumnStatistics(0, minimum, maximum, mean, deviation)
    raise NumericError(f"the target {column.name!r} is not a number in every row")


def label_targets(column: StoredColumn, *, activation: str) -> Targets:
    """The one target that holds labels. Raises NumericError for fewer than two of them."""
    labels = labels_of(column)
    count = len(labels.levels)
    if count < 2:
        raise NumericError(f"the target {column.name!r} has the same label in every row")
    outputs = 1 if count == 2 and activation != "softmax" else count
    unscaled = TargetScaling(np.zeros(outputs), np.ones(outputs))
    return Targets((column.name,), labels, unscaled, outputs)


def labels_of(column: StoredColumn) -> Labels:
    """The levels that the column has. Raises NumericError for a missing cell."""
    refuse_missing(column)
    found = np.unique(column.values)
    if column.levels is None:
        return Labels(tuple(map(name_of, found.tolist())), found, is_text=False)
    texts = column.levels
    used = sorted(found.astype(np.intp).tolist(), key=lambda code: texts[code])
    places = np.full(len(texts), -1.0)
    places[used] = np.arange(len(used))
    return Labels(tuple(texts[code] for code in used), places, is_text=True)


def name_of(number: float) -> str:
    """7 and not 7.0."""
    whole = number.is_integer() and abs(number) < WHOLE_MAX
    return str(int(number)) if whole else repr(number)


def refuse_missing(column: StoredColumn) -> None:
    """Raises NumericError with the first row that has no value."""
    missing = np.flatnonzero(np.isnan(column.values))
    if len(missing):
        raise NumericError(f"{column.name!r} has no value in row {missing[0] + 1}")
