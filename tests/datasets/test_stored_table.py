"""Tables in files: what was written comes back, and a reader holds a piece of it at a time."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets import stored_table
from app.datasets.stored_table import StoredColumn
from app.storage.blobs import FolderBlobs


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_table, "BATCH_BYTES", 100)
    monkeypatch.setattr(stored_table, "BATCH_ROWS_MIN", 3)


def table(rows: int = 25) -> pa.Table:
    numbers = [None if row % 7 == 3 else row / 2 for row in range(rows)]
    texts = [None if row % 5 == 4 else "zyx"[row % 3] for row in range(rows)]
    return pa.table(
        {
            "a": pa.array(numbers, pa.float64()),
            "kind": pa.array(texts).dictionary_encode(),
            "b": pa.array(np.arange(rows, dtype=np.float64)),
        }
    )


@pytest.mark.usefixtures("small_batches")
def test_a_table_comes_back_as_it_was_written(blobs: FolderBlobs) -> None:
    stored_table.write(blobs, "ds_1", table())

    assert stored_table.read(blobs, "ds_1").to_pylist() == table().to_pylist()
    assert stored_table.row_count(blobs, "ds_1") == 25


@pytest.mark.usefixtures("small_batches")
def test_batches_are_small_and_have_the_named_columns_of_all_rows_in_order(
    blobs: FolderBlobs,
) -> None:
    stored_table.write(blobs, "ds_1", table())

    batches = list(stored_table.batches(blobs, "ds_1", ["b", "kind"]))

    assert {name for batch in batches for name in batch.schema.names} == {"b", "kind"}
    assert max(batch.num_rows for batch in batches) == 5  # of 20 bytes
    assert np.concatenate([batch.column("b").to_numpy() for batch in batches]).tolist() == list(
        range(25)
    )


@pytest.mark.usefixtures("small_batches")
def test_all_batches_of_a_category_share_their_levels(blobs: FolderBlobs) -> None:
    """Also where the table came in chunks that counted their levels differently."""
    chunks: list[list[str | None]] = [["u", "v"], ["v", "w", None], ["x", "u"]]
    kinds = pa.chunked_array([pa.array(chunk).dictionary_encode() for chunk in chunks])

    stored_table.write(blobs, "ds_1", pa.table({"kind": kinds}))

    batches = list(stored_table.batches(blobs, "ds_1", ["kind"]))
    assert len(batches) > 1
    assert {tuple(stored_table.levels_of(batch.column("kind"))) for batch in batches} == {
        ("u", "v", "w", "x")
    }
    told = cells_of(stored_table.column(blobs, "ds_1", "kind"))
    assert told == [text for chunk in chunks for text in chunk]


@pytest.mark.usefixtures("small_batches")
@settings(max_examples=30)
@given(data=st.data())
def test_columns_come_one_by_one_as_numbers_and_codes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, 40))
    names = data.draw(st.lists(st.sampled_from(["a", "kind", "b"]), min_size=1, unique=True))
    blobs = FolderBlobs(tmp_path_factory.mktemp("blobs"))
    stored_table.write(blobs, "ds_1", table(rows))

    columns = list(stored_table.columns(blobs, "ds_1", names))

    assert [column.name for column in columns] == names
    for column in columns:
        assert cells_of(column) == table(rows).column(column.name).to_pylist()


def cells_of(column: StoredColumn) -> list[float | str | None]:
    values = [None if np.isnan(value) else value for value in column.values.tolist()]
    if column.levels is None:
        return values
    return [None if code is None else column.levels[int(code)] for code in values]


def test_reading_holds_a_batch_and_not_the_table(blobs: FolderBlobs) -> None:
    columns = {
        f"x{index}": np.random.default_rng(index).normal(size=100_000) for index in range(80)
    }
    stored_table.write(blobs, "ds_1", pa.table(columns))
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), 0

    for batch in stored_table.batches(blobs, "ds_1", list(columns)):
        most = max(most, pool.bytes_allocated() - before)
        del batch

    assert 0 < most < 1.1 * stored_table.BATCH_BYTES < 0.2 * 80 * 100_000 * 8
