"""Inversion on the wire, and the shapes of predict for the documentation."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

CELL = {"type": ["number", "string", "boolean", "null"]}
PREDICT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {
                            "title": "By name",
                            "type": "object",
                            "required": ["rows"],
                            "additionalProperties": False,
                            "properties": {
                                "rows": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {"type": "object", "additionalProperties": CELL},
                                }
                            },
                        },
                        {
                            "title": "Matrix",
                            "type": "object",
                            "required": ["x"],
                            "additionalProperties": False,
                            "properties": {
                                "x": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {"type": "array", "items": CELL},
                                    "description": "Values in the order of the model's inputs.",
                                }
                            },
                        },
                    ]
                },
                "example": {"rows": [{"cement": 281, "water": 181, "age": 28}]},
            }
        },
    }
}


class PredictionOut(BaseModel):
    y: dict[str, float]
    label: str | None = Field(description="Of a model of labels: the likeliest.")
    probabilities: dict[str, float] | None = Field(
        description="Of a model of labels with sigmoid or softmax: of every label, 1 in sum."
    )
    warnings: list[str]


class PredictionsOut(BaseModel):
    model_id: str
    model_version: int
    predictions: list[PredictionOut]
    warnings: list[str]


class Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


class FeatureIn(Strict):
    """What may happen to one input."""

    frozen: bool = False
    min: float | None = None
    max: float | None = None


class InvertIn(Strict):
    """Everything but `target` has a default."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from": {"cement": 281, "water": 181, "age": 28},
                    "target": {"strength": 50},
                    "features": {"age": {"frozen": True}, "cement": {"max": 400}},
                }
            ]
        }
    )

    target: Annotated[dict[str, float], Field(min_length=1)] = Field(
        description="The wanted value of each output; an output left out may be anything."
    )
    start: dict[str, float | str | bool] | None = Field(
        None,
        alias="from",
        description="Where to start; an input left out starts at its training mean "
        "(its most frequent level).",
    )
    features: dict[str, FeatureIn] = {}
    method: Literal["auto", "exact", "gradient"] = Field(
        "auto", description="`auto` is `exact` where sigma can be inverted, else `gradient`."
    )
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="Of `gradient`; `auto` takes it from a bound on the curvature."
    )
    steps_max: int = Field(10_000, ge=1, description="Of `gradient`.")
    tolerance: float = Field(
        1e-6,
        gt=0,
        le=1,
        description="How near an output must come to count as reached, relative to "
        "max(1, |target|).",
    )
    returned: list[Literal["trace"]] = Field([], alias="return")


class ChangeOut(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    feature: str
    start: float | str = Field(alias="from")
    to: float | str
    delta: float | None = Field(description="Null for a category.")


class DistanceOut(BaseModel):
    """In the scaled space that the layer was trained in."""

    l1: float
    l2: float
    linf: float
    changed: int


class SolutionOut(BaseModel):
    input: dict[str, float | str]
    changes: list[ChangeOut]
    prediction: dict[str, float] = Field(description="Of exactly this input, by predict.")
    verified: bool = Field(description="Whether the prediction meets the target.")
    distance: DistanceOut
    in_training_range: bool
    text: str


class IntervalOut(BaseModel):
    min: float | None = Field(description="Null without a lower end.")
    max: float | None = Field(description="Null without an upper end.")


class NearestOut(BaseModel):
    input: dict[str, float | str]
    prediction: dict[str, float]
    verified: bool = Field(description="Whether the prediction is that of predict: always so.")


class InfeasibilityOut(BaseModel):
    attainable: dict[str, IntervalOut] = Field(description="Each output alone, within the limits.")
    nearest: NearestOut


class TraceOut(BaseModel):
    """C before the first step and after each; thinned to at most 1000 of them."""

    step: list[int]
    cost: list[float]


class InvertOut(BaseModel):
    model_id: str
    model_version: int
    status: str = Field(description="optimal, feasible, infeasible or step_limit")
    method: str
    solutions: list[SolutionOut]
    infeasibility: InfeasibilityOut | None
    trace: TraceOut | None
    warnings: list[str]
