"""From raw rows to what the layer sees, and back.

Shapes: raw (N, k), one column per input, a categorical one carrying level codes 0..K-1; encoded x
(N, n), where a numeric input is one column (raw - offset) / scale and a categorical one is K
columns, 1 at its level.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.numeric.activations import Array
from app.numeric.errors import NumericError, ShapeError

SCALINGS = ("standard", "min_max", "none")


class NumericInput(NamedTuple):
    """A numeric input; mean, minimum and maximum are those of the training rows.

    Encoded as (raw - offset) / scale. offset and scale are the mean and the population standard
    deviation for "standard", the minimum and the width of the range for "min_max", 0 and 1 for
    "none"; scale is 1 for a constant.
    """

    name: str
    mean: float
    scale: float
    minimum: float
    maximum: float
    offset: float


class CategoricalInput(NamedTuple):
    """A categorical input; `most_frequent` is a level code, the first of equals."""

    name: str
    levels: tuple[str, ...]
    most_frequent: int


Input = NumericInput | CategoricalInput


class Preprocessing(NamedTuple):
    """What was learned from the training rows, in the order of the raw columns."""

    inputs: tuple[Input, ...]


class InputColumn(NamedTuple):
    """A raw column; levels None means numeric."""

    name: str
    levels: tuple[str, ...] | None


def fit(raw: Array, columns: Sequence[InputColumn], *, scaling: str) -> Preprocessing:
    """The preprocessing of the training rows.

    Raises ShapeError for no rows or another number of columns, NumericError for an unknown scaling,
    a level code out of range or a number that is not finite.
    """
    if scaling not in SCALINGS:
        raise NumericError(f"There is no scaling {scaling}; choose one of {', '.join(SCALINGS)}.")
    if raw.ndim != 2 or raw.shape[1] != len(columns) or not len(raw):
        raise ShapeError(f"raw must be (at least 1 row, {len(columns)}), not {raw.shape}")
    return Preprocessing(
        tuple(
            _numeric(column.name, values, scaling)
            if column.levels is None
            else _categorical(column.name, values, column.levels)
            for column, values in zip(columns, raw.T, strict=True)
        )
    )


def encode(preprocessing: Preprocessing, raw: Array) -> Array:
    """x (N, n) from raw (N, k).

    Raises ShapeError for another width, NumericError for a level code out of range.
    """
    inputs = preprocessing.inputs
    if raw.ndim != 2 or raw.shape[1] != len(inputs):
        raise ShapeError(f"raw must be (rows, {len(inputs)}), not {raw.shape}")
    x = np.zeros((len(raw), _width(preprocessing)))
    for (item, at), values in zip(_blocks(preprocessing), raw.T, strict=True):
        if isinstance(item, NumericInput):
            x[:, at.start] = (values - item.offset) / item.scale
        else:
            codes = _codes(item.name, values, len(item.levels))
            x[np.arange(len(raw)), at.start + codes] = 1.0
    return x


def decode(preprocessing: Preprocessing, x: Array) -> Array:
    """raw (N, k) from x (N, n); a category is the level of the largest entry of its block."""
    width = _width(preprocessing)
    if x.ndim != 2 or x.shape[1] != width:
        raise ShapeError(f"x must be (rows, {width}), not {x.shape}")
    raw = np.empty((len(x), len(preprocessing.inputs)))
    for column, (item, at) in enumerate(_blocks(preprocessing)):
        if isinstance(item, NumericInput):
            raw[:, column] = x[:, at.start] * item.scale + item.offset
        else:
            raw[:, column] = x[:, at].argmax(axis=1)
    return raw


def encoded_names(preprocessing: Preprocessing) -> tuple[str, ...]:
    """One name per column of x: `cement`, `species=Adelie`."""
    return tuple(
        name
        for item in preprocessing.inputs
        for name in (
            [item.name]
            if isinstance(item, NumericInput)
            else [f"{item.name}={level}" for level in item.levels]
        )
    )


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

    The columns of a one-hot block stay as they are. Inputs with a spread near the smallest numbers
    can have weights that are not finite.
    """
    offset, scale = np.zeros(w.shape[1]), np.ones(w.shape[1])
    for item, at in _blocks(preprocessing):
        if isinstance(item, NumericInput):
            offset[at.start], scale[at.start] = item.offset, item.scale
    with np.errstate(over="ignore", invalid="ignore"):
        return w / scale, b - w @ (offset / scale)


