import json
import math
import random
from typing import NamedTuple

import pyarrow as pa
import pytest

from app.datasets import csv_table, encoding
from app.datasets.cell_types import CATEGORICAL
from app.datasets.parsing import PARSERS, ParsedTable, TableLimits, parse_csv
from app.errors import MalformedTable, ServiceError, TableTooLarge

LIMITS = TableLimits(rows_max=100_000, columns_max=50, cells_max=1_000_000, levels_max=1_000)
NARROW = TableLimits(rows_max=3, columns_max=2, cells_max=5, levels_max=2, text_length_max=9)


class Refusal(NamedTuple):
    body: bytes
    message: str
    row: int | None = None
    column: str | None = None
    pointer: str | None = None


REFUSED_CSV = [
    Refusal(b"", "empty"),
    Refusal(b" \n\r\n", "empty"),
    Refusal(b"a,b\n", "no row"),
    Refusal(b"a,b\n\n \n", "no row"),
    Refusal("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
    Refusal("a,b\n1,2\n".encode("utf-16-le"), "NUL character at byte 2 (line 1)"),
    Refusal("a,b\n1,2\n".encode("utf-32"), "UTF-32"),
    Refusal(b"a,b\n1,2\n3,\x004\n", "byte 11 (line 3)"),
    Refusal("a,b\nx,é\n".encode("latin-1"), "0xE9 at byte 7 (line 2)"),
    Refusal(b"a,b\n" + b"1,2\n" * 400_000 + b"1,\xff\n", "line 400,002"),
    Refusal(b"a,b\n1,2\n3\n", "Row 2 has 1 cell; the header has 2", row=2),
    Refusal(b"a,b\n1,2\n\n3,4,5\n", "Row 2 has 3 cells", row=2),
    Refusal(b"a\tb\tc\n1\t2\t3\n\t\n4\t5\t6\n", "Row 2 has 2 cells", row=2),
    Refusal(b'a;b\n1;2\n";"\n', "Row 2 has 1 cell;", row=2),
    Refusal(b"a,b\n1,2\n" + b" \n" * 1_001, "more than 1,000 lines are blank"),
    Refusal(b"a,b\n1,2\n" + b"3," * 2_200_000, "Row 2 has 2,200,001 cells", row=2),
    Refusal(b'a,b\n1,"2\n3,4\n', "never closed", row=1, column="b"),
    Refusal(b'a,b\n1,2\n"3,4\n', "never closed", row=2, column="a"),
    Refusal(b'a,b\n1,2\n3,"', "never closed", row=2, column="b"),
    Refusal(b'a\n"', "never closed", row=1, column="a"),
    Refusal(b'a,b\n1,"2\n' + b"3,4\n" * 99_000, "never closed", row=1),
    Refusal(b'a,"b\n1,2\n', "header cannot be read"),
    Refusal(b'a,"b' + b"\n" * 900_000, "header cannot be read"),
    Refusal(b"a,b, a\n1,2,3\n", "2 columns are named 'a'", column="a"),
    Refusal("\u00e9,e\u0301\n1,2\n".encode(), "2 columns are named", column="\u00e9"),
    Refusal(b"a,\n1,2\n", "Column 2 has no name", column=""),
    Refusal(b"a" * 201 + b",b\n1,2\n", "201 characters", column="a" * 200),
    Refusal(b'"a\nb",c\n1,2\n', "control character", column="a\nb"),
    Refusal("a\u202eb,c\n1,2\n".encode(), "control character", column="a\u202eb"),
    Refusal(b"5.1,3.5,-1e3\n4.9,3,1\n", "only numbers"),
    Refusal(b"a;b\tc\n1;2\t3\n", "semicolons and tabs"),
    Refusal(b"a|b|c\n1|2|3\n", "separated by '|'"),
    Refusal(b"a;b\n1;2\n3;3,14\n", "'3,14' has a comma", row=2, column="b"),
    Refusal(b"a;b\n1;1.234,5\n", "has a comma", row=1, column="b"),
    Refusal(b'a,b\n1,"1,234,567.8"\n', "has a comma", row=1, column="b"),
    Refusal(b"a,b\n1,2\n3,inf\n", "'inf' is not a finite number", row=2, column="b"),
    Refusal(b"a,b\n1,2\n-Infinity ,4\n", "not a finite number", row=2, column="a"),
    Refusal(b"a,b\n1,2\n1e400,4\n", "'1e400' is not a finite number", row=2, column="a"),
    Refusal(b"a,b\n1," + b"9" * 2_000_000, "999...' is not a finite", row=1, column="b"),
    Refusal(b"a,b\n1,2\n1," + b"x" * 1_001, "1,001 characters", row=2, column="b"),
]  # fmt: skip

REFUSED_JSON = [
    Refusal(b"", "line 1, column 1"),
    Refusal(b'{"rows": [\n{"a": 1,}]}', "line 2, column 8"),
    Refusal('{"columns": {"é": [NaN]}}'.encode(), "write null for a missing value"),
    Refusal(b'{"columns": {"a": [-Infinity]}}', "write null for a missing value"),
    Refusal(b'{"columns": {"a": [1e400]}}', "Send a finite number"),
    Refusal(b'{"columns": {"a": [' + b"9" * 5_000 + b"]}}", "Send a finite number"),
    Refusal(b'{"columns": {"a": ["\\ud800"]}}', "surrogate"),
    Refusal(b'{"columns": {"a": ["x\\u0000"]}}', "NUL", 1, "a", "/columns/a/0"),
    Refusal(b'{"x": ' + b"[" * 2_000, "depth"),
    Refusal('{"x": [[1]]}'.encode("utf-16"), "UTF-16"),
    Refusal(b"[1]", "must be an object", pointer=""),
    Refusal(b"{}", "exactly one of", pointer=""),
    Refusal(b'{"rows": [{"a": 1}], "x": [[1]]}', "exactly one of", pointer=""),
    Refusal(b'{"rows": [{"a": 1}], "Y/": 3}', "'Y/' is not known", pointer="/Y~1"),
    Refusal(b'{"y": [1]}', "no 'x'", pointer="/x"),
    Refusal(b'{"rows": []}', "at least one", pointer="/rows"),
    Refusal(b'{"rows": {"a": 1}}', "must be a list", pointer="/rows"),
    Refusal(b'{"rows": [{}, {}]}', "empty objects", pointer="/rows"),
    Refusal(b'{"rows": [{"a": 1}, [1]]}', "must be an object", row=2, pointer="/rows/1"),
    Refusal(b'{"rows": [{"a": 1}, {"a": [1]}]}', "a list or an object", 2, "a", "/rows/1/a"),
    Refusal(b'{"rows": [{"a": 1}, {"a ": 1}]}', "2 columns", column="a", pointer="/rows/0/a"),
    Refusal(b'{"rows": [{"a": 1, "b": 2, "a": 3}]}', "The key 'a' is repeated"),
    Refusal(b'{"columns": {"a": [1]}, "columns": {"a": [2]}}', "The key 'columns' is repeated"),
    Refusal(b'{"x": ' + b"[" * 1_000 + b"]" * 1_000 + b', "x": [[1]]}', "is repeated"),
    Refusal(b'{"columns": []}', "must be an object", pointer="/columns"),
    Refusal(b'{"columns": {"a": 1}}', "must be a list", pointer="/columns/a"),
    Refusal(b'{"columns": {"a": [1], "b": [1, 2]}}', "has 2 values", None, "b", "/columns/b"),
    Refusal(b'{"columns": {"a": [1, 2, "1e999"]}}', "finite", 3, "a", "/columns/a/2"),
    Refusal(b'{"columns": {"a": ["3,14"]}}', "has a comma", 1, "a", "/columns/a/0"),
    Refusal(b'{"x": [1, 2]}', "must be a list of values", row=1, pointer="/x/0"),
    Refusal(b'{"x": [[]]}', "at least one value", row=1, pointer="/x/0"),
    Refusal(b'{"x": [[1, 2], [3]]}', "Row 2 of 'x' has 1 value", row=2, pointer="/x/1"),
    Refusal(b'{"x": [[1], [{}]]}', "a list or an object", 2, "x1", "/x/1/0"),
    Refusal(b'{"x": [[1], [2]], "y": [3, {}]}', "a list or an object", 2, "y", "/y/1"),
    Refusal(b'{"x": [[1], [2]], "y": [1]}', "'x' has 2 rows and 'y' 1", pointer="/y"),
    Refusal(b'{"x": [[1]], "x_names": ["a", "b"]}', "list of 1 string", pointer="/x_names"),
    Refusal(b'{"x": [[1]], "x_names": [1]}', "list of 1 string", pointer="/x_names"),
    Refusal(b'{"x": [[1]], "y_names": ["a"]}', "no 'y'", pointer="/y_names"),
    Refusal(b'{"x": [[1]], "y": [1], "x_names": ["y"]}', "2 columns are named 'y'", column="y"),
]  # fmt: skip
CASES = [("text/csv", case) for case in REFUSED_CSV] + [
    ("application/json", case) for case in REFUSED_JSON
]


@pytest.mark.parametrize(
    ("media_type", "case"), CASES, ids=[f"{kind}-{case.body[:40]!r}" for kind, case in CASES]
)
def test_a_mistake_is_refused_with_its_place(media_type: str, case: Refusal) -> None:
    with pytest.raises(MalformedTable) as refused:
        PARSERS[media_type](case.body, LIMITS)

    first = refused.value.faults[0]
    assert case.message in first.detail
    assert (first.row, first.column, first.pointer) == (case.row, case.column, case.pointer)
    assert refused.value.detail.startswith(first.detail)


@pytest.mark.parametrize(
    ("media_type", "body", "message"),
    [
        ("text/csv", b"a,b,c\n1,2,3\n", "3 columns; at most 2"),
        ("text/csv", b"a" + b"," * 9_000_000, "9,000,001 columns; at most 2"),
        ("text/csv", b"a\n1\n2\n\n3\n4\n", "4 rows; at most 3"),
        ("text/csv", b"a,b\n1,2\n1,2\n1,2\n", "6 cells; at most 5"),
        ("text/csv", b'a\n"1\n\n\n"\n"2"\n"3"\n"4"\n', "4 rows; at most 3"),
        ("application/json", b'{"rows": [{}, {}, {}, {}]}', "4 rows; at most 3"),
        ("application/json", b'{"rows": [{"a": 1, "b": 1, "c": 1}]}', "3 columns; at most 2"),
        ("application/json", b'{"rows": [{"a": 1}, {"b": 1}, {}]}', "6 cells; at most 5"),
        ("application/json", b'{"columns": {"a": [1, 2, 3, 4]}}', "4 rows; at most 3"),
        ("application/json", b'{"x": [[1], [2], [3]], "y": [1, 2, 3]}', "6 cells; at most 5"),
        ("application/json", b'{"x": [' + b"[]," * 90_000 + b"[]]}", "90,003 lists and objects"),
        ("application/json", b'{"x": [[' + b"0," * 90_000 + b"0]]}", "90,001 values"),
        ("application/json", b'{"x": ["' + b'\\"[,' * 90_000 + b'"], "y": [' + b"[]," * 90_000,
         "90,003 lists and objects"),
    ],
)  # fmt: skip
def test_a_table_beyond_a_limit_is_refused_with_both_numbers(
    media_type: str, body: bytes, message: str
) -> None:
    with pytest.raises(TableTooLarge, match=message):
        PARSERS[media_type](body, NARROW)


def test_a_row_over_several_blocks_of_the_reader_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_table, "_BLOCK_BYTES", 64)

    with pytest.raises(MalformedTable, match="A row is longer than 64 bytes"):
        parse_csv(b"a,b\n1,2\n3," + b"x" * 200 + b"\n5,6\n", LIMITS)


