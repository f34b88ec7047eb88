"""From raw rows to what the layer sees, and back.

Raw values: a column (N,) per input, a categorical one carrying level codes 0..K-1. In both kinds
nan is a missing cell; in a categorical one -1 is a level that training never saw.
Encoded x: a numeric input is one column (raw - offset) / scale, a categorical one is K columns, 1
at its level and all 0 at an unknown one. An input with missing training cells has one more column
right behind, its indicator: 1 where the cell is missing and 0 elsewhere, never scaled.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.column_statistics import (
    SLICE_ROWS,
    ColumnStatistics,
    median,
    most_frequent,
    present,
    slices,
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


def encode(preprocessing: Preprocessing, raw: Array) -> Array:
    """x (N, n) from raw (N, k), the transpose of a feature-major array.

    Raises ShapeError for another width. Raises NumericError for a missing cell of an input without
    a fill, a level code out of range, an unknown level where it is not ignored, or an infinite
    number.
    """
    return _encoded_rows(preprocessing, raw, infinite=False)


def encode_limits(preprocessing: Preprocessing, raw: Array) -> Array:
    """As `encode`, for raw limits (N, k): a number may be infinite, and so is then its x."""
    return _encoded_rows(preprocessing, raw, infinite=True)


def encode_into(preprocessing: Preprocessing, columns: Sequence[DataArray], out: DataArray) -> None:
    """Writes x of one raw column (N,) per input into `out` (n, N), float64 or float32.

    The same bits as `encode` in float64, and those rounded in float32.
    Raises what `encode` raises; `out` may then be partly written.
    """
    _encode_into(preprocessing, columns, out, infinite=False)


@np.errstate(over="ignore")
def decode(preprocessing: Preprocessing, x: Array) -> Array:
    """raw (N, k) from x (N, n); a category is the level of the largest entry of its block.

    Indicators are not read: where a cell was missing, its fill comes back. Where unknown levels are
    ignored, a block of zeros is -1.
    """
    width = _width(preprocessing)
    if x.ndim != 2 or x.shape[1] != width:
        raise ShapeError(f"x must be (rows, {width}), not {x.shape}")
    raw = np.empty((len(x), len(preprocessing.inputs)))
    for column, (item, at) in enumerate(_blocks(preprocessing)):
        if isinstance(item, NumericInput):
            raw[:, column] = x[:, at.start] * item.scale + item.offset
            continue
        raw[:, column] = x[:, at].argmax(axis=1)
        if item.ignores_unknown:
            raw[~x[:, at].any(axis=1), column] = -1.0
    return raw


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


def raw_parameters(preprocessing: Preprocessing, w: Array, b: Array) -> tuple[Array, Array]:
    """w (m, n) and b (m,) for raw units: w_raw = w / scale, b_raw = b - w (offset / scale).

    The columns of a one-hot block and of an indicator stay as they are. Inputs with a spread near
    the smallest numbers can have weights that are not finite.
    """
    offset, scale = np.zeros(w.shape[1]), np.ones(w.shape[1])
    for item, at in _blocks(preprocessing):
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
        counts += np.bincount(_codes(name, part, 0, len(levels)), minlength=len(levels))
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


def _codes(name: str, values: Array, lowest: int, levels: int) -> NDArray[np.intp]:
    wrong = ~((values >= lowest) & (values < levels) & (values == np.floor(values)))
    if wrong.any():
        bad = float(values[wrong][0])
        raise NumericError(f"input {name} has level code {bad:g}; it must be 0 to {levels - 1}")
    return values.astype(np.intp)


def _encoded_rows(preprocessing: Preprocessing, raw: Array, *, infinite: bool) -> Array:
    inputs = preprocessing.inputs
    if raw.ndim != 2 or raw.shape[1] != len(inputs):
        raise ShapeError(f"raw must be (rows, {len(inputs)}), not {raw.shape}")
    x = np.empty((_width(preprocessing), len(raw)))
    # A call per column costs more than the arithmetic of a few rows.
    if raw.size > SLICE_ROWS or not _encode_numbers(preprocessing, raw.T, x, infinite=infinite):
        _encode_into(preprocessing, list(raw.T), x, infinite=infinite)
    else:
        for (item, at), values in zip(_blocks(preprocessing), raw.T, strict=True):
            if isinstance(item, CategoricalInput):
                _encode_column(item, at, values, x, infinite=infinite)
    return x.T


@np.errstate(over="ignore")
def _encode_into(
    preprocessing: Preprocessing, columns: Sequence[DataArray], out: DataArray, *, infinite: bool
) -> None:
    shape = (_width(preprocessing), *out.shape[1:])
    if out.ndim != 2 or out.shape != shape or len(columns) != len(preprocessing.inputs):
        raise ShapeError(
            f"{len(columns)} columns and out {out.shape} for {len(preprocessing.inputs)} inputs "
            f"and {shape[0]} features"
        )
    for (item, at), values in zip(_blocks(preprocessing), columns, strict=True):
        if values.shape != out.shape[1:]:
            raise ShapeError(f"input {item.name} must be {out.shape[1:]}, not {values.shape}")
        _encode_column(item, at, values, out, infinite=infinite)


def _encode_column(
    item: Input, at: slice, values: DataArray, out: DataArray, *, infinite: bool
) -> None:
    for rows in slices(len(values)):
        part, missing = _filled(item, np.asarray(values[rows], dtype=np.float64))
        if item.has_indicator:
            out[at.stop, rows] = missing
        if isinstance(item, CategoricalInput):
            _encode_levels(item, part, out[at, rows])
            continue
        if not infinite and not np.isfinite(part).all():
            raise NumericError(f"input {item.name} has a value that is not a finite number")
        # In float64, whatever `out` holds: what trains is what predicts.
        part = part - item.offset
        part /= item.scale
        out[at.start, rows] = part


@np.errstate(over="ignore")
def _encode_numbers(
    preprocessing: Preprocessing, columns: DataArray, out: Array, *, infinite: bool
) -> bool:
    """Encodes all numeric columns of (k, N) at once, to the bits that one at a time gives.

    False, with nothing written, where a cell is to be filled or refused.
    """
    numbers = [
        (k, at, item)
        for k, (item, at) in enumerate(_blocks(preprocessing))
        if isinstance(item, NumericInput)
    ]
    if not numbers:
        return True
    part = np.asarray(columns[[k for k, _, _ in numbers]], dtype=np.float64)
    if np.isnan(part).any() or not (infinite or np.isfinite(part).all()):
        return False
    part -= np.array([[item.offset] for _, _, item in numbers])
    part /= np.array([[item.scale] for _, _, item in numbers])
    out[[at.start for _, at, _ in numbers]] = part
    indicators = [at.stop for _, at, item in numbers if item.has_indicator]
    if indicators:
        out[indicators] = 0.0
    return True


def _filled(item: Input, part: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The cells with the missing ones filled, and which were missing."""
    missing = np.isnan(part)
    if not missing.any():
        return part, missing
    if item.fill is None:
        raise NumericError(f"input {item.name} has a missing cell")
    return np.where(missing, item.fill, part), missing


def _encode_levels(item: CategoricalInput, part: Array, out: DataArray) -> None:
    codes = _codes(item.name, part, -1 if item.ignores_unknown else 0, len(item.levels))
    known = np.flatnonzero(codes >= 0)
    out[:] = 0.0
    out[codes[known], known] = 1.0


def _blocks(preprocessing: Preprocessing) -> Iterator[tuple[Input, slice]]:
    """Each input with its columns of x; an indicator, not among them, comes right behind."""
    start = 0
    for item in preprocessing.inputs:
        stop = start + (1 if isinstance(item, NumericInput) else len(item.levels))
        yield item, slice(start, stop)
        start = stop + item.has_indicator


def _width(preprocessing: Preprocessing) -> int:
    return sum(
        (1 if isinstance(item, NumericInput) else len(item.levels)) + item.has_indicator
        for item in preprocessing.inputs
    )
