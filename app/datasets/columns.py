"""What a table holds, column by column: kinds, ranges, levels, and how they are stored as JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.datasets.cell_types import FirstText, first_text_of
from app.datasets.table import ArrowArray


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """A column of numbers; its statistics leave missing cells out, and are None without any other.

    `sd` is the population's: the root of the mean square deviation.
    """

    name: str
    missing: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    sd: float | None
    distinct: int
    kind: Literal["numeric"] = "numeric"


@dataclass(frozen=True, slots=True)
class Level:
    """One text of a categorical column and the number of its rows."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class CategoricalColumn:
    """A column of texts; `levels` are the most frequent of its `level_count`, then by value.

    `first_text` is the first cell that is not a number, if more than half of the values are.
    """

    name: str
    missing: int
    level_count: int
    levels: tuple[Level, ...]
    first_text: FirstText | None = None
    kind: Literal["categorical"] = "categorical"


Column = NumericColumn | CategoricalColumn


def describe(table: pa.Table, *, levels_max: int) -> tuple[Column, ...]:
    """The columns of a table as `parsing` gives it, with at most `levels_max` levels listed."""
    columns: list[Column] = []
    for name, chunked in zip(table.column_names, table.columns, strict=True):
        cells = chunked.combine_chunks()
        if pa.types.is_dictionary(cells.type):
            columns.append(_categorical(name, cells, levels_max))
        else:
            columns.append(_numeric(name, cells))
    return tuple(columns)


def to_json(columns: Iterable[Column]) -> list[dict[str, Any]]:
    """The columns as plain JSON values; floats survive it exactly."""
    return [asdict(column) for column in columns]


def from_json(columns: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns that `to_json` gave."""
    return tuple(
        _numeric_from_json(column)
        if column["kind"] == "numeric"
        else _categorical_from_json(column)
        for column in columns
    )


def _numeric(name: str, cells: ArrowArray) -> NumericColumn:
    values = cells.drop_null().to_numpy()
    if not len(values):
        return NumericColumn(name, cells.null_count, None, None, None, None, distinct=0)
    ascending = np.sort(values)
    minimum, maximum = float(ascending[0]), float(ascending[-1])
    mean, sd = _mean_and_sd(values, minimum, maximum)
    distinct = 1 + int(np.count_nonzero(ascending[1:] != ascending[:-1]))
    return NumericColumn(name, cells.null_count, minimum, maximum, mean, sd, distinct)


def _mean_and_sd(
    values: np.ndarray[Any, np.dtype[np.float64]], minimum: float, maximum: float
) -> tuple[float, float]:
    """Both exact for a constant column, and finite for every finite one."""
    if minimum == maximum:
        # Rounding in the mean would make the spread of a constant 1e-17, and scaling would use it.
        return minimum, 0.0
    # Squares overflow beyond 1e154 and vanish below 1e-154; powers of two scale without rounding.
    _, exponent = math.frexp(max(-minimum, maximum))
    scaled = np.ldexp(values, -exponent)
    mean = math.ldexp(float(scaled.mean()), exponent)
    return mean, math.ldexp(float(scaled.std()), exponent)


def _categorical(name: str, cells: ArrowArray, levels_max: int) -> CategoricalColumn:
    indices = cells.indices.drop_null().to_numpy()
    counts = np.bincount(indices, minlength=len(cells.dictionary))
    used = np.flatnonzero(counts)
    values = cells.dictionary.take(pa.array(used))
    levels = pa.table({"value": values, "count": pa.array(counts[used])})
    order = pc.call_function(
        "select_k_unstable",
        [levels],
        pc.SelectKOptions(levels_max, [("count", "descending"), ("value", "ascending")]),
    )
    return CategoricalColumn(
        name=name,
        missing=cells.null_count,
        level_count=len(used),
        levels=tuple(Level(**level) for level in levels.take(order).to_pylist()),
        first_text=first_text_of(cells),
    )


def _numeric_from_json(column: Mapping[str, Any]) -> NumericColumn:
    # A database may give 1e300 back as an integer of 301 digits.
    minimum, maximum, mean, sd = (
        None if column[key] is None else float(column[key])
        for key in ("minimum", "maximum", "mean", "sd")
    )
    return NumericColumn(
        column["name"], column["missing"], minimum, maximum, mean, sd, column["distinct"]
    )


def _categorical_from_json(column: Mapping[str, Any]) -> CategoricalColumn:
    text = column["first_text"]
    return CategoricalColumn(
        name=column["name"],
        missing=column["missing"],
        level_count=column["level_count"],
        levels=tuple(Level(level["value"], level["count"]) for level in column["levels"]),
        first_text=None if text is None else FirstText(text["row"], text["value"]),
    )
