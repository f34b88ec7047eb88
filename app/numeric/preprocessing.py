"""From raw rows to what the layer sees, and back.

Raw values: a column (N,) per input, a categorical one carrying level codes 0..K-1. In both kinds
nan is a missing cell; in a categorical one -1 is a level that training never saw.
Encoded x: a numeric input is one column (raw - offset) / scale, a categorical one is K columns, 1
at its level and all 0 at an unknown one. An input with missing training cells has one more column
right behind, its indicator: 1 where the cell is missing and 0 elsewhere, never scaled.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.column_statistics import (
    ColumnStatistics,
    median,
    most_frequent,
    present,
    statistics,
)
from app.numeric.errors import NumericError, ShapeError
from app.numeric.rows import DataArray
from app.numeric.scaling import SCALINGS, offset_and_scale, require_known

# What a missing cell of a numeric input is filled with; None refuses it. A categorical input is
# filled with its most frequent level by all the others.
MISSING_POLICIES: Mapping[str, Callable[[DataArray, ColumnStatistics], float] | None] = (
    MappingProxyType(
        {
            "error": None,
            "mean": lambda _, found: found.mean,
            "median": lambda values, _: median(values),
            "most_frequent": lambda values, _: most_frequent(values),
        }
    )
)
UNKNOWN_LEVEL_POLICIES = ("error", "ignore")


class PreprocessingOptions(NamedTuple):
    """Names of SCALINGS, MISSING_POLICIES and UNKNOWN_LEVEL_POLICIES."""

    scaling: str = "standard"
    missing: str = "error"
    unknown_level: str = "error"


class NumericInput(NamedTuple):
    """A numeric input; mean, minimum and maximum are those of the training cells present.

    Encoded as (raw - offset) / scale; see app.numeric.scaling for the two. `fill` stands in for a
    missing cell, None refuses it.
    """

    name: str
    mean: float
    scale: float
    minimum: float
    maximum: float
    offset: float
    fill: float | None = None
    has_indicator: bool = False


class CategoricalInput(NamedTuple):
    """A categorical input; `most_frequent` is a level code, the first of equals.

    `fill` is the level code that stands in for a missing cell, None refuses it.
    """

    name: str
    levels: tuple[str, ...]
    most_frequent: int
    fill: int | None = None
    has_indicator: bool = False
    ignores_unknown: bool = False


Input = NumericInput | CategoricalInput


class Preprocessing(NamedTuple):
    """What was learned from the training rows, in the order of the raw columns."""

    inputs: tuple[Input, ...]


class InputColumn(NamedTuple):
    """A raw column; levels None means numeric."""

    name: str
    levels: tuple[str, ...] | None


def fit(
    columns: Iterable[tuple[InputColumn, DataArray]],
    options: PreprocessingOptions,
) -> Preprocessing:
    """The preprocessing of the training rows, whose columns (N,) are taken one at a time.

    Raises ShapeError for no rows or columns of different lengths. Raises NumericError for an
    unknown option, a column without any present cell, a missing cell under the policy `error`, a
    level code out of range, a number that is not finite, or numbers too far apart to be scaled.
    """
    require_known("scaling", options.scaling, SCALINGS)
    require_known("policy for missing cells", options.missing, MISSING_POLICIES)
    require_known("policy for unknown levels", options.unknown_level, UNKNOWN_LEVEL_POLICIES)
    inputs: list[Input] = []
    count = None
    for column, values in columns:
        if values.ndim != 1 or not len(values) or len(values) != (count or len(values)):
            raise ShapeError(
                f"input {column.name} must be ({count or 'at least 1'},), not {values.shape}"
            )
        count = len(values)
        inputs.append(
            _numeric(column.name, values, options)
            if column.levels is None
            else _categorical(column.name, column.levels, values, options)
        )
        # Else this column would stay in memory while the next one is read.
        del values
    return Preprocessing(tuple(inputs))


def encoded_names(preprocessing: Preprocessing) -> tuple[str, ...]:
    """One name per column of x: `cement`, `cement is missing`, `species=Adelie`."""
    names: list[str] = []
    for item in preprocessing.inputs:
        if isinstance(item, NumericInput):
            names.append(item.name)
        else:
            names += [f"{item.name}={level}" for level in item.levels]
        if item.has_indicator:
            names.append(f"{item.name} is missing")
    return tuple(names)


def typical_row(preprocessing: Preprocessing) -> Array:
    """raw (k,): the training mean of a numeric input, the most frequent level of others."""
    return np.array(
        [
            item.mean if isinstance(item, NumericInput) else float(item.most_frequent)
            for item in preprocessing.inputs
        ]
    )


def blocks_of(preprocessing: Preprocessing) -> Iterator[tuple[Input, slice]]:
    """Each input with its columns of x; an indicator, not among them, comes right behind."""
    start = 0
    for item in preprocessing.inputs:
        stop = start + (1 if isinstance(item, NumericInput) else len(item.levels))
        yield item, slice(start, stop)
        start = stop + item.has_indicator


def width_of(preprocessing: Preprocessing) -> int:
    """The columns of x."""
    return sum(
        (1 if isinstance(item, NumericInput) else len(item.levels)) + item.has_indicator
        for item in preprocessing.inputs
    )


def level_codes(name: str, values: Array, lowest: int, levels: int) -> NDArray[np.intp]:
    """The cells as whole numbers from `lowest` to levels - 1; raises NumericError for others."""
    wrong = ~((values >= lowest) & (values < levels) & (values == np.floor(values)))
    if wrong.any():
        bad = float(values[wrong][0])
        raise NumericError(f"input {name} has level code {bad:g}; it must be 0 to {levels - 1}")
    return values.astype(np.intp)


def raw_parameters(preprocessing: Preprocessing, w: Array, b: Array) -> tuple[Array, Array]:
    """w (m, n) and b (m,) for raw units: w_raw = w / scale, b_raw = b - w (offset / scale).

    The columns of a one-hot block and of an indicator stay as they are. Inputs with a spread near
    the smallest numbers can have weights that are not finite.
    """
    offset, scale = np.zeros(w.shape[1]), np.ones(w.shape[1])
    for item, at in blocks_of(preprocessing):
        if isinstance(item, NumericInput):
            offset[at.start], scale[at.start] = item.offset, item.scale
    with np.errstate(over="ignore", invalid="ignore"):
        return w / scale, b - w @ (offset / scale)


def _numeric(name: str, values: DataArray, options: PreprocessingOptions) -> NumericInput:
    found = statistics(values, of=f"input {name}")
    filling = MISSING_POLICIES[options.missing]
    if filling is None and found.missing:
        raise NumericError(f"input {name} has {found.missing} missing cells")
    offset, scale = offset_and_scale(options.scaling, found, of=f"input {name}")
    return NumericInput(
        name,
        found.mean,
        scale,
        found.minimum,
        found.maximum,
        offset,
        fill=None if filling is None else filling(values, found),
        has_indicator=found.missing > 0,
    )


def _categorical(
    name: str, levels: tuple[str, ...], values: DataArray, options: PreprocessingOptions
) -> CategoricalInput:
    counts = np.zeros(len(levels), dtype=np.intp)
    for part in present(values):
        counts += np.bincount(level_codes(name, part, 0, len(levels)), minlength=len(levels))
    missing = len(values) - int(counts.sum())
    if missing == len(values):
        raise NumericError(f"input {name} has no value at all")
    fills = MISSING_POLICIES[options.missing] is not None
    if missing and not fills:
        raise NumericError(f"input {name} has {missing} missing cells")
    first = int(counts.argmax())
    return CategoricalInput(
        name,
        levels,
        first,
        fill=first if fills else None,
        has_indicator=missing > 0,
        ignores_unknown=options.unknown_level == "ignore",
    )
