"""Tables of mixed columns that the tests of preprocessing share."""

import tracemalloc
from collections.abc import Callable

import numpy as np

from app.numeric import preprocessing
from app.numeric.activations import Array
from app.numeric.preprocessing import InputColumn, Preprocessing, PreprocessingOptions

COLUMNS = (
    InputColumn("age", None),
    InputColumn("species", ("Adelie", "Chinstrap", "Gentoo")),
    InputColumn("mass", None),
)


def table(seed: int, rows: int, *, magnitude: float = 1.0, missing: float = 0.0) -> Array:
    """Rows of COLUMNS; each cell but those of the first row is missing with this probability."""
    random = np.random.default_rng(seed)
    numbers = magnitude * (random.normal(size=(rows, 2)) + 3.0)
    raw: Array = np.column_stack((numbers[:, 0], random.integers(0, 3, size=rows), numbers[:, 1]))
    gaps = random.random(raw.shape) < missing
    gaps[:1] = False
    raw[gaps] = np.nan
    return raw


def fit_table(
    raw: Array,
    columns: tuple[InputColumn, ...] = COLUMNS,
    *,
    scaling: str = "standard",
    missing: str = "error",
    unknown_level: str = "error",
) -> Preprocessing:
    options = PreprocessingOptions(scaling, missing, unknown_level)
    return preprocessing.fit(zip(columns, raw.T, strict=True), options)


def peak_bytes(work: Callable[[], object]) -> int:
    """The memory that this work takes at its peak, beside what was there before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
