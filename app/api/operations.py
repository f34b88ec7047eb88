"""For operators: is the process alive, and can it do its work?"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from app.api.problems import described, documented, problem_response
from app.storage.database import Database
from app.storage.readiness import unready_reason

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    status: str


@router.get(
    "/livez",
    operation_id="getLiveness",
    summary="Is the process alive?",
    responses=documented(takes_input=False, asks_database=False),
)
async def live() -> Health:
    """Touches nothing: says that the process answers."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Can it do its work?",
    response_model=Health,
    responses=documented(takes_input=False) | {503: described("not_ready")},
)
async def ready(request: Request) -> Health | JSONResponse:
    """Runs a real query against the tables that this version needs."""
    database: Database = request.app.state.database
    reason = await run_in_threadpool(unready_reason, database)
    if reason is None:
        return Health(status="ok")
    return problem_response(request, 503, "not_ready", "Not ready", reason)
