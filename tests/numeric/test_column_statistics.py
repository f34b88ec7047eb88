import math
import statistics as exact

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from app.numeric import column_statistics
from app.numeric.column_statistics import SLICE_ROWS, statistics
from app.numeric.errors import NumericError

EPSILON = float(np.finfo(np.float64).eps)
TINY = math.ulp(0.0)
REPEATED = st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5, math.nan])
NUMBERS = st.lists(
    st.floats(allow_nan=True, allow_infinity=False) | REPEATED, min_size=1, max_size=40
).filter(lambda cells: not all(map(math.isnan, cells)))
SLICES = st.integers(1, 45)


@settings(max_examples=300)
@given(cells=NUMBERS, slice_rows=SLICES)
def test_statistics_equal_those_of_exact_fractions(cells: list[float], slice_rows: int) -> None:
    there = [cell for cell in cells if not math.isnan(cell)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_statistics, "SLICE_ROWS", slice_rows)
        found = statistics(np.array(cells), of="input a")

    # Halved by numbers that are exact, so that the largest numbers have a sum.
    largest = max(map(abs, there))
    mean, deviation = exact.mean([cell / 2.0 for cell in there]) * 2.0, exact_deviation(there)
    assert found.missing == len(cells) - len(there)
    assert (found.minimum, found.maximum) == (min(there), max(there))
    assert abs(found.mean - mean) <= 2 * EPSILON * largest + TINY
    assert abs(found.deviation - deviation) <= 4 * EPSILON * largest + TINY
    assert (found.deviation == 0.0) == (min(there) == max(there))
    assert min(there) <= found.mean <= max(there)
    assert found.deviation <= max(there) / 2.0 - min(there) / 2.0 + TINY


def exact_deviation(cells: list[float]) -> float:
    return exact.pstdev([cell / 2.0 for cell in cells]) * 2.0


@settings(max_examples=300)
@given(cells=NUMBERS, slice_rows=SLICES)
def test_median_and_mode_equal_those_of_a_sorted_list(cells: list[float], slice_rows: int) -> None:
    there = [cell for cell in cells if not math.isnan(cell)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_statistics, "SLICE_ROWS", slice_rows)
        median = column_statistics.median(np.array(cells))
        most_frequent = column_statistics.most_frequent(np.array(cells))

    middle = exact.median(there)
    assert median == middle or math.isinf(middle)
    assert min(there) <= median <= max(there)
    assert most_frequent == min(exact.multimode(there))


@pytest.mark.parametrize("decimals", [1, 4, 16])
def test_columns_of_many_slices_agree_with_numpy_and_scipy(decimals: int) -> None:
    values = np.random.default_rng(decimals).normal(size=4 * SLICE_ROWS + 17).round(decimals)
    values[::7] = np.nan

    found = statistics(values, of="input a")

    assert found.missing == len(values[::7])
    assert (found.minimum, found.maximum) == (np.nanmin(values), np.nanmax(values))
    assert found.mean == pytest.approx(np.nanmean(values), rel=1e-12)
    assert found.deviation == pytest.approx(np.nanstd(values), rel=1e-12)
    assert column_statistics.median(values) == np.nanmedian(values)
    assert column_statistics.most_frequent(values) == stats.mode(values, nan_policy="omit").mode


@settings(max_examples=100)
@given(cells=NUMBERS, data=st.data())
def test_an_order_statistic_is_the_entry_of_the_sorted_column(
    cells: list[float], data: st.DataObject
) -> None:
    there = sorted(cell for cell in cells if not math.isnan(cell))
    rank = data.draw(st.integers(0, len(there) - 1))

    assert column_statistics.order_statistic(np.array(cells), rank) == there[rank]


def test_the_middle_of_the_two_largest_numbers_is_finite() -> None:
    assert column_statistics.median(np.array([1.7e308, 1.5e308])) == pytest.approx(1.6e308)


@pytest.mark.parametrize("cells", [[], [math.nan, math.nan]])
def test_a_column_without_a_value_is_refused_by_name(cells: list[float]) -> None:
    with pytest.raises(NumericError, match="target y has no value at all"):
        statistics(np.array(cells), of="target y")


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_value_is_refused_by_name(value: float) -> None:
    with pytest.raises(NumericError, match="input a has a value that is not a finite number"):
        statistics(np.array([1.0, value]), of="input a")
