"""From a stored table to the arrays that training takes."""

from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa

from app.datasets import columns, stored_table
from app.datasets import service as datasets
from app.datasets.columns import CategoricalColumn
from app.jobs.training_spec import ResolvedSpec
from app.numeric import preprocessing
from app.numeric.activations import Array
from app.numeric.preprocessing import InputColumn, Preprocessing
from app.numeric.split import split
from app.numeric.training import TrainingData
from app.storage.blobs import Blobs
from app.storage.database import Database


class PreparedData(NamedTuple):
    training_data: TrainingData
    preprocessing: Preprocessing


def prepare(database: Database, blobs: Blobs, owner: str, spec: ResolvedSpec) -> PreparedData:
    """The encoded rows, split; the preprocessing is fitted on the training rows alone."""
    with database.reading() as session:
        row = datasets.get(session, owner, spec.dataset_id)
    described = {column.name: column for column in columns.from_json(row.columns)}
    table = stored_table.read(blobs, row.blob_key)
    input_columns = [input_column(described[name], name, table) for name in spec.inputs]
    raw = stacked(table, spec.inputs)
    y = stacked(table, spec.targets)
    parts = split(len(raw), fraction=spec.validation.fraction, seed=spec.seed)
    fitted = preprocessing.fit(
        raw[parts.training], input_columns, scaling=spec.preprocessing.scaling
    )
    x = preprocessing.encode(fitted, raw)
    data = TrainingData(
        x[parts.training], y[parts.training], x[parts.validation], y[parts.validation]
    )
    return PreparedData(data, fitted)


def input_column(column: columns.Column, name: str, table: pa.Table) -> InputColumn:
    if not isinstance(column, CategoricalColumn):
        return InputColumn(name, None)
    return InputColumn(name, tuple(map(str, categories(table, name).dictionary.to_pylist())))


def categories(table: pa.Table, name: str) -> "pa.DictionaryArray[Any, Any]":
    """A categorical column: its levels in `dictionary`, in the order of its `indices`."""
    return cast("pa.DictionaryArray[Any, Any]", table.column(name).combine_chunks())


def stacked(table: pa.Table, names: list[str]) -> Array:
    """Columns side by side, (N, k) float64; categories as the codes of their levels."""
    stacked = np.empty((table.num_rows, len(names)))
    for index, name in enumerate(names):
        if pa.types.is_dictionary(table.schema.field(name).type):
            cells = categories(table, name).indices
        else:
            cells = table.column(name).combine_chunks()
        stacked[:, index] = cells.to_numpy(zero_copy_only=False)
    return stacked
