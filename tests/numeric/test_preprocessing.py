import warnings
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from app.numeric import column_statistics, encoding, preprocessing
from app.numeric.activations import Array
from app.numeric.errors import NumericError, ShapeError
from app.numeric.preprocessing import (
    MISSING_POLICIES,
    CategoricalInput,
    InputColumn,
    NumericInput,
    Preprocessing,
    PreprocessingOptions,
)
from app.numeric.rows import DataArray
from app.numeric.scaling import SCALINGS
from tests.numeric.tables import COLUMNS, fit_table, peak_bytes, table

NUMBER = (InputColumn("a", None),)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 20),
    scaling=st.sampled_from(sorted(SCALINGS)),
    exponent=st.integers(-290, 290),
)
def test_decode_undoes_encode(seed: int, rows: int, scaling: str, exponent: int) -> None:
    raw = table(seed, rows, magnitude=10.0**exponent)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned = fit_table(raw, scaling=scaling)
        back = encoding.decode(learned, encoding.encode(learned, raw))

    np.testing.assert_allclose(back, raw, rtol=1e-13, atol=1e-14 * 10.0**exponent)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
    scaling=st.sampled_from(sorted(SCALINGS)),
    policy=st.sampled_from(sorted(MISSING_POLICIES)),
    complete=st.booleans(),
    slice_rows=st.integers(1, 50),
)
def test_encode_and_encode_into_give_the_same_bits_however_they_slice(
    seed: int, rows: int, scaling: str, policy: str, complete: bool, slice_rows: int
) -> None:
    raw = table(seed, rows, missing=0.0 if policy == "error" else 0.2)
    learned = fit_table(raw, scaling=scaling, missing=policy, unknown_level="ignore")
    if complete:
        raw = table(seed, rows)
    raw[-1, 1] = -1.0
    whole = encoding.encode(learned, raw)
    # Views with gaps between their rows, as the blocks of a design are.
    double = np.full((len(whole.T) + 1, 2 * rows), 7.0)
    single = double.astype(np.float32)
    chosen = np.flatnonzero(np.random.default_rng(seed).random(rows) < 0.7)
    some, some_single = double[:-1, : len(chosen)].copy(), single[:-1, : len(chosen)].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_statistics, "SLICE_ROWS", slice_rows)
        for out in (double, single):
            encoding.encode_into(learned, list(raw.T), out[:-1, rows:])
        for out in (some, some_single):
            encoding.encode_into(learned, list(raw.T), out, chosen)

    np.testing.assert_array_equal(double[:-1, rows:], whole.T)
    np.testing.assert_array_equal(single[:-1, rows:], whole.T.astype(np.float32))
    np.testing.assert_array_equal(some, whole[chosen].T)
    np.testing.assert_array_equal(some_single, whole[chosen].T.astype(np.float32))
    assert (double[-1] == 7.0).all()
    assert (double[:, :rows] == 7.0).all()


@pytest.mark.parametrize("scaling", SCALINGS)
def test_one_row_encodes_to_the_same_bits_as_among_many(scaling: str) -> None:
    raw = table(3, 1 + column_statistics.SLICE_ROWS // 3, magnitude=1e5)
    learned = fit_table(raw, scaling=scaling)

    rows = [encoding.encode(learned, raw[[index]]) for index in range(50)]

    np.testing.assert_array_equal(np.concatenate(rows), encoding.encode(learned, raw)[:50])


@pytest.mark.parametrize("scaling", SCALINGS)
def test_raw_parameters_predict_the_same_from_raw_rows(scaling: str) -> None:
    raw = table(0, 30, magnitude=1e4)
    learned = fit_table(raw, scaling=scaling)
    w, b = np.random.default_rng(1).normal(size=(2, 5)), np.array([0.5, -2.0])

    w_raw, b_raw = preprocessing.raw_parameters(learned, w, b)

    one_hot = np.column_stack((raw[:, 0], np.eye(3)[raw[:, 1].astype(int)], raw[:, 2]))
    z = encoding.encode(learned, raw) @ w.T + b
    np.testing.assert_allclose(one_hot @ w_raw.T + b_raw, z, rtol=1e-10, atol=1e-10)


def test_encoding_equals_scikit_learn() -> None:
    raw = table(0, 40)
    numbers = raw[:, [0, 2]]
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(raw[:, [1]])

    standard, min_max = (
        encoding.encode(fit_table(raw, scaling=scaling), raw) for scaling in ("standard", "min_max")
    )

    np.testing.assert_allclose(standard[:, [0, 4]], StandardScaler().fit_transform(numbers))
    np.testing.assert_allclose(
        min_max[:, [0, 4]], MinMaxScaler().fit_transform(numbers), atol=1e-15
    )
    np.testing.assert_array_equal(standard[:, 1:4], one_hot)


@pytest.mark.parametrize("distance", [1e3, 1e6, 1e9])
def test_the_deviation_is_right_far_from_zero(distance: float) -> None:
    # Multiples of 2^-20 around the distance are exact, so the spread is known.
    spread = np.random.default_rng(0).integers(-(2**21), 2**21, size=100_000) / 2.0**20
    column = (distance + spread)[:, None]

    item = fit_table(column, NUMBER).inputs[0]

    assert isinstance(item, NumericInput)
    assert item.scale == pytest.approx(spread.std(), rel=1e-12)
    assert item.mean == pytest.approx(distance + spread.mean(), rel=4e-16)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e300, 1e-300, 1.7976931348623157e308, 5e-324])
