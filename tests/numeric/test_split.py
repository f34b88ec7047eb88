from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit, TimeSeriesSplit

from app.numeric.errors import NumericError, ShapeError
from app.numeric.split import METHODS, Split, SplitColumn, split, split_by

fractions = st.floats(0, 0.99)
seeds = st.integers(0, 2**63 - 1)
codes = st.integers(1, 200).flatmap(
    lambda rows: arrays(np.int64, rows, elements=st.integers(0, 12), fill=st.just(0))
)


@given(rows=st.integers(1, 500), fraction=fractions, seed=st.integers(0, 2**64))
def test_every_row_is_on_one_side_and_some_train(rows: int, fraction: float, seed: int) -> None:
    training, validation = split(rows, fraction=fraction, seed=seed)

    assert np.sort(np.concatenate((training, validation))).tolist() == list(range(rows))
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert len(training) >= 1
    assert abs(len(validation) - fraction * rows) <= 1


def test_the_split_is_the_documented_permutation() -> None:
    order = np.random.Generator(np.random.Philox(42)).permutation(10)

    found = split(10, fraction=0.3, seed=42)

    assert found.validation.tolist() == sorted(order[:3].tolist())


def test_the_split_of_a_seed_is_pinned_for_ever() -> None:
    assert split(10, fraction=0.3, seed=0).validation.tolist() == [0, 3, 8]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_that_leaves_nothing_to_train_is_refused(fraction: float) -> None:
    with pytest.raises(NumericError):
        split(10, fraction=fraction, seed=0)


@given(method=st.sampled_from(tuple(METHODS)), values=codes, fraction=fractions, seed=seeds)
def test_every_method_puts_every_row_on_one_side_and_trains_some(
    method: str, values: NDArray[np.int64], fraction: float, seed: int
) -> None:
    values[0] = 0
    column = column_for(method, values)

    training, validation = split_by(
        method, len(values), fraction=fraction, seed=seed, column=column
    )

    assert np.sort(np.concatenate((training, validation))).tolist() == list(range(len(values)))
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert len(training) >= 1


@pytest.mark.parametrize(
    ("method", "validation"),
    [
        ("random", [0, 3, 8]),
        ("stratified", [0, 7, 8]),
        ("chronological", [2, 5, 8]),
        ("group", [2, 5, 8]),
        ("column", [1, 2, 4, 5, 7, 8]),
    ],
)
def test_the_split_of_every_method_is_pinned_for_ever(method: str, validation: list[int]) -> None:
    column = column_for(method, np.arange(10) % 3)

    found = split_by(method, 10, fraction=0.3, seed=0, column=column)

    assert found.validation.tolist() == validation


def test_the_random_method_is_the_documented_split() -> None:
    found = split_by("random", 50, fraction=0.3, seed=7)

    assert_same(found, split(50, fraction=0.3, seed=7))


@given(values=codes, fraction=fractions, seed=seeds)
def test_each_level_validates_its_share_rounded_and_keeps_a_row_to_train(
    values: NDArray[np.int64], fraction: float, seed: int
) -> None:
    rows = len(values)
    wanted = min(round(fraction * rows), rows - 1)

    training, validation = split_by("stratified", rows, fraction=fraction, seed=seed, column=values)

    held_out, sizes = Counter(values[validation].tolist()), Counter(values.tolist())
    for level, size in sizes.items():
        assert abs(held_out[level] - wanted * size / rows) < 1
    assert set(values[training].tolist()) == set(sizes)
    assert len(validation) <= wanted
    if all(size - 1 >= wanted * size / rows for size in sizes.values()):
        assert len(validation) == wanted


def test_what_single_rows_cannot_validate_is_not_taken_from_a_level_above_its_share() -> None:
    labels = np.array([0, 1, 2, 2, 2, 2])

    found = split_by("stratified", 6, fraction=0.5, seed=0, column=labels)

    assert labels[found.validation].tolist() == [2, 2]


@pytest.mark.parametrize("seed", range(20))
def test_class_counts_are_those_of_stratified_shuffle_split_up_to_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(6), random.integers(2, 60, size=6)))
    fraction = float(random.uniform(0.1, 0.5))
    wanted = round(fraction * len(labels))
    peer = StratifiedShuffleSplit(
        1, test_size=wanted, train_size=len(labels) - wanted, random_state=seed
    )
    _, theirs = next(peer.split(labels, labels))

    ours = split_by(
        "stratified", len(labels), fraction=fraction, seed=seed, column=labels.astype(float)
    ).validation

    assert len(ours) == len(theirs)
    difference = np.bincount(labels[ours], minlength=6) - np.bincount(labels[theirs], minlength=6)
    assert np.abs(difference).max() <= 1


def test_equal_remainders_do_not_always_round_up_in_the_same_levels() -> None:
    labels = np.repeat(np.arange(10), 5)

    chosen = {
        tuple(labels[split_by("stratified", 50, fraction=0.1, seed=seed, column=labels).validation])
        for seed in range(20)
    }

    assert all(len(set(levels)) == 5 for levels in chosen)
    assert len(chosen) > 10


def test_within_a_level_the_first_of_the_documented_permutation_validate() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    order = np.random.Generator(np.random.Philox(3)).permutation(8)

    found = split_by("stratified", 8, fraction=0.5, seed=3, column=labels)

    first_of_each = [*order[labels[order] == 0][:2], *order[labels[order] == 1][:2]]
    assert found.validation.tolist() == sorted(first_of_each)


def test_the_last_rows_validate_as_in_time_series_split() -> None:
    _, theirs = list(TimeSeriesSplit(2, test_size=6).split(np.zeros(20)))[-1]

    found = split_by("chronological", 20, fraction=0.3, seed=0)

    assert found.validation.tolist() == theirs.tolist()


