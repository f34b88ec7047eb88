import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.numeric.activations import Array
from app.numeric.row_sample import sample_of
from app.numeric.rows import Rows, rows_of
from tests.numeric.builders import in_blocks


def numbered(rows: int, weight: Array | None = None) -> Rows:
    """Rows whose only input and target are their number."""
    numbers = np.arange(rows, dtype=np.float64)[:, None]
    return rows_of(numbers, numbers, weight)


def drawn_from(rows: Rows | None) -> Array:
    assert rows is not None
    return np.concatenate([block.x[0] for block in rows.blocks()])


@given(st.integers(20, 3000), st.floats(0.01, 1.0), st.integers(0, 100))
def test_one_row_of_each_stretch_is_drawn_in_order(rows: int, share: float, seed: int) -> None:
    drawn = drawn_from(sample_of(numbered(rows), share, seed))

    size = max(1, round(share * rows))
    assert len(drawn) == size
    edges = np.arange(size + 1) * rows / size
    assert (drawn >= np.floor(edges[:-1])).all()
    assert (drawn <= np.ceil(edges[1:])).all()
    assert (np.diff(drawn) >= 0).all()


@given(st.integers(1, 700), st.integers(0, 100))
def test_blocks_do_not_change_the_sample(size: int, seed: int) -> None:
    rows = numbered(1500, np.random.default_rng(seed).random(1500))

    whole, pieces = sample_of(rows, 0.05, seed), sample_of(in_blocks(rows, size), 0.05, seed)

    assert whole is not None
    assert pieces is not None
    for one, other in zip(whole.blocks(), pieces.blocks(), strict=True):
        assert one.x.tobytes() == other.x.tobytes()
        assert one.weight is not None
        assert other.weight is not None
        assert one.weight.tobytes() == other.weight.tobytes()


def test_the_seed_decides_which_rows_are_drawn() -> None:
    rows = numbered(10_000)

    assert (drawn_from(sample_of(rows, 0.05, 3)) == drawn_from(sample_of(rows, 0.05, 3))).all()
    assert (drawn_from(sample_of(rows, 0.05, 3)) != drawn_from(sample_of(rows, 0.05, 4))).any()


def test_weights_of_the_sample_have_mean_one() -> None:
    sample = sample_of(numbered(1000, np.linspace(0.0, 2.0, 1000)), 0.05, 0)

    assert sample is not None
    weight = next(iter(sample.blocks())).weight
    assert weight is not None
    assert abs(weight.mean() - 1.0) < 1e-12


def test_a_sample_without_weight_is_none() -> None:
    weight = np.zeros(1000)
    weight[-1] = 1.0

    assert sample_of(numbered(1000, weight), 0.01, 0) is None
