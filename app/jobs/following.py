"""A job's events as a stream that ends with the job, and as a feed that is asked again."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool

from app.jobs import events, queries
from app.jobs.events import Event, News, Place
from app.storage.database import UNAVAILABLE, Database

LOOK_SECONDS = 0.25
FIRST_LOOK_SECONDS = 0.01
LOOK_GROWTH = 1.5
# Proxies close what is silent for longer.
SILENCE_SECONDS = 15.0
RETRY_MILLISECONDS = 1000


def read(database: Database, owner: str, job_id: str, place: Place) -> News:
    with database.reading() as session:
        return events.news(session, owner, job_id, place)


async def stream(
    database: Database, owner: str, job_id: str, first: News, *, is_stopping: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Server-Sent Events, beginning with what has been read already. Ends with the job.

    While the database is away, or when the server stops, it ends too: the follower comes back to
    where it was.
    """
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    found, shown = first, None
    told_at = time.monotonic()
    while True:
        for event in found.events:
            if event.kind == "progress" and event.data == shown:
                continue
            shown = event.data if event.kind == "progress" else shown
            told_at = time.monotonic()
            yield written(event)
        if found.ended:
            return
        if time.monotonic() - told_at > SILENCE_SECONDS:
            told_at = time.monotonic()
            yield b": still here\n\n"
        if is_stopping():
            yield b"event: bye\ndata: {}\n\n"
            return
        if not found.more:
            await asyncio.sleep(LOOK_SECONDS)
        try:
            found = await run_in_threadpool(read, database, owner, job_id, found.place)
        except UNAVAILABLE:
            return


def written(event: Event) -> bytes:
    """One event; a progress has no id, since it is not told again."""
    name = b"" if event.kind == "progress" else f"id: {event.place}\n".encode()
    return name + f"event: {event.kind}\ndata: ".encode() + orjson.dumps(event.data) + b"\n\n"


async def until_ended(
    database: Database,
    owner: str,
    job_id: str,
    *,
    wait_seconds: float,
    is_stopping: Callable[[], bool],
) -> None:
    """Returns when the job has ended, when there is no such job, after the wait, or at a stop.

    Looks often at first, since many jobs take milliseconds.
    """
    deadline, pause = time.monotonic() + wait_seconds, FIRST_LOOK_SECONDS
    while await run_in_threadpool(is_live, database, owner, job_id):
        left = deadline - time.monotonic()
        if left <= 0 or is_stopping():
            return
        await asyncio.sleep(min(pause, left))
        pause = min(pause * LOOK_GROWTH, LOOK_SECONDS)


def is_live(database: Database, owner: str, job_id: str) -> bool:
    with database.reading() as session:
        return queries.is_live(session, owner, job_id)


async def feed(
    database: Database,
    owner: str,
    job_id: str,
    place: Place,
    *,
    wait_seconds: float,
    is_stopping: Callable[[], bool],
) -> dict[str, Any]:
    """The events behind a place; if there are none, those that come within the wait."""
    deadline = time.monotonic() + wait_seconds
    while True:
        found = await run_in_threadpool(read, database, owner, job_id, place)
        over = time.monotonic() >= deadline or is_stopping()
        if found.place != place or found.ended or over:
            return {
                "items": [
                    {"id": str(event.place), "event": event.kind, "data": event.data}
                    for event in found.events
                ],
                "next": str(found.place),
                "terminal": found.ended,
            }
        await asyncio.sleep(LOOK_SECONDS)