def test_a_constant_has_scale_one_and_comes_back_exactly(value: float, scaling: str) -> None:
    raw = np.full((7, 1), value)

    learned = fit_table(raw, NUMBER, scaling=scaling)

    item = learned.inputs[0]
    assert isinstance(item, NumericInput)
    assert item.scale == 1.0
    assert (item.minimum, item.mean, item.maximum) == (value, value, value)
    back = encoding.decode(learned, encoding.encode(learned, raw))
    np.testing.assert_array_equal(back, raw)


@pytest.mark.parametrize("magnitude", [1e-300, 1e300])
def test_extreme_magnitudes_are_standardised_without_a_warning(magnitude: float) -> None:
    unit = np.random.default_rng(0).normal(size=(50, 1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned = fit_table(unit * magnitude, NUMBER)
        x = encoding.encode(learned, unit * magnitude)

    np.testing.assert_allclose(x, StandardScaler().fit_transform(unit), rtol=1e-10)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_smallest_spread_there_is_has_a_scale_above_zero(scaling: str) -> None:
    raw = np.array([[0.0], [0.0], [0.0], [5e-324]])

    x = encoding.encode(fit_table(raw, NUMBER, scaling=scaling), raw)

    assert np.isfinite(x).all()
    assert x[3, 0] > x[0, 0]


def test_a_row_far_outside_encodes_to_infinity_without_a_warning() -> None:
    learned = fit_table(np.array([[0.0], [1e-300]]), NUMBER)

    x = encoding.encode(learned, np.array([[1e300], [-1e300]]))

    assert x[:, 0].tolist() == [np.inf, -np.inf]


def test_columns_may_be_of_any_real_type() -> None:
    raw = np.array([[1.0, 2.0, 0.5], [2.0, 0.0, 2.5], [6.0, 2.0, 1.25]])
    columns: list[DataArray] = [
        raw[:, 0].astype(np.int32),
        raw[:, 1].astype(np.int8),
        raw[:, 2].astype(np.float32),
    ]
    expected = fit_table(raw)

    learned = preprocessing.fit(zip(COLUMNS, columns, strict=True), PreprocessingOptions())
    x = np.empty((5, 3))
    encoding.encode_into(learned, columns, x)

    assert learned == expected
    np.testing.assert_array_equal(x.T, encoding.encode(expected, raw))


def test_fit_holds_one_column_at_a_time() -> None:
    alive: list[int] = []
    seen: list[weakref.ref[DataArray]] = []

    def read(number: int) -> Array:
        alive.append(sum(reference() is not None for reference in seen))
        values = np.arange(10.0) + number
        seen.append(weakref.ref(values))
        return values

    def columns() -> Iterator[tuple[InputColumn, Array]]:
        for number in range(4):
            yield InputColumn(f"x{number}", None), read(number)

    preprocessing.fit(columns(), PreprocessingOptions())

    assert alive == [0, 0, 0, 0]


@pytest.mark.parametrize("policy", MISSING_POLICIES)
def test_fitting_and_encoding_need_little_memory_beside_the_columns(policy: str) -> None:
    rows = 1_000_000
    random = np.random.default_rng(0)
    columns = [random.normal(size=rows), random.integers(0, 3, rows).astype(float)]
    if policy != "error":
        columns[0][::10] = columns[1][::10] = np.nan
    options = PreprocessingOptions(missing=policy)
    learned = preprocessing.fit(zip(COLUMNS[:2], columns, strict=True), options)
    out = np.empty((len(preprocessing.encoded_names(learned)), rows), dtype=np.float32)

    fitting = peak_bytes(lambda: preprocessing.fit(zip(COLUMNS[:2], columns, strict=True), options))
    writing = peak_bytes(lambda: encoding.encode_into(learned, columns, out))

    assert fitting < columns[0].nbytes / 2
    assert writing < columns[0].nbytes / 2


def test_limits_encode_as_values_do_and_stay_infinite() -> None:
    raw = table(0, 20)
    learned = fit_table(raw, missing="mean")
    limits = np.array([[-np.inf, 1.0, 2.0], [4.0, 1.0, np.inf]])

    x = encoding.encode_limits(learned, limits)

    finite = encoding.encode(learned, np.array([[0.0, 1.0, 2.0], [4.0, 1.0, 0.0]]))
    assert x[0, 0] == -np.inf
    assert x[1, 4] == np.inf
    np.testing.assert_array_equal(x[0, 1:], finite[0, 1:])
    np.testing.assert_array_equal(x[1, :4], finite[1, :4])


def test_names_and_the_typical_row_follow_the_columns() -> None:
    raw = np.array([[1.0, 2.0, 10.0], [2.0, 0.0, 20.0], [6.0, 2.0, 60.0]])

    learned = fit_table(raw, scaling="none")

    names = ("age", "species=Adelie", "species=Chinstrap", "species=Gentoo", "mass")
    assert preprocessing.encoded_names(learned) == names
    assert preprocessing.typical_row(learned).tolist() == [3.0, 2.0, 30.0]


def test_a_block_that_is_not_one_hot_decodes_to_its_largest_entry() -> None:
    learned = Preprocessing((CategoricalInput("species", ("a", "b", "c"), 0),))

    raw = encoding.decode(learned, np.array([[0.2, 0.5, 0.3], [0.9, 0.0, 0.1]]))

    assert raw.tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("code", [-1.0, 3.0, 0.5, np.nan, np.inf])
def test_a_level_code_out_of_range_is_refused_by_name(code: float) -> None:
    raw = table(0, 5)
    learned = fit_table(raw, scaling="none")
    raw[2, 1] = code

    with pytest.raises(NumericError, match="species"):
        encoding.encode(learned, raw)
    with pytest.raises(NumericError, match="species"):
        fit_table(raw, scaling="none")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_number_that_is_not_finite_is_refused_by_name(value: float) -> None:
    raw = table(0, 5)
    learned = fit_table(raw)
    raw[2, 2] = value

    with pytest.raises(NumericError, match="mass"):
        encoding.encode(learned, raw)
    with pytest.raises(NumericError, match="mass"):
        fit_table(raw)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(NumericError, match="no scaling robust"):
        fit_table(table(0, 5), scaling="robust")
    with pytest.raises(NumericError, match="no policy for missing cells zero; choose one of error"):
        fit_table(table(0, 5), missing="zero")
    with pytest.raises(NumericError, match="no policy for unknown levels other"):
        fit_table(table(0, 5), unknown_level="other")
    with pytest.raises(ShapeError):
        fit_table(table(0, 0))
    with pytest.raises(ShapeError, match="species"):
        preprocessing.fit(
            zip(COLUMNS, [np.ones(3), np.ones(2), np.ones(3)], strict=True), PreprocessingOptions()
        )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_numbers_too_far_apart_are_refused_only_where_they_are_scaled(scaling: str) -> None:
    raw = np.array([[-1.7e308], [-1.7e308], [-1.7e308], [1.7e308]])

    if scaling == "none":
        np.testing.assert_array_equal(
            encoding.encode(fit_table(raw, NUMBER, scaling=scaling), raw), raw
        )
    else:
        with pytest.raises(NumericError, match="input a has numbers too far apart"):
            fit_table(raw, NUMBER, scaling=scaling)


def test_arrays_that_do_not_fit_are_refused() -> None:
    raw = table(0, 4)
    learned = fit_table(raw)
    columns = list(raw.T)

    with pytest.raises(ShapeError):
        encoding.encode(learned, raw[:, :2])
    with pytest.raises(ShapeError):
        encoding.encode_into(learned, columns[:2], np.empty((5, 4)))
    with pytest.raises(ShapeError):
        encoding.encode_into(learned, columns, np.empty((4, 4)))
    with pytest.raises(ShapeError, match="age"):
        encoding.encode_into(learned, columns, np.empty((5, 3)))
    with pytest.raises(ShapeError):
        encoding.decode(learned, np.empty((4, 4)))
