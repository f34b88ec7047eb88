"""What is learned and how much each row counts, on plain values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from app.datasets.columns import CategoricalColumn, NumericColumn
from app.datasets.stored_table import StoredColumn
from app.jobs.held_out import split_column
from app.jobs.row_weights import row_weights
from app.jobs.targets import label_targets, labels_of, numeric_targets
from app.numeric.errors import NumericError
from app.numeric.split import split_by


def texts(cells: list[str | None], *, unused: str = "unused") -> StoredColumn:
    """A column of texts, with levels in the order of their first row and one that no row has."""
    levels = (unused, *dict.fromkeys(cell for cell in cells if cell is not None))
    codes = [float("nan") if cell is None else float(levels.index(cell)) for cell in cells]
    return StoredColumn("kind", np.array(codes), levels)


def numbers(cells: list[float]) -> StoredColumn:
    return StoredColumn("n", np.array(cells, dtype=np.float64), None)


def test_texts_are_sorted_by_code_point_and_only_those_that_rows_have_count() -> None:
    column = texts(["é", "b", "B", "b", "10", "9"])

    labels = labels_of(column)

    assert labels.levels == ("10", "9", "B", "b", "é")
    assert labels.places(column.values).tolist() == [4, 3, 2, 3, 0, 1]


def test_numbers_are_sorted_as_numbers_and_named_as_integers_where_they_are_whole() -> None:
    column = numbers([10.0, -0.0, 0.5, 9.0, 0.0, 1e300])

    labels = labels_of(column)

    assert labels.levels == ("0", "0.5", "9", "10", "1e+300")
    assert labels.places(column.values).tolist() == [3, 0, 1, 2, 0, 4]


@pytest.mark.parametrize(
    ("activation", "outputs", "y"),
    [("sigmoid", 1, [[0, 1, 0]]), ("tanh", 1, [[0, 1, 0]]), ("softmax", 2, [[1, 0, 1], [0, 1, 0]])],
)
def test_two_labels_are_one_output_unless_the_activation_is_softmax(
    activation: str, outputs: int, y: list[list[int]]
) -> None:
    column = texts(["no", "yes", "no"])

    targets = label_targets(column, activation=activation)
    out = np.full((outputs, 3), np.nan, dtype=np.float32)
    targets.write([column.values], out)

    assert out.tolist() == y
    assert targets.places(out).tolist() == [0, 1, 0]
    assert [output.name for output in targets.described([])] == ["kind=no", "kind=yes"][-outputs:]


def test_a_single_label_is_nothing_to_learn() -> None:
    with pytest.raises(NumericError, match="same label in every row"):
        label_targets(texts(["a", "a"]), activation="softmax")


def test_a_target_that_is_not_a_number_in_every_row_is_refused() -> None:
    gap = NumericColumn("n", 1, 0.0, 1.0, 0.5, 0.5, 2)
    words = CategoricalColumn("n", 0, 0, ())

    for column in (gap, words):
        with pytest.raises(NumericError, match="'n' is not a number in every row"):
            numeric_targets(["n"], {"n": column}, scaling="none")


@given(data=st.data(), balanced=st.booleans(), weighed=st.booleans())
def test_weights_are_those_of_scikit_learn_with_mean_one(
    data: st.DataObject, balanced: bool, weighed: bool
) -> None:
    rows = data.draw(st.integers(4, 30))
    places = np.array(data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows)))
    held_out = np.arange(rows) % 3 == 1
    given_weights = np.array(
        data.draw(st.lists(st.integers(1, 9), min_size=rows, max_size=rows)), dtype=np.float64
    )

    found = row_weights(
        numbers(given_weights.tolist()) if weighed else None,
        places if balanced else None,
        held_out,
        labels=4,
    )

    if not (balanced or weighed):
        assert found is None
        return
    assert found is not None
    expected = given_weights if weighed else np.ones(rows)
    if balanced:
        trained = places[~held_out]
        there = np.unique(trained)
        factors = compute_class_weight(
            "balanced", classes=there, y=trained, sample_weight=expected[~held_out]
        )
        expected = expected * dict_of(there, factors)[places]
    weights = found.of(given_weights if weighed else None, places)
    normalised = weights[~held_out] / found.training_mean
    assert normalised == pytest.approx(expected[~held_out] / expected[~held_out].mean())
    assert found.validation_mean == pytest.approx(expected[held_out].mean())


def dict_of(there: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """A factor for each of four labels; 1 for those that were not trained on."""
    all_factors = np.ones(4)
    all_factors[there] = factors
    return all_factors


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_told_with_its_row(weight: float) -> None:
    with pytest.raises(NumericError, match=f"'n' of row 2 is {weight:g}"):
        row_weights(numbers([1.0, weight]), None, np.array([False, True]), labels=0)


def test_weights_without_any_in_training_are_refused() -> None:
    with pytest.raises(NumericError, match="0 in every row that is trained on"):
        row_weights(numbers([0.0, 1.0]), None, np.array([False, True]), labels=0)


@pytest.mark.parametrize("method", ["group", "stratified"])
def test_texts_are_split_by_their_sorted_order_so_that_anyone_can_do_it_again(method: str) -> None:
    cells = np.random.default_rng(0).choice(["q", "a", "m", "c"], 40)

    values = split_column(method, texts(cells.tolist()))

    by_numpy = np.unique(cells, return_inverse=True)[1]
    assert values.tolist() == by_numpy.tolist()
    parts = split_by(method, 40, fraction=0.3, seed=1, column=values)
    assert len(parts.training) + len(parts.validation) == 40


@pytest.mark.parametrize("method", ["group", "stratified", "column", "chronological"])
def test_a_row_that_belongs_nowhere_is_told(method: str) -> None:
    with pytest.raises(NumericError, match="'n' has no value in row 3"):
        split_column(method, numbers([1.0, 0.0, float("nan")]))


def test_time_is_not_told_by_texts() -> None:
    with pytest.raises(NumericError, match="'kind' holds text"):
        split_column("chronological", texts(["monday", "friday"]))
