"""From a stored table to the rows that training takes."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.datasets import columns, stored_table
from app.datasets import service as datasets
from app.datasets.columns import Column
from app.datasets.stored_table import StoredColumn
from app.jobs.encoded_rows import Encoding, PartOfRows, in_memory, streamed
from app.jobs.held_out import validates
from app.jobs.row_weights import RowWeights, row_weights
from app.jobs.targets import Targets, label_targets, numeric_targets
from app.jobs.training_spec import ResolvedSpec
from app.models.trained_model import Output
from app.numeric import preprocessing
from app.numeric.errors import NumericError
from app.numeric.preprocessing import InputColumn, Preprocessing, PreprocessingOptions
from app.numeric.rows import DataArray, Rows
from app.numeric.split import METHODS
from app.numeric.training import TrainingData
from app.storage.blobs import Blobs
from app.storage.database import Database

NAMED_MAX = 10

Mask = NDArray[np.bool_]


class PreparedData(NamedTuple):
    """The rows of both parts, what they were made by, and what the job's owner should know."""

    training: Rows
    validation: Rows | None
    has_validation_cost: bool
    preprocessing: Preprocessing
    targets: Targets
    outputs: tuple[Output, ...]
    warnings: tuple[str, ...]

    @property
    def training_data(self) -> TrainingData:
        return TrainingData(self.training, self.validation if self.has_validation_cost else None)


class Source(NamedTuple):
    """A stored table, of so many rows. `heed` is called before each column that is read."""

    blobs: Blobs
    key: str
    rows: int
    described: dict[str, Column]
    heed: Callable[[], None]

    def column(self, name: str) -> StoredColumn:
        return next(self.columns([name]))

    def columns(self, names: Sequence[str]) -> Iterator[StoredColumn]:
        for column in stored_table.columns(self.blobs, self.key, names):
            self.heed()
            yield column


def prepare(
    database: Database,
    blobs: Blobs,
    owner: str,
    spec: ResolvedSpec,
    *,
    heed: Callable[[], None] = lambda: None,
) -> PreparedData:
    """The encoded rows, split; the preprocessing is fitted on the training rows alone.

    `heed` is called between pieces of the work, and may raise to end it. Raises NumericError for a
    table that cannot be trained on as asked.
    """
    with database.reading() as session:
        row = datasets.get(session, owner, spec.dataset_id)
    described = {column.name: column for column in columns.from_json(row.columns)}
    source = Source(blobs, row.blob_key, row.row_count, described, heed)
    targets, places = targets_of(source, spec)
    held_out = validates(
        spec.validation, source.rows, seed=spec.seed, column=split_column(source, spec)
    )
    weights = row_weights(
        None if spec.sample_weight is None else source.column(spec.sample_weight),
        places if spec.class_weight == "balanced" else None,
        held_out,
        labels=0 if targets.labels is None else len(targets.labels.levels),
    )
    fitted = preprocessing.fit(
        training_columns(source, spec.inputs, ~held_out),
        PreprocessingOptions(
            scaling=spec.preprocessing.scaling,
            missing=spec.preprocessing.missing,
            unknown_level=spec.preprocessing.unknown_level,
        ),
    )
    encoding = Encoding(
        blobs=blobs,
        key=source.key,
        preprocessing=fitted,
        inputs=len(preprocessing.encoded_names(fitted)),
        targets=targets,
        weights=weights,
        dtype=np.dtype(spec.dtype),
    )
    training, validation = rows_of(encoding, held_out, weights, heed if spec.in_memory else None)
    return PreparedData(
        training=training,
        validation=validation,
        has_validation_cost=weights is None or weights.validation_mean > 0.0,
        preprocessing=fitted,
        targets=targets,
        outputs=targets.described(training_ranges(source, targets, ~held_out)),
        warnings=warnings_of(targets, places, ~held_out),
    )


def targets_of(source: Source, spec: ResolvedSpec) -> tuple[Targets, NDArray[np.intp] | None]:
    """The targets, and of labels the place of each row's among them."""
    if spec.task == "regression":
        scaling = spec.preprocessing.target_scaling
        return numeric_targets(spec.targets, source.described, scaling=scaling), None
    if len(spec.targets) > 1:
        raise NumericError("labels are learned from one target")
    column = source.column(spec.targets[0])
    targets = label_targets(column, activation=spec.activation)
    return targets, None if targets.labels is None else targets.labels.places(column.values)


def split_column(source: Source, spec: ResolvedSpec) -> StoredColumn | None:
    """The column that tells which rows are held out, if one does."""
    reads = METHODS[spec.validation.method].column
    if reads is None:
        return None
    if spec.validation.column is not None:
        return source.column(spec.validation.column)
    return source.column(spec.targets[0]) if reads == "labels" else None


def training_columns(
    source: Source, names: Sequence[str], trains: Mask
) -> Iterator[tuple[InputColumn, DataArray]]:
    for name, values, levels in source.columns(names):
        yield InputColumn(name, levels), values[trains]


def rows_of(
    encoding: Encoding,
    held_out: Mask,
    weights: RowWeights | None,
    read_heeding: Callable[[], None] | None,
) -> tuple[Rows, Rows | None]:
    """The rows that train and those held out, None without any.

    They are read into memory with `read_heeding`, without it in every pass.
    """
    count = int(held_out.sum())
    means = (1.0, 1.0) if weights is None else (weights.training_mean, weights.validation_mean)
    training = PartOfRows(~held_out, len(held_out) - count, means[0])
    validation = PartOfRows(held_out, count, means[1])
    parts = (training, validation) if count else (training,)
    rows = (
        in_memory(encoding, parts, read_heeding)
        if read_heeding is not None
        else tuple(streamed(encoding, part) for part in parts)
    )
    return rows[0], rows[1] if count else None


def training_ranges(source: Source, targets: Targets, trains: Mask) -> list[tuple[float, float]]:
    """The least and greatest training value of each target of numbers."""
    if targets.labels is not None:
        return []
    return [
        (float(values[trains].min()), float(values[trains].max()))
        for _, values, _ in source.columns(targets.names)
    ]


def warnings_of(targets: Targets, places: NDArray[np.intp] | None, trains: Mask) -> tuple[str, ...]:
    if targets.labels is None or places is None:
        return ()
    levels = targets.labels.levels
    unused = np.flatnonzero(np.bincount(places[trains], minlength=len(levels)) == 0)
    if not len(unused):
        return ()
    named = ", ".join(repr(levels[place]) for place in unused[:NAMED_MAX])
    more = f" and {len(unused) - NAMED_MAX} more" if len(unused) > NAMED_MAX else ""
    warning = (
        f"No row that was trained on has the label {named}{more}: the model cannot know it. "
        "Hold out other rows, for example with validation.method 'stratified'."
    )
    return (warning,)
