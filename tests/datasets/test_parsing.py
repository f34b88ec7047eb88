import csv
import io
import json
import random
from importlib.resources import files
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets import csv_table
from app.datasets.cell_types import CATEGORICAL, MISSING_TOKENS
from app.datasets.parsing import PARSERS, ParsedTable, TableLimits, parse_csv, parse_json
from app.errors import MalformedTable

LIMITS = TableLimits(rows_max=100_000, columns_max=50, cells_max=1_000_000, levels_max=1_000)
NARROW = TableLimits(rows_max=3, columns_max=2, cells_max=5, levels_max=2, text_length_max=9)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
BLANKS = st.text(" \t\n\r\u00a0", max_size=2)
# Never a number, never a missing token, and full of what a CSV reader can stumble over.
WORD = st.builds("{}x{}x{}".format, BLANKS, TEXT | st.text('",;\n\r\t x', max_size=6), BLANKS)

checked = settings(max_examples=80)


def bits(numbers: Any) -> list[int]:
    """What tells floats apart exactly, -0.0 from 0.0 too."""
    values: list[int] = np.asarray(numbers, dtype=np.float64).view(np.int64).tolist()
    return values


def tables(cell: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    return st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1)
    )


def written(rows: list[list[Any]], **dialect: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, **dialect)
    writer.writerow([f"column {index}" for index in range(len(rows[0]))])
    writer.writerows(rows)
    return text.getvalue().encode()


def by_column(parsed: ParsedTable) -> dict[str, list[Any]]:
    return parsed.table.to_pydict()


@checked
@given(tables(FINITE), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_csv_gives_the_bits_that_repr_wrote(
    rows: list[list[float]], line_end: str, with_quotes: bool
) -> None:
    quoting = csv.QUOTE_ALL if with_quotes else csv.QUOTE_MINIMAL

    table = parse_csv(written(rows, lineterminator=line_end, quoting=quoting), LIMITS).table

    assert [bits(column) for column in table.columns] == [
        bits(column) for column in zip(*rows, strict=True)
    ]


@checked
@given(tables(WORD | st.sampled_from(["NA", " ?", "n/a "])), st.sampled_from([csv.QUOTE_ALL, 0, 2]))
def test_csv_gives_the_strings_that_the_csv_module_reads(
    rows: list[list[str]], quoting: int
) -> None:
    body = written(rows, quoting=quoting)
    read = list(csv.reader(io.StringIO(body.decode(), newline="")))[1:]

    table = parse_csv(body, LIMITS).table

    stripped = [[cell.strip() for cell in row] for row in read]
    expected = [[None if cell in MISSING_TOKENS else cell for cell in row] for row in stripped]
    assert [list(row.values()) for row in table.to_pylist()] == expected


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv_of_many_blocks_gives_the_strings_that_the_csv_module_reads(line_end: str) -> None:
    chance = random.Random(0)
    words = ["a", 'say "hi"', f"two{line_end}lines", f"3{line_end}more, lines", "é" * 90, "x" * 900]
    rows = [[chance.choice(words), f"r{index}"] for index in range(60_000)]
    body = written(rows, lineterminator=line_end)
    assert len(body) > 2 * (4 << 20)

    columns = by_column(parse_csv(body, LIMITS))

    assert [list(row) for row in zip(*columns.values(), strict=True)] == rows


def test_a_quoted_line_break_is_kept_wherever_a_block_of_the_reader_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_table, "_BLOCK_BYTES", 64)
    for width in range(130):
        cell = "x" * width + "\r\ny"

        table = parse_csv(written([["a", "b"], [cell, "c"]]), LIMITS).table

        assert table.column(0).to_pylist() == ["a", cell.strip()]


@pytest.mark.parametrize("name", ["iris.csv", "breast_cancer.csv"])
def test_csv_of_a_real_table_gives_the_numbers_that_numpy_reads(name: str) -> None:
    lines = (files("sklearn.datasets.data") / name).read_text().splitlines()[1:]
    expected = np.loadtxt(lines, delimiter=",")
    header = ",".join(f"c{index}" for index in range(expected.shape[1]))

    table = parse_csv("\n".join([header, *lines]).encode(), LIMITS).table

    assert [bits(column) for column in table.columns] == [bits(column) for column in expected.T]


