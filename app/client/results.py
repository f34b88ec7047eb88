"""What the service answers, as plain frozen values. Fields that this client does not know are left.

Numbers come as numpy arrays where there are many of them; what JSON cannot say is nan there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypedDict, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .errors import Fault

T = TypeVar("T")
FloatArray = NDArray[np.float64]
Value = float | str


class CalibrationBin(TypedDict):
    """Rows whose predicted probability p has low < p <= high; `observed` came true of them."""

    low: float
    high: float
    count: int
    mean_predicted: float
    observed: float


class PartScores(TypedDict):
    """How good a model is on so many rows, in units of the targets; None has no meaning for it.

    `confusion` counts rows by true label (its rows) and predicted label (its columns).
    """

    rows: int
    cost: float | None
    mse: float | None
    rmse: float | None
    mae: float | None
    r2: float | None
    accuracy: float | None
    log_loss: float | None
    auc: float | None
    confusion: list[list[int]] | None
    calibration: list[CalibrationBin] | None


Scores = dict[str, PartScores]


@dataclass(frozen=True)
class Level:
    """One text of a categorical column, and the number of its rows."""

    value: str
    count: int


@dataclass(frozen=True)
class Column:
    """`kind` is numeric or categorical; what belongs to the other kind is None or empty."""

    name: str
    kind: str
    missing: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    sd: float | None = None
    distinct: int | None = None
    level_count: int | None = None
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True)
class DatasetSummary:
    """An uploaded table, without its columns."""

    id: str
    name: str
    row_count: int
    byte_count: int
    content_sha256: str
    created_at: datetime


@dataclass(frozen=True)
class Dataset(DatasetSummary):
    """An uploaded table; `warnings` say what was read otherwise than it may seem."""

    columns: dict[str, Column]
    warnings: tuple[Fault, ...]


@dataclass(frozen=True)
class Input:
    """An input of a model; the range and mean are those of the rows it was trained on.

    `fill` stands for a missing value; None: it must be given. `ignores_unknown` takes a level that
    training never saw.
    """

    name: str
    kind: str
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    offset: float | None = None
    scale: float | None = None
    levels: tuple[str, ...] = ()
    fill: Value | None = None
    ignores_unknown: bool = False


@dataclass(frozen=True)
class Output:
    """A target, or a label as `target=label`, with its range in the rows it was trained on.

    It is offset + scale sigma(w x + b).
    """

    name: str
    minimum: float
    maximum: float
    offset: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Classes:
    """The labels of a target, in the order of the outputs; a single output is the second."""

    target: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A trained layer; `scores` has `training` and, if rows were held out, `validation`."""

    id: str
    name: str
    version: int
    job_id: str | None
    dataset_id: str
    activation: str
    cost: str
    inputs: dict[str, Input]
    outputs: dict[str, Output]
    scores: Scores
    parameters_sha256: str
    created_at: datetime
    classes: Classes | None = None


@dataclass(frozen=True)
class Parameters:
    """y = offset + scale sigma(w x + b): w (outputs, inputs), the others (outputs,).

    A category is one input a level.
    """

    w: FloatArray
    b: FloatArray
    offset: FloatArray
    scale: FloatArray
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    activation: str


@dataclass(frozen=True)
class QueuePlace:
    """`position` 1 is next; jobs of others may still come before it.

    `expected_start_at` is by the pace of the last jobs; None while none has ended.
    """

    position: int
    expected_start_at: datetime | None = None


@dataclass(frozen=True)
class Progress:
    """`epochs` is the most there will be; a cost is None once it is no longer finite.

    `eta_seconds` is at most: training may end before. None, as is the speed, before two steps.
    """

    epoch: int
    epochs: int
    fraction: float
    cost: float | None = None
    validation_cost: float | None = None
    rows_per_second: float | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True)
class JobFault:
    code: str
    detail: str


@dataclass(frozen=True)
class History:
    """The loss history as parallel arrays; `epoch_count` counts the epochs left out, too."""

    job_id: str
    epoch_count: int
    epoch: NDArray[np.int64]
    cost: FloatArray
    validation_cost: FloatArray
    step_norm: FloatArray


@dataclass(frozen=True)
class Prediction:
    """Of one row; `label` and `probabilities` (1 in sum) are those of a model of labels."""

    y: dict[str, float]
    label: str | None = None
    probabilities: dict[str, float] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Predictions:
    """One a row, in order."""

    model_id: str
    model_version: int
    rows: tuple[Prediction, ...]
    warnings: tuple[str, ...] = ()

    @property
    def y(self) -> dict[str, FloatArray]:
        """Each output as one array over the rows."""
        names = self.rows[0].y if self.rows else ()
        return {name: np.array([row.y[name] for row in self.rows]) for name in names}

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def known(kind: Callable[..., T], answer: Mapping[str, Any], **converted: Any) -> T:
    """`kind` from those fields of an answer that it has; TypeError if one is missing."""
    names = {field.name for field in fields(cast("Any", kind))}
    values = {**answer, **converted}
    return kind(**{name: value for name, value in values.items() if name in names})


def floats(values: Any) -> FloatArray:
    return np.array(values, dtype=np.float64)


def read_summary(answer: Any) -> DatasetSummary:
    return known(DatasetSummary, answer, created_at=datetime.fromisoformat(answer["created_at"]))


def read_dataset(answer: Any) -> Dataset:
    return known(
        Dataset,
        answer,
        columns={column["name"]: read_column(column) for column in answer["columns"]},
        warnings=tuple(known(Fault, fault) for fault in answer.get("warnings", ())),
        created_at=datetime.fromisoformat(answer["created_at"]),
    )


def read_column(answer: Any) -> Column:
    levels = tuple(known(Level, level) for level in answer.get("levels", ()))
    return known(Column, answer, levels=levels)


def read_model(answer: Any) -> Model:
    return known(
        Model,
        answer,
        inputs={item["name"]: read_input(item) for item in answer["inputs"]},
        outputs={item["name"]: known(Output, item) for item in answer["outputs"]},
        created_at=datetime.fromisoformat(answer["created_at"]),
        classes=read_classes(answer.get("classes")),
    )


def read_classes(answer: Any) -> Classes | None:
    return None if answer is None else known(Classes, answer, levels=tuple(answer["levels"]))


def read_input(answer: Any) -> Input:
    return known(Input, answer, levels=tuple(answer.get("levels") or ()))


def read_parameters(answer: Any) -> Parameters:
    outputs = len(answer["outputs"])
    return known(
        Parameters,
        answer,
        w=floats(answer["w"]),
        b=floats(answer["b"]),
        offset=floats(answer.get("offset", [0.0] * outputs)),
        scale=floats(answer.get("scale", [1.0] * outputs)),
        inputs=tuple(answer["inputs"]),
        outputs=tuple(answer["outputs"]),
    )


def read_fault(answer: Any) -> JobFault | None:
    return None if answer is None else known(JobFault, answer)


def read_history(answer: Any) -> History:
    return known(History, answer, **read_series(answer))


def read_series(answer: Any) -> dict[str, NDArray[Any]]:
    """The parallel arrays over epochs."""
    arrays = {name: floats(answer[name]) for name in ("cost", "validation_cost", "step_norm")}
    return {"epoch": np.array(answer["epoch"], dtype=np.int64), **arrays}


def read_predictions(answer: Any) -> Predictions:
    rows = tuple(
        known(Prediction, row, warnings=tuple(row.get("warnings", ())))
        for row in answer["predictions"]
    )
    return known(Predictions, answer, rows=rows, warnings=tuple(answer.get("warnings", ())))
