import json
import math
import statistics
from collections import Counter
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.datasets.cell_types import FirstText
from app.datasets.columns import (
    CategoricalColumn,
    Column,
    Level,
    NumericColumn,
    describe,
    from_json,
    to_json,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WORD = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)

checked = settings(max_examples=80)


def numeric(cells: list[float | None]) -> NumericColumn:
    (column,) = describe(pa.table({"a": pa.array(cells, pa.float64())}), levels_max=3)
    assert isinstance(column, NumericColumn)
    return column


def categorical(cells: list[str | None], *, levels_max: int = 3) -> CategoricalColumn:
    text = pa.array(cells, pa.string()).dictionary_encode()
    (column,) = describe(pa.table({"a": text}), levels_max=levels_max)
    assert isinstance(column, CategoricalColumn)
    return column


@checked
@given(st.lists(st.floats(-1e6, 1e6) | st.integers(-3, 3).map(float) | st.none(), min_size=1))
def test_numbers_are_described_as_the_statistics_module_does(cells: list[float | None]) -> None:
    present = [cell for cell in cells if cell is not None]
    assume(present)

    column = numeric(cells)

    largest = max(map(abs, present))
    assert column.missing == len(cells) - len(present)
    assert (column.minimum, column.maximum) == (min(present), max(present))
    assert column.distinct == len(set(present))
    assert column.mean == pytest.approx(statistics.fmean(present), rel=1e-14, abs=1e-15 * largest)
    assert column.sd == pytest.approx(statistics.pstdev(present), rel=1e-9, abs=1e-14 * largest)


@checked
@given(st.lists(FINITE, min_size=1, max_size=20))
def test_statistics_of_any_finite_numbers_are_finite_and_right(cells: list[float]) -> None:
    column = numeric(list(cells))

    assert column.mean is not None
    assert column.sd is not None
    exact = [Fraction(cell) for cell in cells]
    mean = sum(exact, Fraction(0)) / len(exact)
    largest = max(map(abs, exact))
    mean_square = sum(((cell - mean) ** 2 for cell in exact), Fraction(0)) / len(exact)
    assert abs(Fraction(column.mean) - mean) <= largest * Fraction(1e-14) + Fraction(5e-324)
    # The root is compared squared: the mean square may be beyond every float.
    slack = largest * Fraction(1e-14) + Fraction(5e-324)
    low, high = max(Fraction(column.sd) - slack, Fraction(0)), Fraction(column.sd) + slack
    assert low**2 * Fraction(1 - 1e-9) <= mean_square <= high**2 * Fraction(1 + 1e-9)


@pytest.mark.parametrize("value", [0.1, -1.7976931348623157e308, 5e-324, 0.0])
def test_a_constant_column_has_no_spread_at_all(value: float) -> None:
    column = numeric([value] * 7)

    assert (column.mean, column.sd, column.distinct) == (value, 0.0, 1)


def test_a_column_with_every_cell_missing_has_no_statistics() -> None:
    column = numeric([None, None])

    assert column == NumericColumn("a", 2, None, None, None, None, 0)


@checked
@given(st.lists(WORD | st.none(), min_size=1), st.integers(1, 5))
def test_levels_are_counted_as_counter_does(cells: list[str | None], levels_max: int) -> None:
    counts = Counter(cell for cell in cells if cell is not None)
    ordered = sorted(counts.items(), key=lambda level: (-level[1], level[0]))

    column = categorical(cells, levels_max=levels_max)

    assert column.missing == cells.count(None)
    assert column.level_count == len(counts)
    assert column.levels == tuple(Level(*level) for level in ordered[:levels_max])


def test_levels_that_no_row_uses_are_not_counted() -> None:
    table = pa.table({"a": pa.array(["x", "y", "y", "z"]).dictionary_encode()}).slice(1, 2)

    (column,) = describe(table, levels_max=3)

    assert column == CategoricalColumn("a", 0, 1, (Level("y", 2),))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", None, "12O5", "2", "x", "3"], FirstText(3, "12O5")),
        (["1", "x"], None),
        (["1", "2"], None),
        (["x", "y"], None),
        ([None], None),
    ],
)
def test_the_first_text_is_told_if_more_than_half_are_numbers(
    cells: list[str | None], expected: FirstText | None
) -> None:
    assert categorical(cells).first_text == expected


@checked
@given(st.lists(FINITE | st.none()), st.lists(WORD | st.none()))
def test_columns_survive_json_to_the_bit(
    numbers: list[float | None], words: list[str | None]
) -> None:
    columns: tuple[Column, ...] = (numeric(numbers), categorical([*words, "1", "2", "x"]))

    stored = json.loads(json.dumps(to_json(columns), allow_nan=False))

    assert repr(from_json(stored)) == repr(columns)
    assert [column["kind"] for column in stored] == ["numeric", "categorical"]


def test_floats_survive_a_database_that_writes_them_as_integers() -> None:
    columns = (NumericColumn("a", 0, -1e300, 1e300, 2.0, 1e300, 3),)
    stored = to_json(columns)
    stored[0].update(minimum=int(-1e300), maximum=int(1e300), mean=2, sd=int(1e300))

    assert repr(from_json(stored)) == repr(columns)


def test_kinds_and_order_follow_the_table() -> None:
    text = pa.array(["x"]).dictionary_encode()
    columns = describe(pa.table({"b": text, "a": pa.array([math.pi])}), levels_max=1)

    assert [(column.name, column.kind) for column in columns] == [
        ("b", "categorical"),
        ("a", "numeric"),
    ]