@checked
@given(tables(FINITE | st.none() | st.integers(-(2**70), 2**70)))
def test_json_gives_the_nearest_floats_in_every_shape(rows: list[list[float | None]]) -> None:
    width = len(rows[0])
    names = [f"x{index + 1}" for index in range(width)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    bodies = [
        {"rows": [dict(zip(names, row, strict=True)) for row in rows]},
        {"columns": dict(zip(names, columns, strict=True))},
        {"x": rows, "y": columns[0]},
    ]

    parsed = [parse_json(json.dumps(body).encode(), LIMITS).table for body in bodies]

    expected = [[None if cell is None else float(cell) for cell in column] for column in columns]
    for table in parsed:
        found = [table.column(name).to_pylist() for name in names]
        assert list(map(repr, chain(*found))) == list(map(repr, chain(*expected)))


@checked
@given(tables(WORD | st.none()))
def test_json_gives_the_strings_that_were_sent_stripped(rows: list[list[str | None]]) -> None:
    table = parse_json(json.dumps({"x": rows}).encode(), LIMITS).table

    expected = [[cell if cell is None else cell.strip() for cell in row] for row in rows]
    assert [list(row.values()) for row in table.to_pylist()] == expected


@checked
@given(st.text("0123456789+-.eEinfaINFAxX_ ,d", max_size=8), st.booleans())
def test_a_cell_is_numeric_exactly_if_it_is_a_decimal_number(cell: str, is_first: bool) -> None:
    """Python's float() is the oracle, less the underscores and names that it also takes."""
    try:
        number = None if set("_infaINFA") & set(cell) else float(cell)
    except ValueError:
        number = None
    cells = [cell, "1"] if is_first else ["1", cell]

    try:
        column = by_column(parse_json(json.dumps({"y": cells, "x": [[0], [0]]}).encode(), LIMITS))
    except MalformedTable:
        assert number is None
        return

    if number is not None:
        assert bits(column["y"]) == bits([float(text) for text in cells])
    elif cell.strip() in MISSING_TOKENS:
        assert sorted(column["y"], key=str) == [1.0, None]
    else:
        assert column["y"] == [text.strip() for text in cells]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a,b\n1,x\n", {"a": [1.0], "b": ["x"]}),
        (b"\xef\xbb\xbfa,b\n1,x\n", {"a": [1.0], "b": ["x"]}),
        (b"a,b\r1,x\r\r2,y", {"a": [1.0, 2.0], "b": ["x", "y"]}),
        (b"\n \n a , b \n\n1,x\n   \n\n2, y \n \n", {"a": [1.0, 2.0], "b": ["x", "y"]}),
        (b"a;b\n1;3.5\n", {"a": [1.0], "b": [3.5]}),
        (b"a\tb\n\t3.5\n", {"a": [None], "b": [3.5]}),
        (b'"a;1","b"\n1,2\n', {"a;1": [1.0], "b": [2.0]}),
        (b'5" pipe;b\n1;2\n', {'5" pipe': [1.0], "b": [2.0]}),
        (b'"a\r\n",b\n1,2\n', {"a": [1.0], "b": [2.0]}),
        (b'a,b\n5" pipe,2\n', {"a": ['5" pipe'], "b": [2.0]}),
        (b'a,b\nend,end\n"",2\n', {"a": ["end", None], "b": ["end", "2"]}),
        (b"a,b\n+1,.5\n1.,1E-2\n", {"a": [1.0, 1.0], "b": [0.5, 0.01]}),
        (b"a,b\n0x10,1_0\n", {"a": ["0x10"], "b": ["1_0"]}),
        (b"a,b\ntrue,1\nfalse, NA \n", {"a": ["true", "false"], "b": [1.0, None]}),
        (b"a,b\n,?\n#N/A,NULL\n", {"a": [None, None], "b": [None, None]}),
        (b'a,b\n"1,2,3",1e-400\n', {"a": ["1,2,3"], "b": [0.0]}),
        ("e\u0301,ü\n1,ö\n".encode(), {"\u00e9": [1.0], "ü": ["ö"]}),
    ],
)
def test_csv_accepts(body: bytes, expected: dict[str, list[Any]]) -> None:
    parsed = parse_csv(body, LIMITS)

    assert by_column(parsed) == expected
    assert parsed.warnings == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"rows": [{"a": 1}, {"b": "x", "a": None}]}, {"a": [1.0, None], "b": [None, "x"]}),
        ({"columns": {"a": ["1", " 2 "], "b": [True, False]}},
         {"a": [1.0, 2.0], "b": ["true", "false"]}),
        ({"columns": {"a": [1, 2.5, "x", "y", True]}}, {"a": ["1", "2.5", "x", "y", "true"]}),
        ({"x": [[1, 2]], "y": [[3, 4]]}, {"x1": [1.0], "x2": [2.0], "y1": [3.0], "y2": [4.0]}),
        ({"x": [[1]], "y": [[3]], "x_names": ["age"]}, {"age": [1.0], "y": [3.0]}),
        ({"x": [[1]], "y": ["no"], "y_names": ["ok"]}, {"x1": [1.0], "ok": ["no"]}),
        ({"columns": {"a": [2**53 + 1, None]}}, {"a": [2.0**53, None]}),
        ({"columns": {"a:": ["b:[{,"], "c": [None]}}, {"a:": ["b:[{,"], "c": [None]}),
    ],
)  # fmt: skip
def test_json_accepts(body: Any, expected: dict[str, list[Any]]) -> None:
    parsed = parse_json(json.dumps(body).encode(), LIMITS)

    assert by_column(parsed) == expected
    assert parsed.warnings == ()


@pytest.mark.parametrize("media_type", PARSERS)
def test_a_text_among_numbers_makes_categories_and_a_warning(media_type: str) -> None:
    cells: list[Any] = [*range(499), "12O5", None, *range(499)]
    body = {
        "text/csv": written([[cell] for cell in cells], quoting=csv.QUOTE_ALL),
        "application/json": json.dumps({"columns": {"column 0": cells}}).encode(),
    }[media_type]

    parsed = PARSERS[media_type](body, LIMITS)

    (warning,) = parsed.warnings
    assert "'12O5' is not a number; 998 of 999 values are. The column is read as" in warning.detail
    assert (warning.row, warning.column) == (500, "column 0")
    assert parsed.table.schema.types == [CATEGORICAL]


def test_half_numbers_and_half_texts_are_categories_without_a_warning() -> None:
    parsed = parse_csv(b"a,b\n1,1\nx,2\n", LIMITS)

    assert parsed.warnings == ()
    assert parsed.table.schema.types == [CATEGORICAL, pa.float64()]


def test_more_texts_than_are_listed_give_a_warning() -> None:
    parsed = parse_csv(b"a\nx\ny\nz\n", NARROW)

    assert "3 different texts, more than the 2" in parsed.warnings[0].detail
