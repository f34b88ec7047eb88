import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from app.numeric import target_scaling
from app.numeric.activations import Array
from app.numeric.column_statistics import statistics
from app.numeric.errors import NumericError
from app.numeric.scaling import SCALINGS
from app.numeric.target_scaling import TargetScaling

# Far apart enough to round, near enough for a range to be finite.
TARGETS = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 3)),
    elements=st.floats(-8e307, 8e307) | st.floats(-10.0, 10.0),
)


def fitted(scaling: str, y: Array) -> TargetScaling:
    return target_scaling.fit(scaling, [statistics(column, of="target") for column in y.T])


@settings(max_examples=300)
@given(y=TARGETS)
def test_min_max_takes_the_training_range_into_zero_to_one_exactly(y: Array) -> None:
    scaled = target_scaling.scale(fitted("min_max", y), y)

    varying = y.max(axis=0) > y.min(axis=0)
    assert (scaled.min(axis=0) == 0.0).all()
    assert (scaled.max(axis=0) == varying).all()


@settings(max_examples=200)
@given(y=TARGETS, scaling=st.sampled_from(sorted(SCALINGS)))
def test_unscale_undoes_scale(y: Array, scaling: str) -> None:
    learned = fitted(scaling, y)

    back = target_scaling.unscale(learned, target_scaling.scale(learned, y))

    np.testing.assert_allclose(back, y, rtol=0, atol=1e-15 * (np.abs(y).max() + 1e-300))


def test_scaling_equals_scikit_learn() -> None:
    y = 1e3 + np.random.default_rng(0).normal(size=(50, 3))

    standard, min_max, none = (
        target_scaling.scale(fitted(scaling, y), y) for scaling in ("standard", "min_max", "none")
    )

    np.testing.assert_allclose(standard, StandardScaler().fit_transform(y), atol=1e-12)
    np.testing.assert_allclose(min_max, MinMaxScaler().fit_transform(y), atol=1e-12)
    np.testing.assert_array_equal(none, y)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_constant_target_has_scale_one_and_comes_back_exactly(scaling: str) -> None:
    y = np.full((5, 1), 0.1)

    learned = fitted(scaling, y)

    assert learned.scale.tolist() == [1.0]
    back = target_scaling.unscale(learned, target_scaling.scale(learned, y))
    np.testing.assert_array_equal(back, y)


def test_feature_major_targets_are_scaled_as_their_transpose() -> None:
    y = np.random.default_rng(0).normal(size=(9, 2))
    learned = fitted("standard", y)

    across = target_scaling.scale(learned, np.ascontiguousarray(y.T).T).T

    np.testing.assert_array_equal(across, target_scaling.scale(learned, y).T)
    assert across.flags.c_contiguous


def test_what_cannot_be_scaled_is_refused() -> None:
    with pytest.raises(NumericError, match="no scaling log"):
        fitted("log", np.ones((2, 1)))
    with pytest.raises(NumericError, match="target 2 has numbers too far apart"):
        fitted("min_max", np.array([[0.0, -1.7e308], [1.0, 1.7e308]]))
