"""Models on the wire."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.api.finite import finite_or_none
from app.api.paging import Page
from app.models.service import Parameters
from app.models.trained_model import classes_of_row, outputs_of_row
from app.numeric import preprocessing_json
from app.numeric.preprocessing import CategoricalInput, Input
from app.storage.tables import ModelRow


class CalibrationBinOut(BaseModel):
    """Rows whose predicted probability p has low < p <= high."""

    low: float
    high: float
    count: int
    mean_predicted: float
    observed: float = Field(description="The share of them that came true.")


class ScoresOut(BaseModel):
    """How good a model is on some rows, in units of the targets; null has no meaning for it."""

    rows: int = Field(description="How many rows the scores are over.")
    cost: float | None = Field(
        None,
        description="What training lowered, with its penalty; of rows held out the mean of C.",
    )
    mse: float | None = None
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = Field(None, description="The mean over outputs.")
    accuracy: float | None = None
    log_loss: float | None = None
    auc: float | None = Field(
        None, description="Area under the ROC curve; of several labels the mean of each."
    )
    confusion: list[list[int]] | None = Field(
        None, description="Rows by true label (down) and predicted label (across)."
    )
    calibration: list[CalibrationBinOut] | None = Field(
        None, description="Of the second of two labels; of several, of the predicted one."
    )


class InputOut(BaseModel):
    name: str
    kind: str = Field(description="numeric or categorical")
    minimum: float | None = Field(None, description="In the training rows.")
    maximum: float | None = Field(None, description="In the training rows.")
    mean: float | None = Field(None, description="In the training rows.")
    offset: float | None = Field(None, description="The layer sees (value - offset) / scale.")
    scale: float | None = None
    levels: list[str] | None = None
    fill: float | str | None = Field(
        None, description="What stands for a missing value; null: it must be given."
    )
    ignores_unknown: bool = Field(False, description="Takes a level that training never saw.")


class OutputOut(BaseModel):
    """A target by its name, or a label as `target=label`: y = offset + scale sigma(w x + b)."""

    name: str
    minimum: float = Field(description="In the training rows.")
    maximum: float = Field(description="In the training rows.")
    offset: float = 0.0
    scale: float = 1.0


class ClassesOut(BaseModel):
    target: str
    levels: list[str] = Field(description="The labels; of two, the output is the second.")


class ModelOut(BaseModel):
    """A trained layer: immutable."""

    id: str
    name: str
    version: int = Field(description="Counts the models of this name.")
    job_id: str | None
    dataset_id: str
    activation: str
    cost: str
    inputs: list[InputOut]
    outputs: list[OutputOut]
    classes: ClassesOut | None = Field(description="Of a target of labels.")
    scores: dict[str, ScoresOut]
    parameters_sha256: str
    created_at: datetime


class ModelPage(Page):
    items: list[ModelOut]


class ParametersOut(BaseModel):
    """y = offset + scale sigma(w x + b): w is outputs x encoded inputs, named by both."""

    w: list[list[float | None]] = Field(description="Null where raw units are too small for it.")
    b: list[float | None]
    offset: list[float] = Field(description="One an output; 0 unless targets were scaled.")
    scale: list[float] = Field(description="One an output; 1 unless targets were scaled.")
    inputs: list[str]
    outputs: list[str]
    activation: str


def input_out(column: Input) -> InputOut:
    if isinstance(column, CategoricalInput):
        return InputOut(
            name=column.name,
            kind="categorical",
            levels=list(column.levels),
            fill=None if column.fill is None else column.levels[column.fill],
            ignores_unknown=column.ignores_unknown,
        )
    return InputOut(
        name=column.name,
        kind="numeric",
        minimum=column.minimum,
        maximum=column.maximum,
        mean=column.mean,
        offset=column.offset,
        scale=column.scale,
        fill=column.fill,
    )


def scores_out(scores: Mapping[str, Any]) -> dict[str, ScoresOut]:
    return {part: ScoresOut(**values) for part, values in scores.items()}


def model_out(row: ModelRow) -> ModelOut:
    """Nothing of it needs the parameters, which a list has not read."""
    inputs, classes = preprocessing_json.from_json(row.preprocessing).inputs, classes_of_row(row)
    return ModelOut(
        id=row.id,
        name=row.name,
        version=row.version,
        job_id=row.job_id,
        dataset_id=row.dataset_id,
        activation=row.activation,
        cost=row.cost,
        inputs=[input_out(column) for column in inputs],
        outputs=[OutputOut(**output._asdict()) for output in outputs_of_row(row)],
        classes=None if classes is None else ClassesOut(**classes._asdict()),
        scores=scores_out(row.scores),
        parameters_sha256=row.parameters_sha256,
        created_at=row.created_at,
    )


def parameters_out(parameters: Parameters) -> ParametersOut:
    return ParametersOut(
        w=[finite_or_none(row) for row in parameters.w],
        b=finite_or_none(parameters.b),
        offset=parameters.offset.tolist(),
        scale=parameters.scale.tolist(),
        inputs=list(parameters.inputs),
        outputs=list(parameters.outputs),
        activation=parameters.activation,
    )
