import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.numeric.errors import NumericError
from app.numeric.split import split


@settings(deadline=None, derandomize=True, database=None)
@given(rows=st.integers(1, 500), fraction=st.floats(0, 0.99), seed=st.integers(0, 2**64))
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
