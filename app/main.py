"""The API, put together. Nothing connects before the first request."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from app.api import operations, problems
from app.api.openapi import DocumentedApi
from app.datasets import routes as datasets
from app.inference import routes as inference
from app.inference.model_cache import ModelCache
from app.jobs import routes as jobs
from app.models import routes as models
from app.settings import Settings
from app.storage.database import database_of
from app.storage.open_blobs import open_blobs

logger = logging.getLogger(__name__)

DESCRIPTION = """
Train one dense layer `y = sigma(w x + b)` on a table and run it both ways: forward to predict an
output, backward to find the input that gives a wanted output.

Upload a table, create a job, wait until it is `terminal`, then ask its model to predict and invert.
Every error is `application/problem+json` with a stable `code`.
"""


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # One thread per product: more is slower as soon as two requests come at once.
        with threadpool_limits(limits=1):
            yield
        app.state.database.dispose()

    app = DocumentedApi(
        title="Backsolve",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # the pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # its redirects lead to whatever the Host header says
    )
    app.state.settings = settings
    app.state.database = database_of(settings)
    app.state.blobs = open_blobs(settings)
    app.state.is_stopping = lambda: False
    app.state.model_cache = ModelCache(settings.model_cache_entries)
    problems.install(app)
    for feature in (datasets, jobs, models, inference, operations):
        app.include_router(feature.router)
    return app
