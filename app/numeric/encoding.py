"""Raw rows as what the layer sees, and back; see app.numeric.preprocessing for what both are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.column_statistics import SLICE_ROWS, slices
from app.numeric.errors import NumericError, ShapeError
from app.numeric.preprocessing import (
    CategoricalInput,
    Input,
    NumericInput,
    Preprocessing,
    blocks_of,
    level_codes,
    width_of,
)
from app.numeric.rows import DataArray

Chosen = NDArray[np.intp]


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


def encode_into(
    preprocessing: Preprocessing,
    columns: Sequence[DataArray],
    out: DataArray,
    chosen: Chosen | None = None,
) -> None:
    """Writes x of one raw column (N,) per input into `out` (n, N), float64 or float32.

    With `chosen` (K,), rows counted from 0, only those are written, into `out` (n, K).
    The same bits as `encode` in float64, and those rounded in float32.
    Raises what `encode` raises; `out` may then be partly written.
    """
    _encode_into(preprocessing, columns, out, chosen, infinite=False)


@np.errstate(over="ignore")
def decode(preprocessing: Preprocessing, x: Array) -> Array:
    """raw (N, k) from x (N, n); a category is the level of the largest entry of its block.

    Indicators are not read: where a cell was missing, its fill comes back. Where unknown levels are
    ignored, a block of zeros is -1.
    """
    width = width_of(preprocessing)
    if x.ndim != 2 or x.shape[1] != width:
        raise ShapeError(f"x must be (rows, {width}), not {x.shape}")
    raw = np.empty((len(x), len(preprocessing.inputs)))
    for column, (item, at) in enumerate(blocks_of(preprocessing)):
        if isinstance(item, NumericInput):
            raw[:, column] = x[:, at.start] * item.scale + item.offset
            continue
        raw[:, column] = x[:, at].argmax(axis=1)
        if item.ignores_unknown:
            raw[~x[:, at].any(axis=1), column] = -1.0
    return raw


def _encoded_rows(preprocessing: Preprocessing, raw: Array, *, infinite: bool) -> Array:
    inputs = preprocessing.inputs
    if raw.ndim != 2 or raw.shape[1] != len(inputs):
        raise ShapeError(f"raw must be (rows, {len(inputs)}), not {raw.shape}")
    x = np.empty((width_of(preprocessing), len(raw)))
    # A call per column costs more than the arithmetic of a few rows.
    if raw.size > SLICE_ROWS or not _encode_numbers(preprocessing, raw.T, x, infinite=infinite):
        _encode_into(preprocessing, list(raw.T), x, infinite=infinite)
    else:
        for (item, at), values in zip(blocks_of(preprocessing), raw.T, strict=True):
            if isinstance(item, CategoricalInput):
                _encode_column(item, at, values, x, None, infinite=infinite)
    return x.T


@np.errstate(over="ignore")
def _encode_into(
    preprocessing: Preprocessing,
    columns: Sequence[DataArray],
    out: DataArray,
    chosen: Chosen | None = None,
    *,
    infinite: bool,
) -> None:
    shape = (width_of(preprocessing), *out.shape[1:])
    if out.ndim != 2 or out.shape != shape or len(columns) != len(preprocessing.inputs):
        raise ShapeError(
            f"{len(columns)} columns and out {out.shape} for {len(preprocessing.inputs)} inputs "
            f"and {shape[0]} features"
        )
    count = None if chosen is None else chosen.shape
    for (item, at), values in zip(blocks_of(preprocessing), columns, strict=True):
        if (count or values.shape) != out.shape[1:]:
            raise ShapeError(
                f"input {item.name} must be {out.shape[1:]}, not {count or values.shape}"
            )
        if not _encode_whole(item, at, values, out, chosen):
            _encode_column(item, at, values, out, chosen, infinite=infinite)


def _encode_whole(
    item: Input, at: slice, values: DataArray, out: DataArray, chosen: Chosen | None
) -> bool:
    """Encodes a column of numbers in place; False, with anything written, where that is not enough.

    It takes half the time of `_encode_column`: one look at the result finds a cell to be filled or
    refused.
    """
    if isinstance(item, CategoricalInput) or not values.dtype == out.dtype == np.float64:
        return False
    whole = out[at.start]
    if chosen is None:
        np.subtract(values, item.offset, out=whole)
    else:
        # With its default mode, take would fill a copy of `out` first.
        values.take(chosen, out=whole, mode="clip")
        whole -= item.offset
    whole /= item.scale
    if item.has_indicator:
        out[at.stop] = 0.0
    return bool(np.isfinite(whole).all())


def _encode_column(
    item: Input,
    at: slice,
    values: DataArray,
    out: DataArray,
    chosen: Chosen | None,
    *,
    infinite: bool,
) -> None:
    for rows in slices(out.shape[1]):
        cells = values[rows] if chosen is None else values[chosen[rows]]
        part, missing = _filled(item, np.asarray(cells, dtype=np.float64))
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
        for k, (item, at) in enumerate(blocks_of(preprocessing))
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
    codes = level_codes(item.name, part, -1 if item.ignores_unknown else 0, len(item.levels))
    known = np.flatnonzero(codes >= 0)
    out[:] = 0.0
    out[codes[known], known] = 1.0
