"""/v1/models/{model_id}/predict and /invert"""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from app.api.auth import Owner
from app.api.json_route import JsonRoute, require_json
from app.api.limits import read_body
from app.api.names import Id
from app.api.problems import documented
from app.api.transactions import CurrentSettings
from app.errors import (
    BodyTooLarge,
    InvalidInput,
    MalformedJson,
    ModelNotFound,
    UnsupportedMediaType,
)
from app.inference import inversion, prediction
from app.inference.inversion_schemas import FrontierOut, InvertIn, InvertOut, ItemsOut
from app.inference.model_cache import ModelCache
from app.inference.schemas import PREDICT_BODY, PredictionsOut
from app.models.trained_model import TrainedModel

router = APIRouter(prefix="/v1/models", tags=["inference"], route_class=JsonRoute)

# Bodies up to this size are answered faster than a thread is woken.
INLINE_BYTES_MAX = 16_384


async def served_model(model_id: Id, owner: Owner, request: Request) -> TrainedModel:
    """The model from memory; the database is asked only when it is not there."""
    cache: ModelCache = request.app.state.model_cache
    model = cache.get(owner, model_id)
    if model is None:
        model = await run_in_threadpool(cache.load, request.app.state.database, owner, model_id)
    return model


ServedModel = Annotated[TrainedModel, Depends(served_model)]


@router.post(
    "/{model_id}/predict",
    operation_id="predict",
    summary="Forward: from inputs to outputs",
    response_class=Response,
    responses=documented(
        ModelNotFound, InvalidInput, MalformedJson, BodyTooLarge, UnsupportedMediaType
    )
    | {200: {"model": PredictionsOut, "description": "One prediction a row, in order."}},
    openapi_extra=PREDICT_BODY,
)
async def predict(request: Request, model: ServedModel, settings: CurrentSettings) -> Response:
    """`rows` holds raw values by name, `x` the same values in the order of the inputs."""
    require_json(request)
    body = await read_body(request, bytes_max=settings.json_bytes_max)
    rows_max = settings.predict_rows_max
    if len(body) <= INLINE_BYTES_MAX:
        answer = prediction.predict(model, body, rows_max=rows_max)
    else:
        answer = await run_in_threadpool(prediction.predict, model, body, rows_max=rows_max)
    return Response(answer, media_type="application/json")


@router.post(
    "/{model_id}/invert",
    operation_id="invert",
    summary="Backward: from a wanted output to an input",
    response_class=Response,
    responses=documented(
        ModelNotFound, InvalidInput, MalformedJson, BodyTooLarge, UnsupportedMediaType
    )
    | {
        200: {
            "model": InvertOut | ItemsOut | FrontierOut,
            "description": "What was found; of `items` and of a `frontier`, in their order.",
        }
    },
)
async def invert(body: InvertIn, model: ServedModel, settings: CurrentSettings) -> Response:
    """The nearest input that gives the wanted output, within the limits of its features.

    The answer is 200 whatever the finding: `infeasible` comes with what can be reached.
    """
    answer = await run_in_threadpool(
        inversion.invert,
        model,
        body,
        steps_max=settings.invert_steps_max,
        seconds_max=settings.invert_seconds_max,
    )
    return Response(orjson.dumps(answer), media_type="application/json")
