"""What every parser of an upload shares: limits, result, and the checks on size and names."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NoReturn, TypeAlias

import pyarrow as pa

from app.errors import Fault, MalformedTable, TableTooLarge

# A pa.Array. The stubs make it generic, the class itself cannot be subscripted.
ArrowArray: TypeAlias = Any

FAULTS_MAX: Final = 20
SHOWN_MAX: Final = 80

# Bidirectional overrides and isolates reorder the text around them on a screen or in a log.
_BIDI_CONTROLS: Final = frozenset(
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class TableLimits:
    """How large an upload may be. Lengths count characters, not bytes.

    Columns with more than `levels_max` different texts are accepted with a warning: it is how many
    levels `columns.describe` keeps. A categorical cell has at most `text_length_max` characters.
    """

    rows_max: int
    columns_max: int
    cells_max: int
    levels_max: int
    name_length_max: int = 200
    text_length_max: int = 1_000


@dataclass(frozen=True, slots=True)
class ParsedTable:
    """A table with one chunk a column, in the order of the upload.

    A numeric column is float64 and finite, a categorical one is dictionary<int32, string>; a null
    is a missing value. `warnings` say what was read otherwise than its owner may have meant.
    """

    table: pa.Table
    warnings: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the cells of one column came from, so that a fault can point at one of them.

    `pointer_at` gives the JSON pointer of a row, counted from 0; a CSV body has none.
    """

    name: str
    pointer_at: Callable[[int], str] | None = None

    def fault_at(self, index: int, detail: str) -> Fault:
        """The fault of the cell in row `index`, counted from 0."""
        pointer = None if self.pointer_at is None else self.pointer_at(index)
        return Fault(detail, pointer=pointer, row=index + 1, column=self.name)


def shown(text: str) -> str:
    """A caller's text as it may be shown: quoted, escaped, at most 80 characters."""
    escaped = repr(text[:SHOWN_MAX])
    if len(text) <= SHOWN_MAX and len(escaped) <= SHOWN_MAX:
        return escaped
    return escaped[: SHOWN_MAX - 4] + "...'"


def refuse(faults: Iterable[Fault]) -> NoReturn:
    """Raises MalformedTable with the first 20 faults; the first one is also the message."""
    listed = tuple(islice(faults, FAULTS_MAX))
    more = f" ({len(listed) - 1} more listed.)" if len(listed) > 1 else ""
    raise MalformedTable(listed[0].detail + more, listed)


def refuse_larger_than(limits: TableLimits, *, rows: int, columns: int) -> None:
    """Raises TableTooLarge when a table of this size is beyond a limit."""
    cells = rows * columns
    for found, most, things, remedy in (
        (columns, limits.columns_max, "columns", "Leave out columns that are not needed"),
        (rows, limits.rows_max, "rows", "Send a sample of the rows"),
        (cells, limits.cells_max, "cells", "Send fewer rows or columns"),
    ):
        if found > most:
            detail = f"The table has {found:,} {things}; at most {most:,} are allowed. {remedy}."
            raise TableTooLarge(detail, (Fault(detail),))


def checked_names(
    raw_names: Sequence[str],
    limits: TableLimits,
    *,
    pointer_of: Callable[[int], str] | None = None,
) -> tuple[str, ...]:
    """The names of the columns, stripped and in Unicode's NFC form.

    Raises MalformedTable for a name that is empty, too long, repeated or holds control characters.
    """
    names = tuple(unicodedata.normalize("NFC", raw).strip() for raw in raw_names)
    uses = Counter(names)
    faults = []
    for index, name in enumerate(names):
        detail = _fault_of_name(index, name, uses[name], limits)
        if detail is not None:
            pointer = None if pointer_of is None else pointer_of(index)
            faults.append(Fault(detail, pointer=pointer, column=name[: limits.name_length_max]))
    if faults:
        refuse(faults)
    return names


def _fault_of_name(index: int, name: str, uses: int, limits: TableLimits) -> str | None:
    if not name:
        return f"Column {index + 1} has no name. Give every column a name in the header."
    if len(name) > limits.name_length_max:
        return (
            f"The name of column {index + 1} has {len(name):,} characters; "
            f"at most {limits.name_length_max} are allowed. Shorten it."
        )
    if any(_is_refused(character) for character in name):
        return (
            f"The name {shown(name)} of column {index + 1} holds a line break or another control "
            "character. Remove it."
        )
    if uses > 1:
        return f"{uses} columns are named {shown(name)}. Give every column a name of its own."
    return None


def _is_refused(character: str) -> bool:
    return unicodedata.category(character) in _REFUSED_CATEGORIES or character in _BIDI_CONTROLS
