"""The shapes of predict, for the documentation: `wire` reads and writes them faster."""

from typing import Any

from pydantic import BaseModel, Field

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
