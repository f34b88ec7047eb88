"""JSON bodies to a table, in one of three shapes.

    {"rows": [{"age": 31, "city": "Bern"}, ...]}        a key that a row lacks is a missing value
    {"columns": {"age": [31, ...], "city": [...]}}      lists of one length
    {"x": [[...], ...], "y": [...] or [[...], ...]}     columns x1..xn and y or y1..ym, or named by
                                                        "x_names" and "y_names"; y may be left out

A cell is a number, a string, true, false or null (missing). Numbers arrive as the nearest float64,
which is exact for every float64 and for integers up to 2**53. Where a column holds strings, all its
cells are taken as texts and typed by the rule that CSV follows: ["1", "2"] is numeric.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any, Final

import orjson
import pyarrow as pa

from app.api.json_text import STRING, count, repeated_key
from app.datasets.cell_types import TypedColumn, typed
from app.datasets.encoding import utf8_without_bom
from app.datasets.table import (
    ArrowArray,
    ParsedTable,
    Source,
    TableLimits,
    checked_names,
    refuse,
    refuse_larger_than,
    shown,
)
from app.errors import Fault, TableTooLarge

_NON_FINITE: Final = re.compile(rb"-?(?:NaN|Infinity)")
_SHAPES_TEXT: Final = '{"rows": [{...}]}, {"columns": {...}} or {"x": [[...]], "y": [...]}'


@dataclass(frozen=True, slots=True)
class _Column:
    source: Source
    cells: list[Any]


@dataclass(frozen=True, slots=True)
class _Shape:
    """The top-level keys of a shape, and how its columns are read."""

    keys: frozenset[str]
    read: Callable[[Mapping[str, Any], TableLimits], list[_Column]]


def parse_json(body: bytes, limits: TableLimits) -> ParsedTable:
    """The table of a JSON body in one of the three shapes of this module.

    Raises MalformedTable, with rows, columns and JSON pointers where they apply, and TableTooLarge.
    """
    text_body = utf8_without_bom(body)
    _refuse_bombs(text_body, limits)
    document = _loaded(text_body)
    columns = _SHAPES[_shape_of(document)].read(document, limits)
    typed_columns = [_typed(column, limits) for column in columns]
    _refuse_repeated_keys(text_body, document)
    table = pa.Table.from_arrays(
        [column.cells for column in typed_columns],
        names=[column.source.name for column in columns],
    )
    return ParsedTable(table, tuple(c.warning for c in typed_columns if c.warning is not None))


def _refuse_bombs(body: bytes, limits: TableLimits) -> None:
    """Raises TableTooLarge for more lists or values than any allowed table has, before they exist.

    An empty list costs two bytes in the body and fifty or more in memory.
    """
    containers_max = 2 * limits.rows_max + limits.columns_max + 8
    commas_max = limits.cells_max + 2 * (limits.rows_max + limits.columns_max) + 8

    def counts(text: bytes) -> tuple[int, int]:
        return text.count(b"[") + text.count(b"{"), text.count(b",")

    containers, commas = counts(body)
    if containers <= containers_max and commas <= commas_max:
        return
    containers, commas = counts(STRING.sub(b"", body))
    if containers > containers_max:
        detail = f"The body holds {containers:,} lists and objects; at most {limits.rows_max:,}"
        raise TableTooLarge(f"{detail} rows are allowed. Send a sample of the rows.")
    if commas > commas_max:
        detail = f"The body holds {commas + 1:,} values; at most {limits.cells_max:,} cells"
        raise TableTooLarge(f"{detail} are allowed. Send fewer rows or columns.")


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        remedy = ""
        if _NON_FINITE.match(body, len(error.doc[: error.pos].encode())):
            remedy = " JSON has no NaN or Infinity: write null for a missing value."
        elif "infinity" in error.msg:
            remedy = " Send a finite number, or null if it is missing."
        place = f"line {error.lineno}, column {error.colno}"
        refuse([Fault(f"The body is not valid JSON at {place}: {error.msg}.{remedy}")])


def _shape_of(document: Any) -> str:
    if not isinstance(document, dict):
        refuse([Fault(f"The body must be an object: {_SHAPES_TEXT}.", pointer="")])
    known = frozenset[str]().union(*(shape.keys for shape in _SHAPES.values()))
    unknown = [
        Fault(f"{shown(key)} is not known here. Send {_SHAPES_TEXT}.", pointer=_pointer(key))
        for key in document
        if key not in known
    ]
    if unknown:
        refuse(unknown)
    found = [name for name, shape in _SHAPES.items() if not shape.keys.isdisjoint(document)]
    if len(found) != 1:
        refuse([Fault(f"Send exactly one of {_SHAPES_TEXT}.", pointer="")])
    if found[0] not in document:
        refuse([Fault("There is no 'x'. Send the inputs as a list of rows.", pointer="/x")])
    return found[0]


def _read_rows(document: Mapping[str, Any], limits: TableLimits) -> list[_Column]:
    rows = _filled_list(document["rows"], "/rows")
    refuse_larger_than(limits, rows=len(rows), columns=0)
    if set(map(type, rows)) != {dict}:
        refuse(
            Fault("A row must be an object of names and values.", f"/rows/{index}", index + 1)
            for index, row in enumerate(rows)
            if type(row) is not dict
        )
    keys = list(dict.fromkeys(chain.from_iterable(rows)))
    if not keys:
        refuse([Fault("The rows are empty objects. Send names and values.", pointer="/rows")])
    refuse_larger_than(limits, rows=len(rows), columns=len(keys))

    def first_use(index: int) -> str:
        row = next(number for number, row in enumerate(rows) if keys[index] in row)
        return f"/rows/{row}{_pointer(keys[index])}"

    names = checked_names(keys, limits, pointer_of=first_use)
    return [
        _Column(Source(name, partial(_pointer, "rows", then=key)), [row.get(key) for row in rows])
        for name, key in zip(names, keys, strict=True)
    ]


def _read_columns(document: Mapping[str, Any], limits: TableLimits) -> list[_Column]:
    columns = document["columns"]
    if not isinstance(columns, dict) or not columns:
        detail = "'columns' must be an object of names and lists, with at least one of them."
        refuse([Fault(detail, pointer="/columns")])
    keys = list(columns)
    refuse_larger_than(limits, rows=0, columns=len(keys))
    names = checked_names(keys, limits, pointer_of=lambda at: _pointer("columns", keys[at]))
    for key in keys:
        _filled_list(columns[key], _pointer("columns", key))
    length = len(columns[keys[0]])
    uneven = [
        Fault(
            f"The column {shown(name)} has {len(columns[key]):,} values; "
            f"the first column has {length:,}. Send null for a missing value.",
            pointer=_pointer("columns", key),
            column=name,
        )
        for name, key in zip(names, keys, strict=True)
        if len(columns[key]) != length
    ]
    if uneven:
        refuse(uneven)
    refuse_larger_than(limits, rows=length, columns=len(keys))
    return [
        _Column(Source(name, partial(_pointer, "columns", key)), columns[key])
        for name, key in zip(names, keys, strict=True)
    ]


def _read_matrices(document: Mapping[str, Any], limits: TableLimits) -> list[_Column]:
    columns = _matrix_columns(document, "x", limits)
    if "y" in document:
        outputs = _matrix_columns(document, "y", limits)
        inputs_length, outputs_length = len(columns[0].cells), len(outputs[0].cells)
        if inputs_length != outputs_length:
            detail = f"'x' has {inputs_length:,} rows and 'y' {outputs_length:,}. Send as many."
            refuse([Fault(detail, pointer="/y")])
        columns += outputs
    elif "y_names" in document:
        refuse([Fault("There are 'y_names' and no 'y'. Send both.", pointer="/y_names")])
    refuse_larger_than(limits, rows=len(columns[0].cells), columns=len(columns))
    names = checked_names([column.source.name for column in columns], limits)
    return [
        replace(column, source=replace(column.source, name=name))
        for name, column in zip(names, columns, strict=True)
    ]


def _matrix_columns(document: Mapping[str, Any], key: str, limits: TableLimits) -> list[_Column]:
    """The columns of x or y, with their names as sent."""
    rows = _filled_list(document[key], _pointer(key))
    refuse_larger_than(limits, rows=len(rows), columns=0)
    kinds = set(map(type, rows))
    if key == "y" and list not in kinds:
        (name,) = _matrix_names(document, key, 1)
        return [_Column(Source(name, partial(_pointer, key)), rows)]
    if kinds != {list}:
        refuse(
            Fault(f"A row of {key!r} must be a list of values.", _pointer(key, index), index + 1)
            for index, row in enumerate(rows)
            if type(row) is not list
        )
    width = len(rows[0])
    if set(map(len, rows)) != {width} or width == 0:
        refuse(
            Fault(
                f"Row {index + 1} of {key!r} has {len(row):,} values; the first row has {width:,}. "
                "Send rows of one length, with at least one value.",
                pointer=_pointer(key, index),
                row=index + 1,
            )
            for index, row in enumerate(rows)
            if len(row) != width or width == 0
        )
    refuse_larger_than(limits, rows=len(rows), columns=width)
    names = _matrix_names(document, key, width)
    return [
        _Column(Source(name, partial(_pointer, key, then=at)), list(map(itemgetter(at), rows)))
        for at, name in enumerate(names)
    ]


def _matrix_names(document: Mapping[str, Any], key: str, width: int) -> list[str]:
    names_key = f"{key}_names"
    names = document.get(names_key)
    if names is None:
        return [key] if key == "y" and width == 1 else [f"{key}{at + 1}" for at in range(width)]
    if not isinstance(names, list) or set(map(type, names)) - {str} or len(names) != width:
        detail = f"{names_key!r} must be a list of {width} string{'s' * (width != 1)}, one a column"
        refuse([Fault(f"{detail} of {key!r}.", pointer=_pointer(names_key))])
    return names


def _filled_list(value: Any, pointer: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        refuse([Fault(f"{shown(pointer)} must be a list with at least one entry.", pointer)])
    return value


def _typed(column: _Column, limits: TableLimits) -> TypedColumn:
    kinds = set(map(type, column.cells))
    if kinds <= {float, int, NoneType}:
        return TypedColumn(_floats(column.cells))
    if not kinds.isdisjoint({list, dict}):
        refuse(
            column.source.fault_at(
                index,
                f"Row {index + 1}, column {shown(column.source.name)}: a cell cannot be a list or "
                "an object. Send a number, a string, true, false or null.",
            )
            for index, cell in enumerate(column.cells)
            if isinstance(cell, list | dict)
        )
    if kinds <= {str, NoneType}:
        return typed(column.source, pa.array(column.cells, pa.string()), limits)
    texts = pa.array(map(_text_of, column.cells), pa.string())
    return typed(column.source, texts, limits)


def _floats(cells: list[Any]) -> ArrowArray:
    try:
        return pa.array(cells, pa.float64())
    except pa.ArrowInvalid:
        # Arrow refuses integers beyond 2**53; here the nearest float64 is what is meant.
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())


def _text_of(cell: Any) -> str | None:
    """The text of a cell that shares its column with texts: as JSON writes it, floats exactly."""
    if cell is None or isinstance(cell, str):
        return cell
    return str(cell).lower() if isinstance(cell, bool) else repr(cell)


def _pointer(*path: str | int, then: str | int | None = None) -> str:
    """The JSON pointer (RFC 6901) of a path; `then` goes last, behind what a partial adds."""
    steps = path if then is None else (*path, then)
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


def _refuse_repeated_keys(body: bytes, document: Mapping[str, Any]) -> None:
    """Raises MalformedTable if a key is repeated in an object: the reader kept only the last.

    Each pair has one colon, so a reader that dropped a pair has kept fewer pairs than colons.
    """
    pairs = len(document) + len(document.get("columns", ()))
    pairs += sum(map(len, document["rows"])) if "rows" in document else 0
    if body.count(b":") > pairs and count(body, b":") > pairs:
        refuse([Fault(f"{repeated_key(body)} is repeated in one object. Name it once.")])


_SHAPES: Final[Mapping[str, _Shape]] = {
    "rows": _Shape(frozenset({"rows"}), _read_rows),
    "columns": _Shape(frozenset({"columns"}), _read_columns),
    "x": _Shape(frozenset({"x", "y", "x_names", "y_names"}), _read_matrices),
}
