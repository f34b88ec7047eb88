"""/v1/datasets"""

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.auth import Owner
from app.api.idempotency import IdempotencyKey, Made, fingerprint, kept, once
from app.api.limits import media_type, read_body
from app.api.names import DisplayName, Id
from app.api.openapi import created
from app.api.paging import Cursor, Limit, page
from app.api.problems import documented
from app.api.transactions import BlobStore, CurrentDatabase, CurrentSettings, ReadSession
from app.datasets import service
from app.datasets.schemas import (
    UPLOAD_BODY,
    DatasetOut,
    DatasetPage,
    RowsPage,
    dataset_out,
    summary_out,
)
from app.errors import (
    BodyTooLarge,
    DatasetInUse,
    DatasetNotFound,
    KeyReused,
    MalformedTable,
    StorageFull,
    StorageUnavailable,
    TableTooLarge,
    UnsupportedMediaType,
)
from app.storage.database import Session
from app.storage.kept_answers import RequestKey

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


class Upload(NamedTuple):
    media_type: str
    body: bytes


async def uploaded(request: Request, settings: CurrentSettings) -> Upload:
    kind = media_type(request)
    service.require_known_format(kind)
    return Upload(kind, await read_body(request, bytes_max=settings.upload_bytes_max))


@router.post(
    "",
    status_code=201,
    operation_id="createDataset",
    summary="Upload a table",
    response_model=DatasetOut,
    responses=documented(
        BodyTooLarge,
        TableTooLarge,
        UnsupportedMediaType,
        MalformedTable,
        KeyReused,
        StorageUnavailable,
        StorageFull,
    )
    | {201: created("The table as it was understood.")},
    openapi_extra=UPLOAD_BODY,
)
def create(
    upload: Annotated[Upload, Depends(uploaded)],
    owner: Owner,
    database: CurrentDatabase,
    blobs: BlobStore,
    settings: CurrentSettings,
    name: Annotated[DisplayName, Query(description="For people; need not be unique.")] = "dataset",
    key: IdempotencyKey = None,
) -> Response:
    """A CSV file with a header row, or JSON as `rows`, `columns`, or matrices `x` and `y`."""
    request = None if key is None else RequestKey(owner, "createDataset", key)
    sha256 = fingerprint(name, upload.media_type, upload.body)
    again = kept(database, request, sha256)
    if again is not None:
        return again
    stored = service.stored(
        blobs, settings, name=name, media_type=upload.media_type, body=upload.body
    )

    def make(session: Session) -> Made:
        row = service.keep(session, owner, stored)
        return Made(dataset_out(row), 201, f"/v1/datasets/{row.id}")

    try:
        answer = once(database, request, sha256, make)
    except KeyReused:
        service.delete_blob(blobs, stored.id)
        raise
    # After any other failure the row may be there all the same: an unused file is the lesser harm.
    if "Idempotency-Replayed" in answer.headers:
        service.delete_blob(blobs, stored.id)
    return answer


@router.get("", operation_id="listDatasets", summary="List the datasets", responses=documented())
def newest(
    owner: Owner, session: ReadSession, limit: Limit = 20, cursor: Cursor = None
) -> DatasetPage:
    """Newest first, without their columns."""
    rows = service.newest(session, owner, before=cursor, limit=limit + 1)
    items, next_cursor = page(rows, limit, summary_out, lambda row: row.id)
    return DatasetPage(items=items, next_cursor=next_cursor)


@router.get(
    "/{dataset_id}",
    operation_id="getDataset",
    summary="Describe a dataset",
    responses=documented(DatasetNotFound),
)
def get(dataset_id: Id, owner: Owner, session: ReadSession) -> DatasetOut:
    """The columns with their kinds, ranges, levels and missing cells."""
    return dataset_out(service.get(session, owner, dataset_id))


@router.get(
    "/{dataset_id}/rows",
    operation_id="listRows",
    summary="Preview the rows",
    responses=documented(DatasetNotFound, StorageUnavailable),
)
def rows(
    dataset_id: Id,
    owner: Owner,
    database: CurrentDatabase,
    blobs: BlobStore,
    limit: Limit = 20,
    cursor: Annotated[int, Query(ge=0, le=2**53, description="Rows to pass over.")] = 0,
) -> RowsPage:
    """A preview of the rows, as they were understood."""
    with database.reading() as session:
        row = service.get(session, owner, dataset_id)
    items = service.preview(blobs, row, offset=cursor, limit=limit)
    end = cursor + limit
    return RowsPage(items=items, next_cursor=str(end) if end < row.row_count else None)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    operation_id="deleteDataset",
    summary="Delete a dataset",
    responses=documented(DatasetNotFound, DatasetInUse, StorageFull),
)
def delete(dataset_id: Id, owner: Owner, database: CurrentDatabase, blobs: BlobStore) -> None:
    """Models trained on it stay. A dataset that a live job trains on is kept (409)."""
    with database.writing() as session:
        blob_key = service.delete(session, owner, dataset_id)
    service.delete_blob(blobs, blob_key)