@given(
    key=st.lists(st.integers(-3, 3) | st.floats(allow_nan=False), min_size=1, max_size=60),
    fraction=fractions,
)
def test_rows_with_the_latest_keys_validate_and_equal_keys_keep_their_order(
    key: list[float], fraction: float
) -> None:
    wanted = min(round(fraction * len(key)), len(key) - 1)
    order = sorted(range(len(key)), key=key.__getitem__)

    found = split_by("chronological", len(key), fraction=fraction, seed=0, column=np.array(key))

    assert found.validation.tolist() == sorted(order[len(key) - wanted :])


def test_a_key_of_nanoseconds_is_not_rounded_to_float64() -> None:
    start = 1_700_000_000_000_000_000
    key = np.array([start + 2, start + 1, start])

    found = split_by("chronological", 3, fraction=0.34, seed=0, column=key)

    assert found.validation.tolist() == [0]


@given(values=codes, fraction=fractions, seed=seeds)
def test_no_group_is_on_both_sides_and_both_sides_have_one(
    values: NDArray[np.int64], fraction: float, seed: int
) -> None:
    training, validation = split_by(
        "group", len(values), fraction=fraction, seed=seed, column=values
    )

    held_out, kept = set(values[validation].tolist()), set(values[training].tolist())
    assert not held_out & kept
    assert kept
    assert bool(held_out) == (fraction > 0 and len(set(values.tolist())) > 1)
    if len(held_out) > 1 and len(kept) > 1:
        wanted = min(round(fraction * len(values)), len(values) - 1)
        assert abs(len(validation) - wanted) <= max(Counter(values.tolist()).values()) / 2


@pytest.mark.parametrize("held_out", range(1, 8))
def test_of_equal_groups_as_many_validate_as_in_group_shuffle_split(held_out: int) -> None:
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(8) * 11, 5))
    peer = GroupShuffleSplit(1, test_size=held_out / 8, random_state=0)
    _, theirs = next(peer.split(groups, groups=groups))

    ours = split_by("group", 40, fraction=held_out / 8, seed=0, column=groups).validation

    assert len(set(groups[ours])) == len(set(groups[theirs])) == held_out


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("sizes", "fraction", "held_out"),
    [
        ([1, 9], 0.9, 9),
        ([1, 9], 0.1, 1),
        ([4, 2], 0.3, 2),
        ([30, 40, 30], 0.01, 30),
        ([5, 5, 2], 0.95, 10),
    ],
)
def test_where_groups_leave_little_choice_the_nearest_count_validates(
    sizes: list[int], fraction: float, held_out: int, seed: int
) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)

    found = split_by("group", len(groups), fraction=fraction, seed=seed, column=groups)

    assert len(found.validation) == held_out


def test_which_groups_validate_depends_on_the_seed() -> None:
    groups = np.arange(100) // 5

    chosen = {
        tuple(split_by("group", 100, fraction=0.2, seed=seed, column=groups).validation)
        for seed in range(20)
    }

    assert len(chosen) == 20


@pytest.mark.parametrize("kind", [np.bool_, np.int64, np.float64])
def test_the_marked_rows_validate_whatever_the_fraction(kind: type[np.generic]) -> None:
    mask = np.array([0, 1, 1, 0, 0]).astype(kind)

    found = split_by("column", 5, fraction=0.9, seed=0, column=mask)

    assert found.validation.tolist() == [1, 2]
    assert found.training.tolist() == [0, 3, 4]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_every_method_refuses_a_fraction_out_of_range(method: str, fraction: float) -> None:
    with pytest.raises(NumericError, match="fraction"):
        split_by(method, 3, fraction=fraction, seed=0, column=column_for(method, np.arange(3)))


@pytest.mark.parametrize(
    ("method", "column", "reason"),
    [
        ("by_moon", None, "There is no split by_moon; choose one of random, stratified"),
        ("random", np.arange(3), "reads no column"),
        ("stratified", None, "needs a column that holds its labels"),
        ("group", None, "needs a column that holds its groups"),
        ("column", None, "needs a column that holds its mask"),
        ("stratified", np.array([0.0, np.nan, 1.0]), "missing in row 1"),
        ("chronological", np.array([0.0, 1.0, np.nan]), "missing in row 2"),
        ("group", np.array([np.nan, 1.0, np.nan]), "missing in row 0"),
        ("column", np.array([0.0, 1.0, np.nan]), "missing in row 2"),
        ("column", np.array([0, 1, 2]), "must be 0 or 1"),
        ("column", np.ones(3), "none is left to train"),
    ],
)
def test_a_column_that_cannot_decide_is_refused(
    method: str, column: SplitColumn | None, reason: str
) -> None:
    with pytest.raises(NumericError, match=reason):
        split_by(method, 3, fraction=0.3, seed=0, column=column)


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ShapeError):
        split_by("group", 3, fraction=0.3, seed=0, column=np.arange(4))


def test_no_rows_cannot_be_split() -> None:
    with pytest.raises(NumericError, match="at least one row"):
        split_by("random", 0, fraction=0.3, seed=0)


def column_for(method: str, values: NDArray[np.int64]) -> SplitColumn | None:
    """What the method needs, made of codes; the rows of code 0 train."""
    if METHODS[method].column is None:
        return None
    return values > 0 if METHODS[method].column == "mask" else values


def assert_same(found: Split, expected: Split) -> None:
    assert found.training.tolist() == expected.training.tolist()
    assert found.validation.tolist() == expected.validation.tolist()
