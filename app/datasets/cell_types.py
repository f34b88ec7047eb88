"""Whether a column of texts is numeric or categorical: one rule for every format.

Blanks around a cell do not count, and a cell that is then one of MISSING_TOKENS is missing. A
column whose other cells are all decimal numbers (sign, digits, point, exponent; no hexadecimal, no
underscores) is numeric, and so is one with nothing but missing cells. Every other column is
categorical. What looks like a slip is never read as categories in silence: an infinity among
numbers and a decimal comma are refused, a text in a mostly numeric column gives a warning.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.datasets.table import FAULTS_MAX, ArrowArray, Source, TableLimits, refuse, shown
from app.errors import Fault

MISSING_TOKENS: Final = (
    "", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "#N/A",
)  # fmt: skip

CATEGORICAL: Final = pa.dictionary(pa.int32(), pa.string())

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NUMBER_PATTERN: Final = rf"\A(?:{_NUMBER.pattern})\z"
_INFINITY_PATTERN: Final = r"(?i)\A[+-]?inf(?:inity)?\z"
# 3,14 and 1,234,567.8 and 1.234,5 but not 1,2,3: a list of numbers is a category.
_COMMA_NUMBER_PATTERN: Final = (
    r"\A[+-]?(?:[0-9]*,[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+)"
    r"(?:[eE][+-]?[0-9]+)?\z"
)

_PROBE_ROWS: Final = 1_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FirstText:
    """The first cell of a mostly numeric column that is not a number; rows count from 1."""

    row: int
    value: str


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """Cells that are float64 or CATEGORICAL, and what their owner should know."""

    cells: ArrowArray
    warning: Fault | None = None


@dataclass(frozen=True, slots=True)
class _Levels:
    """The different texts of a column, trimmed and null where they mean "missing".

    `codes[row]` is a place in `values`, or len(values) for null; `uses` counts the rows of each.
    """

    values: ArrowArray
    codes: NDArray[np.int64]
    uses: NDArray[np.int64]
    is_number: Mask
    is_text: Mask

    @property
    def numbers(self) -> int:
        return self.count(self.is_number)

    @property
    def present(self) -> int:
        return self.numbers + self.count(self.is_text)

    def texts_matching(self, pattern: str) -> Mask:
        mask = self.is_text.copy()
        mask[mask] = _matches(self.values.filter(pa.array(mask)), pattern)
        return mask

    def count(self, mask: Mask) -> int:
        return int(self.uses[mask].sum())

    def rows_of(self, mask: Mask) -> NDArray[np.int64]:
        """Up to 20 rows, from 0, whose level is in `mask`."""
        return np.flatnonzero(np.append(mask, False)[self.codes])[:FAULTS_MAX]

    def value_at(self, row: int) -> str:
        return str(self.values[int(self.codes[row])])


def is_number(text: str) -> bool:
    """Whether a text is a decimal number in the grammar of this module, blanks around it aside."""
    return _NUMBER.fullmatch(text.strip()) is not None


def typed(source: Source, text: ArrowArray, limits: TableLimits) -> TypedColumn:
    """The cells of a column of strings (null is missing), typed by the rule of this module.

    Raises MalformedTable, with rows, for an infinity or a decimal comma among numbers and for a
    text that cannot be kept (longer than the limit, or with a NUL character).
    """
    floats = _finite_floats(text)
    if floats is None:
        floats = _finite_floats(pc.utf8_trim_whitespace(text))
    if floats is not None:
        return TypedColumn(floats)
    encoded = text.dictionary_encode()
    levels = _levels_of(encoded)
    _refuse_infinities(source, levels)
    if levels.numbers == levels.present:
        return TypedColumn(levels.values.cast(pa.float64()).take(_indices(levels)))
    _refuse_comma_numbers(source, levels)
    _refuse_unkept_texts(source, levels, limits)
    cells = _categories_of(encoded, levels)
    return TypedColumn(cells, _warning_of(source, levels, len(cells.dictionary), limits))


def first_text_of(cells: ArrowArray) -> FirstText | None:
    """The first non-number of a CATEGORICAL column, if more than half of its values are numbers."""
    return _first_text(_levels_of(cells))


def _finite_floats(text: ArrowArray) -> ArrowArray | None:
    """The texts as float64, or None if one is no number. Arrow's cast also takes inf and nan."""
    try:
        # A cast that fails pays for every failure, so a column of texts is found out early.
        text.slice(0, _PROBE_ROWS).cast(pa.float64())
        floats = text.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return floats if pc.all(pc.is_finite(floats), min_count=0).as_py() else None


