import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from app.numeric import preprocessing
from app.numeric.activations import Array
from app.numeric.errors import NumericError, ShapeError
from app.numeric.preprocessing import (
    SCALINGS,
    CategoricalInput,
    InputColumn,
    NumericInput,
    Preprocessing,
)

COLUMNS = (
    InputColumn("age", None),
    InputColumn("species", ("Adelie", "Chinstrap", "Gentoo")),
    InputColumn("mass", None),
)


def table(seed: int, rows: int, *, magnitude: float = 1.0) -> Array:
    random = np.random.default_rng(seed)
    numbers = magnitude * (random.normal(size=(rows, 2)) + 3.0)
    return np.column_stack((numbers[:, 0], random.integers(0, 3, size=rows), numbers[:, 1]))


@settings(deadline=None, derandomize=True, max_examples=60, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 20),
    scaling=st.sampled_from(SCALINGS),
    exponent=st.integers(-290, 290),
)
def test_decode_undoes_encode(seed: int, rows: int, scaling: str, exponent: int) -> None:
    raw = table(seed, rows, magnitude=10.0**exponent)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = preprocessing.fit(raw, COLUMNS, scaling=scaling)
        back = preprocessing.decode(fitted, preprocessing.encode(fitted, raw))

    np.testing.assert_allclose(back, raw, rtol=1e-13, atol=1e-14 * 10.0**exponent)


@settings(deadline=None, derandomize=True, max_examples=60, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scaling=st.sampled_from(SCALINGS),
    exponent=st.integers(-300, 300),
)
def test_json_gives_back_the_same_bits(seed: int, scaling: str, exponent: int) -> None:
    fitted = preprocessing.fit(table(seed, 7, magnitude=10.0**exponent), COLUMNS, scaling=scaling)

    back = preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json(fitted))))

    assert back == fitted
    assert repr(back) == repr(fitted)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_raw_parameters_predict_the_same_from_raw_rows(scaling: str) -> None:
    raw = table(0, 30, magnitude=1e4)
    fitted = preprocessing.fit(raw, COLUMNS, scaling=scaling)
    w, b = np.random.default_rng(1).normal(size=(2, 5)), np.array([0.5, -2.0])

    w_raw, b_raw = preprocessing.raw_parameters(fitted, w, b)

    one_hot = np.column_stack((raw[:, 0], np.eye(3)[raw[:, 1].astype(int)], raw[:, 2]))
    z = preprocessing.encode(fitted, raw) @ w.T + b
    np.testing.assert_allclose(one_hot @ w_raw.T + b_raw, z, rtol=1e-10, atol=1e-10)


def test_encoding_equals_scikit_learn() -> None:
    raw = table(0, 40)
    numbers = raw[:, [0, 2]]
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(raw[:, [1]])

    standard, min_max = (
        preprocessing.encode(preprocessing.fit(raw, COLUMNS, scaling=scaling), raw)
        for scaling in ("standard", "min_max")
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

    fitted = preprocessing.fit(column, [InputColumn("a", None)], scaling="standard").inputs[0]

    assert isinstance(fitted, NumericInput)
    assert fitted.scale == pytest.approx(spread.std(), rel=1e-12)
    assert fitted.mean == pytest.approx(distance + spread.mean(), rel=4e-16)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e300, 1e-300])
def test_a_constant_has_scale_one_and_comes_back_exactly(value: float, scaling: str) -> None:
    raw = np.full((7, 1), value)

    fitted = preprocessing.fit(raw, [InputColumn("a", None)], scaling=scaling)

    item = fitted.inputs[0]
    assert isinstance(item, NumericInput)
    assert item.scale == 1.0
    assert (item.minimum, item.maximum) == (value, value)
    np.testing.assert_allclose(
        preprocessing.decode(fitted, preprocessing.encode(fitted, raw)), raw, rtol=1e-15
    )


@pytest.mark.parametrize("magnitude", [1e-300, 1e300])
def test_extreme_magnitudes_are_standardised_without_a_warning(magnitude: float) -> None:
    unit = np.random.default_rng(0).normal(size=(50, 1))
    columns = [InputColumn("a", None)]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = preprocessing.fit(unit * magnitude, columns, scaling="standard")
        x = preprocessing.encode(fitted, unit * magnitude)

    np.testing.assert_allclose(x, StandardScaler().fit_transform(unit), rtol=1e-10)


def test_names_and_the_typical_row_follow_the_columns() -> None:
    raw = np.array([[1.0, 2.0, 10.0], [2.0, 0.0, 20.0], [6.0, 2.0, 60.0]])

    fitted = preprocessing.fit(raw, COLUMNS, scaling="none")

    names = ("age", "species=Adelie", "species=Chinstrap", "species=Gentoo", "mass")
    assert preprocessing.encoded_names(fitted) == names
    assert preprocessing.typical_row(fitted).tolist() == [3.0, 2.0, 30.0]


def test_a_block_that_is_not_one_hot_decodes_to_its_largest_entry() -> None:
    fitted = Preprocessing((CategoricalInput("species", ("a", "b", "c"), 0),))

    raw = preprocessing.decode(fitted, np.array([[0.2, 0.5, 0.3], [0.9, 0.0, 0.1]]))

    assert raw.tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("code", [-1.0, 3.0, 0.5, np.nan, np.inf])
def test_a_level_code_out_of_range_is_refused_by_name(code: float) -> None:
    raw = table(0, 5)
    fitted = preprocessing.fit(raw, COLUMNS, scaling="none")
    raw[2, 1] = code

    with pytest.raises(NumericError, match="species"):
        preprocessing.encode(fitted, raw)
    with pytest.raises(NumericError, match="species"):
        preprocessing.fit(raw, COLUMNS, scaling="none")


def test_what_cannot_be_fitted_or_read_is_refused() -> None:
    with pytest.raises(NumericError, match="no scaling robust"):
        preprocessing.fit(table(0, 5), COLUMNS, scaling="robust")
    with pytest.raises(ShapeError):
        preprocessing.fit(table(0, 0), COLUMNS, scaling="none")
    with pytest.raises(NumericError, match="age"):
        preprocessing.fit(np.array([[np.inf, 0.0, 0.0]]), COLUMNS, scaling="none")
    for value in ({}, {"inputs": [{"kind": "numeric", "name": "a"}]}, {"inputs": [{"kind": "b"}]}):
        with pytest.raises(NumericError):
            preprocessing.from_json(value)
