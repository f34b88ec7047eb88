"""Models on the wire."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.api.finite import finite_or_none
from app.api.paging import Page
from app.models.service import Parameters
from app.models.trained_model import from_row
from app.numeric.preprocessing import CategoricalInput, Input
from app.storage.tables import ModelRow


class InputOut(BaseModel):
    name: str
    kind: str = Field(description="numeric or categorical")
    minimum: float | None = Field(None, description="In the training rows.")
    maximum: float | None = Field(None, description="In the training rows.")
    mean: float | None = Field(None, description="In the training rows.")
    offset: float | None = Field(None, description="The layer sees (value - offset) / scale.")
    scale: float | None = None
    levels: list[str] | None = None


class OutputOut(BaseModel):
    name: str
    minimum: float = Field(description="In the training rows.")
    maximum: float = Field(description="In the training rows.")


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
    scores: dict[str, dict[str, float | None]]
    parameters_sha256: str
    created_at: datetime


class ModelPage(Page):
    items: list[ModelOut]


class ParametersOut(BaseModel):
    """y = sigma(w x + b): w is outputs x encoded inputs, named by `outputs` and `inputs`."""

    w: list[list[float | None]] = Field(description="Null where raw units are too small for it.")
    b: list[float | None]
    inputs: list[str]
    outputs: list[str]
    activation: str


def input_out(column: Input) -> InputOut:
    if isinstance(column, CategoricalInput):
        return InputOut(name=column.name, kind="categorical", levels=list(column.levels))
    return InputOut(
        name=column.name,
        kind="numeric",
        minimum=column.minimum,
        maximum=column.maximum,
        mean=column.mean,
        offset=column.offset,
        scale=column.scale,
    )


def model_out(row: ModelRow) -> ModelOut:
    model = from_row(row)
    return ModelOut(
        id=row.id,
        name=row.name,
        version=row.version,
        job_id=row.job_id,
        dataset_id=row.dataset_id,
        activation=row.activation,
        cost=row.cost,
        inputs=[input_out(column) for column in model.preprocessing.inputs],
        outputs=[OutputOut(**output._asdict()) for output in model.outputs],
        scores=row.scores,
        parameters_sha256=row.parameters_sha256,
        created_at=row.created_at,
    )


def parameters_out(parameters: Parameters) -> ParametersOut:
    return ParametersOut(
        w=[finite_or_none(row) for row in parameters.w],
        b=finite_or_none(parameters.b),
        inputs=list(parameters.inputs),
        outputs=list(parameters.outputs),
        activation=parameters.activation,
    )