def _levels_of(encoded: ArrowArray) -> _Levels:
    trimmed = pc.utf8_trim_whitespace(encoded.dictionary)
    is_missing = pc.is_in(trimmed, pa.array(MISSING_TOKENS, pa.string()))
    values = pc.if_else(is_missing, pa.scalar(None, pa.string()), trimmed)
    is_number = _matches(values, _NUMBER_PATTERN)
    codes = encoded.indices.fill_null(len(values)).to_numpy().astype(np.int64)
    return _Levels(
        values=values,
        codes=codes,
        uses=np.bincount(codes, minlength=len(values) + 1)[:-1],
        is_number=is_number,
        is_text=_mask(pc.is_valid(values)) & ~is_number,
    )


def _matches(values: ArrowArray, pattern: str) -> Mask:
    return _mask(pc.match_substring_regex(values, pattern))


def _mask(answers: ArrowArray) -> Mask:
    """Booleans as numpy has them; null is false."""
    return np.asarray(answers.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _refuse_infinities(source: Source, levels: _Levels) -> None:
    numbers = levels.values.filter(pa.array(levels.is_number)).cast(pa.float64())
    is_overflow = levels.is_number.copy()
    is_overflow[levels.is_number] = _mask(pc.is_inf(numbers))
    is_infinite = is_overflow | levels.texts_matching(_INFINITY_PATTERN)
    if levels.count(is_infinite) and not levels.count(levels.is_text & ~is_infinite):
        refuse(
            source.fault_at(
                row,
                f"Row {row + 1}, column {shown(source.name)}: {shown(levels.value_at(row))} is not "
                "a finite number. Send a finite number, or leave the cell empty if it is missing.",
            )
            for row in map(int, levels.rows_of(is_infinite))
        )


def _refuse_comma_numbers(source: Source, levels: _Levels) -> None:
    has_comma = levels.texts_matching(_COMMA_NUMBER_PATTERN)
    commas = levels.count(has_comma)
    if commas and 2 * (levels.numbers + commas) > levels.present:
        refuse(
            source.fault_at(
                row,
                f"Row {row + 1}, column {shown(source.name)}: {shown(levels.value_at(row))} has a "
                "comma. Write numbers with a decimal point and no thousands separator: 1234.5.",
            )
            for row in map(int, levels.rows_of(has_comma))
        )


def _refuse_unkept_texts(source: Source, levels: _Levels, limits: TableLimits) -> None:
    counted: ArrowArray = pc.utf8_length(levels.values)
    lengths = counted.fill_null(0).to_numpy()
    is_long = lengths > limits.text_length_max
    has_nul = _mask(pc.match_substring(levels.values, "\0"))
    faults = []
    for row in map(int, levels.rows_of(is_long | has_nul)):
        length = int(lengths[levels.codes[row]])
        what = (
            f"the text has {length:,} characters; at most {limits.text_length_max:,} are allowed. "
            "Shorten it, or leave the column out."
            if length > limits.text_length_max
            else "the text holds a NUL character. Remove it."
        )
        place = f"Row {row + 1}, column {shown(source.name)}"
        faults.append(source.fault_at(row, f"{place}: {what}"))
    if faults:
        refuse(faults)


def _categories_of(encoded: ArrowArray, levels: _Levels) -> ArrowArray:
    """The column over its different trimmed texts, in the order in which they come first."""
    if levels.values.equals(encoded.dictionary):
        return encoded
    merged = levels.values.dictionary_encode()
    indices = merged.indices.take(_indices(levels))
    return pa.DictionaryArray.from_arrays(indices, merged.dictionary)


def _indices(levels: _Levels) -> ArrowArray:
    return pa.array(levels.codes, mask=levels.codes == len(levels.values))


def _warning_of(
    source: Source, levels: _Levels, level_count: int, limits: TableLimits
) -> Fault | None:
    text = _first_text(levels)
    if text is not None:
        return source.fault_at(
            text.row - 1,
            f"{shown(text.value)} is not a number; {levels.numbers:,} of {levels.present:,} values "
            "are. The column is read as categories. Correct the cell, or leave it empty if it is "
            "missing.",
        )
    if level_count > limits.levels_max:
        return Fault(
            f"The column {shown(source.name)} has {level_count:,} different texts, more than the "
            f"{limits.levels_max:,} that are listed. Do not use it as an input if it is an id.",
            column=source.name,
        )
    return None


def _first_text(levels: _Levels) -> FirstText | None:
    if not levels.present / 2 < levels.numbers < levels.present:
        return None
    row = int(levels.rows_of(levels.is_text)[0])
    return FirstText(row + 1, levels.value_at(row))