def test_a_body_beyond_what_arrow_counts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_BYTES_MAX", 7)

    with pytest.raises(TableTooLarge, match="8 bytes; at most 7"):
        parse_csv(b"a,b\n1,2\n", LIMITS)


def test_a_table_at_its_limits_is_accepted() -> None:
    at_rows = parse_csv(b"a\n\n1\n2\n\n3\n\n", NARROW)
    at_cells = parse_csv(b'a,b\n"1,\n2",2\n3,4\n', NARROW)

    assert (at_rows.table.num_rows, at_cells.table.num_rows) == (3, 2)


def test_faults_are_listed_to_twenty_and_no_text_is_echoed_beyond_eighty_characters() -> None:
    body = b"a,b\n" + b"1,\xf0\x9f\x98\x80inf\n1\n" * 30 + b"1," + b"\x1b[31m" * 500 + b",\n"

    with pytest.raises(MalformedTable) as ragged:
        parse_csv(body, LIMITS)
    with pytest.raises(MalformedTable) as infinite:
        parse_csv(b"a,b\n" + b"1,1e" + b"9" * 500 + b"\n1,1\n" * 30, LIMITS)

    assert [fault.row for fault in ragged.value.faults] == list(range(2, 42, 2))
    assert len(infinite.value.detail) < 220


