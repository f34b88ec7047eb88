import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from app.numeric import encoding, preprocessing
from app.numeric.activations import Array
from app.numeric.errors import NumericError
from app.numeric.preprocessing import CategoricalInput, NumericInput
from tests.numeric.tables import COLUMNS, fit_table, table

FILLING = ("mean", "median", "most_frequent")
SCALERS = {"standard": StandardScaler, "min_max": MinMaxScaler}
NAMES = (
    "age",
    "age is missing",
    "species=Adelie",
    "species=Chinstrap",
    "species=Gentoo",
    "species is missing",
    "mass",
    "mass is missing",
)


def by_scikit_learn(training: Array, raw: Array, *, scaling: str, missing: str) -> Array:
    """COLUMNS encoded by scikit-learn; an indicator only where cells of training are missing."""
    parts: list[Array] = []
    for k, column in enumerate(COLUMNS):
        strategy = missing if column.levels is None else "most_frequent"
        imputer = SimpleImputer(strategy=strategy, add_indicator=True).fit(training[:, [k]])
        filled = imputer.transform(raw[:, [k]])
        if column.levels is not None:
            encoder = OneHotEncoder(
                categories=[[0.0, 1.0, 2.0]], handle_unknown="ignore", sparse_output=False
            ).fit(imputer.transform(training[:, [k]])[:, :1])
            parts.append(encoder.transform(filled[:, :1]))
        elif scaling == "none":
            parts.append(filled[:, :1])
        else:
            # These scalers leave nan out of their statistics.
            parts.append(SCALERS[scaling]().fit(training[:, [k]]).transform(filled[:, :1]))
        parts.append(filled[:, 1:])
    return np.column_stack(parts)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 30),
    share=st.sampled_from([0.0, 0.05, 0.3, 0.8]),
    scaling=st.sampled_from(["standard", "min_max", "none"]),
    policy=st.sampled_from(FILLING),
    decimals=st.integers(0, 8),
)
def test_missing_cells_are_filled_and_indicated_as_by_scikit_learn(
    seed: int, rows: int, share: float, scaling: str, policy: str, decimals: int
) -> None:
    # Rounded numbers repeat, so that the most frequent one means something.
    training = table(seed, rows, missing=share).round(decimals)
    later = table(seed + 1, 20, missing=0.3).round(decimals)
    later[0, 1] = -1.0

    learned = fit_table(training, scaling=scaling, missing=policy, unknown_level="ignore")

    for raw in (training, later, table(seed + 2, 20)):
        np.testing.assert_allclose(
            encoding.encode(learned, raw),
            by_scikit_learn(training, raw, scaling=scaling, missing=policy),
            rtol=1e-12,
            atol=1e-12,
        )


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), policy=st.sampled_from(FILLING))
def test_decode_gives_back_what_was_there_and_the_fill_where_nothing_was(
    seed: int, policy: str
) -> None:
    raw = table(seed, 25, missing=0.3)
    learned = fit_table(raw, missing=policy, unknown_level="ignore")
    raw[3, 1] = -1.0

    back = encoding.decode(learned, encoding.encode(learned, raw))

    fills = [item.fill for item in learned.inputs]
    expected = np.where(np.isnan(raw), np.array(fills, dtype=float), raw)
    np.testing.assert_allclose(back, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("scaling", ["standard", "min_max", "none"])
@pytest.mark.parametrize("policy", FILLING)
def test_raw_parameters_predict_the_same_from_filled_raw_rows(policy: str, scaling: str) -> None:
    raw = table(0, 30, magnitude=1e4, missing=0.2)
    learned = fit_table(raw, scaling=scaling, missing=policy)
    w, b = np.random.default_rng(1).normal(size=(2, 8)), np.array([0.5, -2.0])

    w_raw, b_raw = preprocessing.raw_parameters(learned, w, b)

    design = by_scikit_learn(raw, raw, scaling="none", missing=policy)
    z = encoding.encode(learned, raw) @ w.T + b
    np.testing.assert_allclose(design @ w_raw.T + b_raw, z, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(w_raw[:, [1, 2, 3, 4, 5, 7]], w[:, [1, 2, 3, 4, 5, 7]])


def test_an_indicator_comes_right_behind_its_input_and_only_where_training_had_gaps() -> None:
    raw = table(0, 30, missing=0.2)
    whole = raw.copy()
    whole[:, 0] = 1.0

    assert preprocessing.encoded_names(fit_table(raw, missing="mean")) == NAMES
    assert preprocessing.encoded_names(fit_table(whole, missing="mean")) == NAMES[:1] + NAMES[2:]


@pytest.mark.parametrize("policy", FILLING)
def test_an_input_without_gaps_in_training_is_filled_later_all_the_same(policy: str) -> None:
    training = table(0, 9)
    learned = fit_table(training, scaling="none", missing=policy)

    x = encoding.encode(learned, np.full((1, 3), np.nan))

    expected = by_scikit_learn(training, np.full((1, 3), np.nan), scaling="none", missing=policy)
    np.testing.assert_allclose(x, expected, rtol=1e-15)


@pytest.mark.parametrize(("column", "name"), [(0, "age"), (1, "species")])
def test_a_missing_cell_is_refused_by_name_under_the_policy_error(column: int, name: str) -> None:
    raw = table(0, 5)
    learned = fit_table(raw)
    raw[2, column] = np.nan

    with pytest.raises(NumericError, match=f"{name} has a missing cell"):
        encoding.encode(learned, raw)
    with pytest.raises(NumericError, match=f"{name} has 1 missing cells"):
        fit_table(raw)


@pytest.mark.parametrize("policy", ["error", *FILLING])
@pytest.mark.parametrize(("column", "name"), [(0, "age"), (1, "species")])
def test_a_column_with_nothing_in_it_is_refused_by_name(
    column: int, name: str, policy: str
) -> None:
    raw = table(0, 5)
    raw[:, column] = np.nan

    with pytest.raises(NumericError, match=f"input {name} has no value at all"):
        fit_table(raw, missing=policy)


def test_an_unknown_level_is_all_zeros_only_where_unknown_levels_are_ignored() -> None:
    raw = table(0, 10)
    unknown = np.array([[3.0, -1.0, 3.0]])

    x = encoding.encode(fit_table(raw, unknown_level="ignore"), unknown)

    assert x[0, 1:4].tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(NumericError, match="species has level code -1"):
        encoding.encode(fit_table(raw), unknown)


@pytest.mark.parametrize("code", [-2.0, 3.0, 0.5, np.inf, -np.inf])
def test_ignoring_unknown_levels_lets_no_other_code_pass(code: float) -> None:
    raw = table(0, 10)
    learned = fit_table(raw, missing="mean", unknown_level="ignore")
    raw[4, 1] = code

    with pytest.raises(NumericError, match="species"):
        encoding.encode(learned, raw)
    with pytest.raises(NumericError, match="species"):
        fit_table(raw, missing="mean", unknown_level="ignore")


def test_no_training_row_can_have_a_level_that_training_never_saw() -> None:
    raw = table(0, 10)
    raw[4, 1] = -1.0

    with pytest.raises(NumericError, match="species has level code -1"):
        fit_table(raw, unknown_level="ignore")


def test_statistics_and_ranges_leave_missing_cells_out() -> None:
    raw = np.array([[1.0, 2.0, 5.0], [np.nan, np.nan, 5.0], [4.0, 2.0, np.nan], [4.0, 0.0, 5.0]])

    age, species, mass = fit_table(raw, scaling="none", missing="median").inputs

    assert age == NumericInput("age", 3.0, 1.0, 1.0, 4.0, 0.0, fill=4.0, has_indicator=True)
    levels = COLUMNS[1].levels
    assert levels is not None
    assert species == CategoricalInput("species", levels, 2, fill=2, has_indicator=True)
    assert mass == NumericInput("mass", 5.0, 1.0, 5.0, 5.0, 0.0, fill=5.0, has_indicator=True)


def test_a_missing_limit_is_filled_beside_an_infinite_one() -> None:
    raw = table(0, 30, missing=0.2)
    learned = fit_table(raw, missing="mean")
    gap = np.array([[np.nan, 1.0, 2.0]])

    x = encoding.encode_limits(learned, np.array([[np.nan, 1.0, np.inf]]))

    assert x[0, 6] == np.inf
    np.testing.assert_array_equal(x[0, :6], encoding.encode(learned, gap)[0, :6])
    assert x[0, :2].tolist() == [0.0, 1.0]
