"""CSV bytes to a table: a header row, then cells separated by commas, semicolons or tabs.

Quotes follow RFC 4180 and count only at the start of a cell. Lines end in LF, CRLF or CR; blank
lines are skipped and not counted. The separator is read off the header: a comma if it has one
outside quotes, else the semicolons or tabs that it has.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Final, Literal, NoReturn, cast

import pyarrow as pa
from pyarrow import csv as arrow_csv

from app.datasets.cell_types import MISSING_TOKENS, is_number, typed
from app.datasets.encoding import utf8_without_bom
from app.datasets.table import (
    FAULTS_MAX,
    ParsedTable,
    Source,
    TableLimits,
    checked_names,
    refuse,
    refuse_larger_than,
    shown,
)
from app.errors import Fault

_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_LEADING_BLANKS: Final = re.compile(rb"[ \r\n]*")
# A quoted cell: the quote comes first in the pattern, because re looks for a literal fastest.
_QUOTED: Final = re.compile(r'"(?<![^,;\t]")(?:[^"]|"")*"?')
_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}

# A row must fit in a block; larger blocks leave threads idle.
_BLOCK_BYTES: Final = 4 << 20
# Lines of nothing but blanks cost a Python call each, so a body of millions of them is refused.
_BLANK_LINES_MAX: Final = 1_000
# A last row of ours: if the reader does not give it back as it is, a quote is still open.
_SENTINEL: Final = "end"


@dataclass(frozen=True, slots=True)
class _Rows:
    """The bytes behind the header; a last row of sentinels is added if there are quotes."""

    names: tuple[str, ...]
    separator: str
    data: bytes | memoryview
    has_quotes: bool
    has_quoted_crlf: bool
    line_count: int


def parse_csv(body: bytes, limits: TableLimits) -> ParsedTable:
    """The table of a CSV body: see this module for the dialect, `cell_types` for the types.

    Raises MalformedTable, with rows and columns where they apply, and TableTooLarge.
    """
    text_body = utf8_without_bom(body)
    header, separator, data_at = _header(text_body, limits)
    refuse_larger_than(limits, rows=0, columns=len(header))
    if all(is_number(cell) for cell in header):
        refuse([Fault("The first row holds only numbers. Begin with a header of column names.")])
    names = checked_names(header, limits)
    rows = _rows_of(text_body, names, separator, data_at)
    if rows.line_count > limits.rows_max or rows.line_count * len(names) > limits.cells_max:
        refuse_larger_than(limits, rows=_counted(rows), columns=len(names))
    text = _text_table(rows)
    columns = [
        typed(Source(name), text.column(index).combine_chunks(), limits)
        for index, name in enumerate(names)
    ]
    table = pa.Table.from_arrays([column.cells for column in columns], names=list(names))
    return ParsedTable(table, tuple(c.warning for c in columns if c.warning is not None))


def _header(body: bytes, limits: TableLimits) -> tuple[list[str], str, int]:
    """The cells of the first line that is not blank, their separator, and where the data begins."""
    blanks = _LEADING_BLANKS.match(body)
    start = end = 0 if blanks is None else blanks.end()
    if start == len(body):
        refuse([Fault("The body is empty. Send a header of column names and at least one row.")])
    line = _LINE.match(body, start)
    unquoted = "" if line is None else _QUOTED.sub("", line.group().decode())
    separator = _separator_of(unquoted)
    refuse_larger_than(limits, rows=0, columns=unquoted.count(separator) + 1)
    bytes_max = limits.columns_max * (4 * limits.name_length_max + 3)

    def lines() -> Iterator[str]:
        nonlocal end
        for match in _LINE.finditer(body, start):
            end = match.end()
            if end - start > bytes_max:
                raise csv.Error
            yield match.group().decode()

    try:
        header = next(csv.reader(lines(), delimiter=separator, strict=True))
    except csv.Error:
        refuse([Fault("The header cannot be read. Look for an open quote or a missing line end.")])
    if len(header) == 1 and "|" in unquoted:
        refuse([Fault("The columns seem to be separated by '|'. Send them separated by commas.")])
    return header, separator, end


def _separator_of(header: str) -> str:
    """The separator of a header line without its quoted parts. Raises MalformedTable if unclear."""
    found = [separator for separator in _SEPARATORS if separator in header]
    if not found or "," in found:
        return ","
    if len(found) > 1:
        refuse([Fault("The header has semicolons and tabs. Send columns separated by commas.")])
    return found[0]


def _rows_of(body: bytes, names: tuple[str, ...], separator: str, data_at: int) -> _Rows:
    line_ends, returns, pairs = body.count(b"\n", data_at), body.count(b"\r", data_at), 0
    if returns > 0:
        pairs = body.count(b"\r\n", data_at)
    has_quotes = body.find(b'"', data_at) >= 0
    data: bytes | memoryview = memoryview(body)[data_at:]
    if has_quotes:
        data = b"".join((data, _sentinel_line(names, separator).encode()))
    return _Rows(
        names,
        separator,
        data,
        has_quotes=has_quotes,
        has_quoted_crlf=has_quotes and pairs > 0,
        line_count=line_ends + returns - pairs + 1,
    )


def _sentinel_line(names: tuple[str, ...], separator: str) -> str:
    return f"\n{separator.join([_SENTINEL] * len(names))}\n"


def _text_table(rows: _Rows) -> pa.Table:
    """Every cell as text, null where it is a missing token as it stands.

    Raises MalformedTable for rows of another length than the header, and for an open quote.
    """
    try:
        table = arrow_csv.read_csv(
            _stream(rows),
            read_options=_read_options(rows),
            parse_options=_parse_options(rows),
            convert_options=arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(rows.names, pa.string()),
                null_values=list(MISSING_TOKENS),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        _refuse_unreadable(rows)
    if table.num_rows == rows.has_quotes:
        _refuse_unreadable(rows)
    if not rows.has_quotes:
        return table
    last = table.slice(table.num_rows - 1).to_pylist()[0]
    if any(cell != _SENTINEL for cell in last.values()):
        _refuse_unreadable(rows)
    return table.slice(0, table.num_rows - 1)


def _counted(rows: _Rows) -> int:
    """How many rows there are, with one column kept. Raises MalformedTable like _text_table."""
    options = arrow_csv.ConvertOptions(
        check_utf8=False,
        column_types=dict.fromkeys(rows.names, pa.string()),
        include_columns=[rows.names[0]],
    )
    try:
        with arrow_csv.open_csv(
            _stream(rows), _read_options(rows), _parse_options(rows), options
        ) as reader:
            return sum(batch.num_rows for batch in reader) - rows.has_quotes
    except pa.ArrowInvalid:
        _refuse_unreadable(rows)


def _stream(rows: _Rows) -> IO[bytes]:
    """The bytes without a copy; the stubs know files only."""
    return cast("IO[bytes]", pa.BufferReader(rows.data))


def _read_options(rows: _Rows) -> arrow_csv.ReadOptions:
    # At a block border inside a quoted cell, Arrow 26 drops the LF of a CRLF: one block has none.
    block_bytes = len(rows.data) if rows.has_quoted_crlf else _BLOCK_BYTES
    return arrow_csv.ReadOptions(column_names=list(rows.names), block_size=block_bytes)


def _parse_options(rows: _Rows) -> arrow_csv.ParseOptions:
    return arrow_csv.ParseOptions(
        delimiter=rows.separator,
        quote_char='"' if rows.has_quotes else False,
        newlines_in_values=rows.has_quotes,
        invalid_row_handler=_blank_line_skipper(rows.separator),
    )


def _blank_line_skipper(
    separator: str,
) -> Callable[[arrow_csv.InvalidRow], Literal["skip", "error"]]:
    """Arrow skips empty lines itself; this skips the ones that hold only blanks."""
    blank_lines = 0

    def skip_or_refuse(row: arrow_csv.InvalidRow) -> Literal["skip", "error"]:
        nonlocal blank_lines
        blank_lines += 1
        is_blank = separator not in row.text and not row.text.replace('"', "").strip()
        return "skip" if is_blank and blank_lines <= _BLANK_LINES_MAX else "error"

    return skip_or_refuse


def _refuse_unreadable(rows: _Rows) -> NoReturn:
    """Raises MalformedTable after a second, slower reading that knows the row numbers."""
    faults = list(islice(_faults_of(rows), FAULTS_MAX))
    if not faults:
        size = f"{_BLOCK_BYTES:,} bytes"
        detail = f"A row is longer than {size}, or more than {_BLANK_LINES_MAX:,} lines are blank."
        faults = [Fault(f"{detail} Look for a missing line end and remove blank lines.")]
    refuse(faults)


def _faults_of(rows: _Rows) -> Iterator[Fault]:
    text = io.TextIOWrapper(io.BytesIO(rows.data), encoding="utf-8", newline="")
    number = 0
    reader = csv.reader(text, delimiter=rows.separator)
    try:
        for cells in _filled(reader, rows):
            number += 1
            fault = _fault_of_row(number, cells, rows)
            if fault is not None:
                yield fault
    except csv.Error:
        # The reader's own limit, 128 KiB a cell: an open quote has swallowed the rows behind it.
        number += 1
        yield _open_quote(number, None)
    if number == 0:
        yield Fault("There is a header and no row. Send at least one row of data.")


def _filled(lines: Iterable[list[str]], rows: _Rows) -> Iterator[list[str]]:
    """The lines that are rows: not empty, and not one blank cell where more are expected."""
    for cells in lines:
        is_short = len(cells) == 1 < len(rows.names)
        if cells and not (is_short and rows.separator not in cells[0] and not cells[0].strip()):
            yield cells


def _fault_of_row(number: int, cells: list[str], rows: _Rows) -> Fault | None:
    width = len(rows.names)
    if rows.has_quotes and cells[-1].endswith(_sentinel_line(rows.names, rows.separator)):
        return _open_quote(number, rows.names[len(cells) - 1] if len(cells) <= width else None)
    if len(cells) == width:
        return None
    return Fault(
        f"Row {number} has {len(cells):,} cell{'s' * (len(cells) != 1)}; the header has {width:,}. "
        f"Cells are separated by {_SEPARATORS[rows.separator]}; put quotes around a cell that "
        "holds one.",
        row=number,
    )


def _open_quote(number: int, column: str | None) -> Fault:
    place = f"Row {number}" if column is None else f"Row {number}, column {shown(column)}"
    return Fault(
        f"{place}: a quote is opened and never closed. Close it, or double a quote that belongs "
        "to the text.",
        row=number,
        column=column,
    )
