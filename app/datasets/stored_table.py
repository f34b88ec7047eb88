"""Tables as Arrow files in the blob store: columnar, uncompressed, in batches of bounded size."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.datasets.table import ArrowArray
from app.storage.blobs import Blobs

# What a reader of some columns holds at a time. A batch of very many columns is larger, so that its
# columns are still read in pieces of some length.
BATCH_BYTES = 8 << 20
BATCH_ROWS_MIN = 1024


class StoredColumn(NamedTuple):
    """A whole column: values (N,), nan where a cell is missing; those of texts are codes of levels.

    `levels` is None for a column of numbers.
    """

    name: str
    values: NDArray[np.float64]
    levels: tuple[str, ...] | None


def write(blobs: Blobs, key: str, table: pa.Table) -> None:
    # A file has one dictionary for each column, whatever chunks the table came in.
    table = table.unify_dictionaries()
    with blobs.create(key) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows(table.schema))


def batch_rows(schema: pa.Schema) -> int:
    """How many rows a batch has: about BATCH_BYTES of cells, and BATCH_ROWS_MIN at least."""
    row_bytes = sum(4 if pa.types.is_dictionary(field.type) else 8 for field in schema)
    return max(BATCH_BYTES // max(row_bytes, 1), BATCH_ROWS_MIN)


def read(blobs: Blobs, key: str) -> pa.Table:
    """The table, its columns still on disk until they are touched.

    Only files that `write` made are ever opened here: Arrow trusts its files (an upload in this
    format would have to be validated in full first).
    """
    with blobs.local(key) as path, pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def batches(blobs: Blobs, key: str, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows in order, with the columns named and perhaps others: memory holds one batch.

    Read and not mapped: pages of a mapped file would count as memory of the process. The levels of
    the texts, which all batches share, are read beside it.
    """
    with blobs.local(key) as path, pa.OSFile(str(path), "rb") as source:
        schema = pa.ipc.open_file(source).schema
        fields = [schema.get_field_index(name) for name in dict.fromkeys(names)]
        file = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
        for index in range(file.num_record_batches):
            # Not kept in a variable: the batch before must be gone when the next one is read.
            yield file.get_batch(index)


def numbers(cells: ArrowArray) -> NDArray[Any]:
    """The cells of one batch as numbers (k,), nan where one is missing; texts as their codes."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.indices
    values: NDArray[Any] = cells.to_numpy(zero_copy_only=False)
    return values


def levels_of(cells: ArrowArray) -> tuple[str, ...]:
    """The texts that the codes of a column stand for."""
    return tuple(map(str, cells.dictionary.to_pylist()))


def column(blobs: Blobs, key: str, name: str) -> StoredColumn:
    """One whole column."""
    return next(columns(blobs, key, [name]))


def columns(blobs: Blobs, key: str, names: Sequence[str]) -> Iterator[StoredColumn]:
    """Whole columns, one after the other; at a time so many are read as BATCH_BYTES hold, or one.

    A column's values are gone from here when the next one is taken, if nobody else keeps them.
    """
    rows = row_count(blobs, key)
    at_once = max(1, BATCH_BYTES // (8 * max(rows, 1)))
    for start in range(0, len(names), at_once):
        yield from _columns_at_once(blobs, key, names[start : start + at_once], rows)


def row_count(blobs: Blobs, key: str) -> int:
    """The rows of the table; only the headers of its batches are read."""
    with blobs.local(key) as path, pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        return sum(file.get_batch(index).num_rows for index in range(file.num_record_batches))


def _columns_at_once(
    blobs: Blobs, key: str, names: Sequence[str], rows: int
) -> Iterator[StoredColumn]:
    values = np.empty((len(names), rows))
    levels: dict[str, tuple[str, ...] | None] = dict.fromkeys(names)
    start = 0
    for batch in batches(blobs, key, names):
        for name, whole in zip(names, values, strict=True):
            cells = batch.column(name)
            whole[start : start + len(cells)] = numbers(cells)
            if not start and pa.types.is_dictionary(cells.type):
                levels[name] = levels_of(cells)
        start += batch.num_rows
        # Each of the two keeps the whole batch in memory while the next one is read.
        del batch, cells
    for name, whole in zip(names, values, strict=True):
        yield StoredColumn(name, whole, levels[name])
