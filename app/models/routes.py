"""/v1/models"""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.api.auth import Owner
from app.api.names import Id
from app.api.paging import Cursor, Limit, page
from app.api.problems import documented
from app.api.transactions import ReadSession
from app.errors import ModelNotFound
from app.models import service
from app.models.schemas import ModelOut, ModelPage, ParametersOut, model_out, parameters_out

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", operation_id="listModels", summary="List the models", responses=documented())
def newest(
    owner: Owner, session: ReadSession, limit: Limit = 20, cursor: Cursor = None
) -> ModelPage:
    """Newest first."""
    rows = service.newest(session, owner, before=cursor, limit=limit + 1)
    items, next_cursor = page(rows, limit, model_out, lambda row: row.id)
    return ModelPage(items=items, next_cursor=next_cursor)


@router.get(
    "/{model_id}",
    operation_id="getModel",
    summary="Describe a model",
    responses=documented(ModelNotFound),
)
def get(model_id: Id, owner: Owner, session: ReadSession) -> ModelOut:
    """Inputs, outputs and scores; the numbers of w and b are under `/parameters`."""
    return model_out(service.get(session, owner, model_id))


@router.get(
    "/{model_id}/parameters",
    operation_id="getParameters",
    summary="Get w and b",
    responses=documented(ModelNotFound),
)
def parameters(
    model_id: Id,
    owner: Owner,
    session: ReadSession,
    space: Annotated[
        Literal["raw", "scaled"],
        Query(description="For inputs in their own units, or scaled as in training."),
    ] = "raw",
) -> ParametersOut:
    """w and b, with one column of w per encoded input."""
    row = service.get(session, owner, model_id)
    return parameters_out(service.parameters(row, raw=space == "raw"))
