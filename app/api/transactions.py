"""One request, one transaction: opened at the first statement, committed before the answer.

FastAPI's default would run the commit after the answer is on its way, so that a caller could see
a 2xx for something that was then not stored; `scope="function"` is what prevents it.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request

from app.settings import Settings
from app.storage.blobs import Blobs
from app.storage.database import Session


def reading(request: Request) -> Iterator[Session]:
    with request.app.state.database.reading() as session:
        yield session


def writing(request: Request) -> Iterator[Session]:
    with request.app.state.database.writing() as session:
        yield session


def blobs(request: Request) -> Blobs:
    store: Blobs = request.app.state.blobs
    return store


def settings(request: Request) -> Settings:
    current: Settings = request.app.state.settings
    return current


ReadSession = Annotated[Session, Depends(reading, scope="function")]
WriteSession = Annotated[Session, Depends(writing, scope="function")]
BlobStore = Annotated[Blobs, Depends(blobs)]
CurrentSettings = Annotated[Settings, Depends(settings)]
