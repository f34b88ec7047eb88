"""Answers to requests that created something, by the key that their caller gave them."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from app.storage.database import Session, clock
from app.storage.tables import KeptAnswerRow


class RequestKey(NamedTuple):
    """What names a request: keys of other owners and routes are other keys."""

    owner: str
    route: str
    key: str


class KeptAnswer(NamedTuple):
    request_sha256: str
    status: int
    location: str
    body: bytes


class Taken(Exception):
    """Another transaction has committed an answer under this key just now."""


def find(session: Session, name: RequestKey) -> KeptAnswer | None:
    row = session.scalar(select(KeptAnswerRow).filter_by(**name._asdict()))
    if row is None:
        return None
    return KeptAnswer(row.request_sha256, row.status, row.location, row.body)


def reserve(session: Session, name: RequestKey, request_sha256: str) -> KeptAnswerRow:
    """The row of a key, which nobody else can have before this transaction ends.

    Waits for another transaction that is about to have it; raises Taken if that one commits.
    """
    row = KeptAnswerRow(
        **name._asdict(),
        request_sha256=request_sha256,
        status=0,
        location="",
        body=b"",
        created_at=clock(session),
    )
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        raise Taken from None
    return row


def forget_old(session: Session, *, days: float) -> None:
    before = clock(session) - timedelta(days=days)
    session.execute(delete(KeptAnswerRow).where(KeptAnswerRow.created_at < before))
