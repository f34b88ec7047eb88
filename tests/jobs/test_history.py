import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.history import join, thin
from app.storage.arrays import pack

costs = st.lists(st.floats(width=64), min_size=0, max_size=400)


@given(costs, st.integers(10, 60))
def test_thinning_keeps_ends_and_extremes_and_stays_within_the_limit(
    values: list[float], points_max: int
) -> None:
    records = np.zeros((len(values), 4))
    records[:, 0] = np.arange(len(values))
    records[:, 1] = values

    thinned = thin(records, points_max)

    assert len(thinned) <= max(points_max, 0)
    assert (np.diff(thinned[:, 0]) > 0).all()
    finite = records[np.isfinite(records[:, 1])]
    if len(finite) == len(records) and len(records):
        assert {0.0, len(values) - 1.0} <= set(thinned[:, 0])
        assert thinned[:, 1].min() == records[:, 1].min()
        assert thinned[:, 1].max() == records[:, 1].max()


def test_blocks_join_in_order() -> None:
    first, second = np.arange(8.0).reshape(2, 4), np.arange(8.0, 12.0).reshape(1, 4)

    joined = join([pack(first), pack(second)])

    assert joined.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert join([]).shape == (0, 4)
