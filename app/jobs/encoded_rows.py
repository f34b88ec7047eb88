"""Stored rows as training reads them: encoded, feature-major, in memory or from the file each time.

Either way the rows are those of one part of the split, in the order of the table, and the same
functions encode them; only where they are written to differs.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.datasets import stored_table
from app.jobs.row_weights import RowWeights
from app.jobs.targets import Targets
from app.numeric.encoding import encode_into
from app.numeric.preprocessing import Preprocessing
from app.numeric.rows import Block, DataArray, Rows, block_rows_of, rows_from
from app.storage.blobs import Blobs

Mask = NDArray[np.bool_]
Item = TypeVar("Item")


class Encoding(NamedTuple):
    """A stored table, and how its rows become what the layer sees: so many `inputs`."""

    blobs: Blobs
    key: str
    preprocessing: Preprocessing
    inputs: int
    targets: Targets
    weights: RowWeights | None
    dtype: np.dtype[Any]

    @property
    def column_names(self) -> tuple[str, ...]:
        weight = None if self.weights is None else self.weights.column
        names = (*self.input_names, *self.targets.names, *([] if weight is None else [weight]))
        return tuple(dict.fromkeys(names))

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.preprocessing.inputs)


class PartOfRows(NamedTuple):
    """A part of the split: `size` rows in all, those of the table where `wanted` (N,).

    Weights are divided by `weight_mean`; 0 is for rows that all have the weight 0.
    """

    wanted: Mask
    size: int
    weight_mean: float


def in_memory(
    encoding: Encoding, parts: tuple[PartOfRows, ...], heed: Callable[[], None]
) -> tuple[Rows, ...]:
    """The rows of each part, from one reading of the file; `heed` is called before each batch."""
    buffers = [empty_block(encoding, part.size) for part in parts]
    filled = [0] * len(parts)
    for first, cells in numbered_batches(encoding):
        heed()
        for index, part in enumerate(parts):
            chosen = chosen_rows(part, first, cells)
            end = filled[index] + len(chosen)
            write(encoding, part, cells, chosen, columns_of(buffers[index], filled[index], end))
            filled[index] = end
    return tuple(rows_from(*buffer) for buffer in buffers)


def streamed(encoding: Encoding, part: PartOfRows) -> Rows:
    """The rows of a part, read and encoded in every pass: two batches and two blocks in memory.

    One thread reads a batch and one encodes it while the caller works on the block before.
    """
    width, itemsize = encoding.inputs + 1, encoding.dtype.itemsize
    block_rows = block_rows_of(width, part.size, itemsize, stored_table.BATCH_BYTES)

    def blocks() -> Iterator[Block]:
        buffers = cycle([empty_block(encoding, block_rows), empty_block(encoding, block_rows)])
        for first, cells in ahead(numbered_batches(encoding)):
            chosen = chosen_rows(part, first, cells)
            for start in range(0, len(chosen), block_rows):
                piece = chosen[start : start + block_rows]
                block = columns_of(next(buffers), 0, len(piece))
                write(encoding, part, cells, piece, block)
                yield block
            # Else the batch would stay in memory while the next one is read.
            cells.clear()

    return Rows(
        total=part.size,
        inputs=encoding.inputs,
        outputs=encoding.targets.outputs,
        block_rows=block_rows,
        dtype=encoding.dtype,
        in_memory=False,
        blocks=lambda: ahead(blocks()),
    )


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each fetched by a thread while the one before is used."""
    # Warnings that the caller has silenced stay silent in the thread.
    context = copy_context()
    with ThreadPoolExecutor(1) as thread:
        fetch = partial(context.run, lambda: next(items, None))
        following = thread.submit(fetch)
        while (item := following.result()) is not None:
            following = thread.submit(fetch)
            yield item
            del item


def empty_block(encoding: Encoding, count: int) -> Block:
    """Room for so many rows; the last row of x is ones already."""
    x = np.empty((encoding.inputs + 1, count), encoding.dtype)
    x[-1] = 1.0
    y = np.empty((encoding.targets.outputs, count), encoding.dtype)
    return Block(x, y, None if encoding.weights is None else np.empty(count, encoding.dtype))


def columns_of(block: Block, start: int, end: int) -> Block:
    weight = None if block.weight is None else block.weight[start:end]
    return Block(block.x[:, start:end], block.y[:, start:end], weight)


def numbered_batches(encoding: Encoding) -> Iterator[tuple[int, dict[str, DataArray]]]:
    """Each batch of the file as the number of its first row and the cells (k,) of its columns."""
    first = 0
    for batch in stored_table.batches(encoding.blobs, encoding.key, encoding.column_names):
        count = batch.num_rows
        cells = cells_of(encoding, batch)
        del batch
        yield first, cells
        del cells
        first += count


def cells_of(encoding: Encoding, batch: pa.RecordBatch) -> dict[str, DataArray]:
    return {name: stored_table.numbers(batch.column(name)) for name in encoding.column_names}


def chosen_rows(part: PartOfRows, first: int, cells: Mapping[str, DataArray]) -> NDArray[np.intp]:
    """The rows of a batch that are in the part, counted from the first of the batch."""
    count = len(next(iter(cells.values())))
    return np.flatnonzero(part.wanted[first : first + count])


def write(
    encoding: Encoding,
    part: PartOfRows,
    cells: Mapping[str, DataArray],
    chosen: NDArray[np.intp],
    out: Block,
) -> None:
    """Encodes the chosen rows of a batch into a block of as many."""
    columns = [cells[name] for name in encoding.input_names]
    encode_into(encoding.preprocessing, columns, out.x[:-1], chosen)
    targets, weights = encoding.targets, encoding.weights
    wanted = [cells[name][chosen] for name in targets.names]
    targets.write(wanted, out.y)
    if weights is not None and out.weight is not None:
        given = None if weights.column is None else cells[weights.column][chosen]
        places = None if targets.labels is None else targets.labels.places(wanted[0])
        out.weight[...] = weights.of(given, places) / (part.weight_mean or 1.0)