def to_json(preprocessing: Preprocessing) -> dict[str, object]:
    """Plain values for JSON; Python writes floats so that they read back as the same bits."""
    kinds = {NumericInput: "numeric", CategoricalInput: "categorical"}
    return {
        "inputs": [{"kind": kinds[type(item)], **item._asdict()} for item in preprocessing.inputs]
    }


def from_json(value: Mapping[str, Any]) -> Preprocessing:
    """What `to_json` wrote. Raises NumericError for anything else."""
    try:
        return Preprocessing(tuple(_input_from_json(item) for item in value["inputs"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NumericError(f"this is no preprocessing: {error!r}") from error


def _input_from_json(item: Mapping[str, Any]) -> Input:
    fields = {name: field for name, field in item.items() if name != "kind"}
    if item["kind"] == "numeric":
        numbers = {name: float(fields.pop(name)) for name in NumericInput._fields[1:]}
        return NumericInput(name=str(fields.pop("name")), **numbers)
    if item["kind"] == "categorical":
        levels = tuple(str(level) for level in fields["levels"])
        return CategoricalInput(str(fields["name"]), levels, int(fields["most_frequent"]))
    raise NumericError(f"unknown kind of input {item['kind']!r}")


def _numeric(name: str, values: Array, scaling: str) -> NumericInput:
    if not np.isfinite(values).all():
        raise NumericError(f"input {name} has a value that is not a finite number")
    minimum, maximum = float(values.min()), float(values.max())
    mean, deviation = _mean_and_deviation(values)
    offset, scale = {
        "standard": (mean, deviation),
        "min_max": (minimum, maximum - minimum),
        "none": (0.0, 1.0),
    }[scaling]
    if minimum == maximum:
        scale = 1.0
    return NumericInput(name, mean, scale, minimum, maximum, offset)


def _mean_and_deviation(values: Array) -> tuple[float, float]:
    """Mean and population standard deviation, in two passes: right also far from zero.

    Brought near 1 by a power of two first, which is exact, so that no square overflows or vanishes.
    """
    exponent = int(np.frexp(np.abs(values).max())[1])
    unit = np.ldexp(values, -exponent)
    mean = float(unit.mean())
    deviation = math.sqrt(float(np.square(unit - mean).mean()))
    return math.ldexp(mean, exponent), math.ldexp(deviation, exponent)


def _categorical(name: str, values: Array, levels: tuple[str, ...]) -> CategoricalInput:
    counts = np.bincount(_codes(name, values, len(levels)), minlength=len(levels))
    return CategoricalInput(name, levels, int(counts.argmax()))


def _codes(name: str, values: Array, levels: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    wrong = ~((values >= 0) & (values < levels) & (values == np.floor(values)))
    if wrong.any():
        bad = float(values[wrong][0])
        raise NumericError(f"input {name} has level code {bad:g}; it must be 0 to {levels - 1}")
    return values.astype(np.intp)


def _blocks(preprocessing: Preprocessing) -> Iterator[tuple[Input, slice]]:
    """Each input with its columns of x."""
    start = 0
    for item in preprocessing.inputs:
        width = 1 if isinstance(item, NumericInput) else len(item.levels)
        yield item, slice(start, start + width)
        start += width


def _width(preprocessing: Preprocessing) -> int:
    return len(encoded_names(preprocessing))
