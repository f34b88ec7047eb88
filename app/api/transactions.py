"""One request, one transaction, committed before the answer.

A request that writes opens its transaction in the route: `with database.writing() as session`. As a
dependency it would be committed after the answer is on its way, or, with `scope="function"`, after
another wait for the event loop, for as long as which SQLite's only write lock would be held.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request

from app.settings import Settings
from app.storage.blobs import Blobs
from app.storage.database import Database, Session


def reading(request: Request) -> Iterator[Session]:
    with request.app.state.database.reading() as session:
        yield session


async def database(request: Request) -> Database:
    current: Database = request.app.state.database
    return current


def blobs(request: Request) -> Blobs:
    store: Blobs = request.app.state.blobs
    return store


async def settings(request: Request) -> Settings:
    current: Settings = request.app.state.settings
    return current


ReadSession = Annotated[Session, Depends(reading, scope="function")]
CurrentDatabase = Annotated[Database, Depends(database)]
BlobStore = Annotated[Blobs, Depends(blobs)]
CurrentSettings = Annotated[Settings, Depends(settings)]
