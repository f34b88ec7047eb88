"""Requests that create something and carry an Idempotency-Key are carried out once.

The answer is stored in the transaction that created the thing. The same request under the same key
gets that answer again, word for word; another request under it is refused. Of two at once, the
second waits for the first. Follows draft-ietf-httpapi-idempotency-key-header-07, whose 409 for a
request that is still being carried out is not needed here.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, NamedTuple

from fastapi import Header, Response
from pydantic import BaseModel

from app.errors import KeyReused
from app.storage import kept_answers
from app.storage.database import Database, Session
from app.storage.kept_answers import KeptAnswer, RequestKey, Taken

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Names this request: sent again with the same key, it is answered as the first "
        "time and not carried out again.",
    ),
]


class Made(NamedTuple):
    """What was created: the answer's body, its status, and where the thing is."""

    body: BaseModel
    status: int
    location: str


def fingerprint(*parts: str | bytes) -> str:
    """What tells a request from others, (64,) hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def kept(database: Database, name: RequestKey | None, request_sha256: str) -> Response | None:
    """The answer that this request got before. Raises KeyReused if that was another request."""
    if name is None:
        return None
    with database.reading() as session:
        found = kept_answers.find(session, name)
    return None if found is None else replayed(found, request_sha256)


def once(
    database: Database,
    name: RequestKey | None,
    request_sha256: str,
    make: Callable[[Session], Made],
) -> Response:
    """Carries the request out in one transaction, unless it was before. Raises KeyReused."""
    if name is None:
        with database.writing() as session:
            return answer_of(make(session))
    try:
        with database.writing() as session:
            found = kept_answers.find(session, name)
            if found is not None:
                return replayed(found, request_sha256)
            row = kept_answers.reserve(session, name, request_sha256)
            made = make(session)
            answer = answer_of(made)
            row.status, row.location, row.body = made.status, made.location, bytes(answer.body)
            return answer
    except Taken:
        again = kept(database, name, request_sha256)
        if again is None:
            raise
        return again


def answer_of(made: Made) -> Response:
    return Response(
        made.body.model_dump_json(by_alias=True),
        made.status,
        {"Location": made.location},
        media_type="application/json",
    )


def replayed(found: KeptAnswer, request_sha256: str) -> Response:
    if found.request_sha256 != request_sha256:
        raise KeyReused(
            "This Idempotency-Key was used for another request. Give each request its own key."
        )
    headers = {"Location": found.location, "Idempotency-Replayed": "true"}
    return Response(found.body, found.status, headers, media_type="application/json")