@pytest.mark.parametrize("media_type", PARSERS)
def test_random_damage_gives_a_sound_table_or_a_service_error(media_type: str) -> None:
    chance = random.Random(20)
    for _ in range(1_500):
        body = damaged(VALID[media_type], chance)
        try:
            parsed = PARSERS[media_type](body, NARROW if chance.random() < 0.2 else LIMITS)
        except ServiceError as error:
            assert_short(error)
        else:
            assert_sound(parsed)


VALID = {
    "text/csv": b'age,city,"pay, CHF",ok\n31,Bern,5e3,true\n,"Z\xc3\xbcrich\n8000",-0.5,NA\n'
    b'"42","say ""hi""",1.25,false\n7, Basel ,+3,?\n',
    "application/json": json.dumps({
        "rows": [{"age": 31, "city": "Bern\n", "ok": True}, {"age": None, "city": "Zürich"}] * 3
    }).encode(),
}  # fmt: skip
FRAGMENTS = (
    b'"', b",", b"\n", b"\r", b";", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"1e400", b"inf",
    b"3,14", b"NaN", b"[", b"]", b"{", b"}", b":", b"\\", b"\\u0000", b"null", b" ", b"\xc3",
    b"0x1", b'{"x":[[1]]}', b'"rows"',
)  # fmt: skip


def damaged(body: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 5)):
        at, end = sorted(chance.choices(range(len(body) + 1), k=2))
        kind = chance.randrange(5)
        piece = {
            0: chance.choice(FRAGMENTS) + body[at:end],
            1: b"",
            2: body[at:end] * 2,
            3: bytes(chance.randrange(256) for _ in range(2)) + body[at:end][2:],
            4: chance.choice(FRAGMENTS) * chance.randint(1, 30),
        }[kind]
        end = end if kind != 1 else min(end, at + 9)
        body = body[:at] + piece + body[end:]
    return body


def assert_short(error: ServiceError) -> None:
    assert len(error.faults) <= 20
    assert all(len(fault.detail) < 500 for fault in error.faults)


def assert_sound(parsed: ParsedTable) -> None:
    parsed.table.validate(full=True)
    assert parsed.table.num_rows > 0
    assert len(set(parsed.table.column_names)) == parsed.table.num_columns > 0
    for column in parsed.table.columns:
        assert column.type in (pa.float64(), CATEGORICAL)
        assert column.num_chunks == 1
        assert all(
            cell is None
            or (math.isfinite(cell) if isinstance(cell, float) else cell == cell.strip())
            for cell in column.to_pylist()
        )
