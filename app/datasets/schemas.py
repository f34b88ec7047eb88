"""Datasets on the wire."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.api.paging import Page
from app.api.problems import FaultOut
from app.datasets import columns
from app.datasets.columns import CategoricalColumn, NumericColumn
from app.storage.tables import DatasetRow

CSV_EXAMPLE = "cement,water,age,strength\n540,162,28,79.99\n332.5,228,270,40.27\n"
JSON_EXAMPLE = {"rows": [{"cement": 540, "age": 28, "strength": 79.99}]}
CELL = {"type": ["number", "string", "boolean", "null"]}


def filled(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


def object_of(title: str, properties: dict[str, Any], required: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "required": [required],
        "additionalProperties": False,
        "properties": properties,
    }


UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {"schema": {"type": "string"}, "example": CSV_EXAMPLE},
            "application/json": {
                "schema": {
                    "oneOf": [
                        object_of(
                            "By row",
                            {"rows": filled({"type": "object", "additionalProperties": CELL})},
                            "rows",
                        ),
                        object_of(
                            "By column",
                            {"columns": {"type": "object", "additionalProperties": filled(CELL)}},
                            "columns",
                        ),
                        object_of(
                            "Matrices",
                            {
                                "x": filled(filled(CELL)),
                                "y": filled({"anyOf": [CELL, filled(CELL)]}),
                                "x_names": filled({"type": "string"}),
                                "y_names": filled({"type": "string"}),
                            },
                            "x",
                        ),
                    ]
                },
                "example": JSON_EXAMPLE,
            },
        },
    }
}


class DatasetSummaryOut(BaseModel):
    """An uploaded table, without its columns."""

    id: str
    name: str
    row_count: int
    byte_count: int = Field(description="Size of the upload.")
    content_sha256: str = Field(description="Of the uploaded bytes.")
    created_at: datetime


class DatasetOut(DatasetSummaryOut):
    """An uploaded table: immutable, with named and typed columns."""

    columns: list[NumericColumn | CategoricalColumn]
    warnings: list[FaultOut] = Field(description="What was read otherwise than it may seem.")


class DatasetPage(Page):
    items: list[DatasetSummaryOut]


class RowsPage(Page):
    items: list[dict[str, float | str | None]]


def summary_out(row: DatasetRow) -> DatasetSummaryOut:
    return DatasetSummaryOut(
        id=row.id,
        name=row.name,
        row_count=row.row_count,
        byte_count=row.byte_count,
        content_sha256=row.content_sha256,
        created_at=row.created_at,
    )


def dataset_out(row: DatasetRow) -> DatasetOut:
    return DatasetOut(
        **summary_out(row).model_dump(),
        columns=list(columns.from_json(row.columns)),
        warnings=[FaultOut(**warning) for warning in row.warnings],
    )
