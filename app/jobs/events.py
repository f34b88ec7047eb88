"""What has happened to a job since a place that its follower has reached.

A place is `<epoch>.<moves>`: the last epoch and the number of moves that were told. Both only grow
in what is stored, since history is stored together with the checkpoint that the next attempt goes
on from; so a follower that comes back with a place gets all that came behind it, and that once.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.api.finite import finite_or_none
from app.jobs import history, queries, service
from app.jobs.states import JobState, is_terminal
from app.storage.database import Session
from app.storage.tables import JobRow, JobTransitionRow

# So much is told at once at most; a follower that is far behind asks again.
BLOCKS_MAX = 16
PLACE = re.compile(r"(-1|\d{1,15})\.(\d{1,9})")


class Place(NamedTuple):
    """`epoch` is -1 before the first one is told."""

    epoch: int
    moves: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.moves}"


START = Place(-1, 0)


class Event(NamedTuple):
    """`place` is where a follower is that has got it. `kind` is state, history or progress."""

    place: Place
    kind: str
    data: dict[str, Any]


class News(NamedTuple):
    """`place` is that of the last event. `ended`: nothing will ever come behind it. `more`: there
    is already."""

    events: list[Event]
    place: Place
    ended: bool
    more: bool


def place_of(text: str) -> Place | None:
    """None for a text that is no place."""
    found = PLACE.fullmatch(text)
    return None if found is None else Place(int(found[1]), int(found[2]))


def news(session: Session, owner: str, job_id: str, place: Place) -> News:
    """Everything behind the place, up to BLOCKS_MAX blocks of history. Raises JobNotFound."""
    # The row first: what ends with it has been stored by then. Its end may come in between; that
    # is told the next time, with what the row says of it.
    job = service.get(session, owner, job_id)
    moves = list(job.transitions)
    if moves and is_terminal(JobState(moves[-1].state)) and job.row.state != moves[-1].state:
        moves.pop()
    # The first block may have been told already.
    blocks = queries.history_behind(session, job_id, place.epoch, limit=BLOCKS_MAX + 1)
    records = history.join(blocks)
    records = records[records[:, 0] > place.epoch]
    complete = len(blocks) <= BLOCKS_MAX
    events = list(told(job.row, moves, place, records, complete=complete))
    reached = events[-1].place if events else place
    ended = is_terminal(JobState(job.row.state)) and reached.moves >= len(moves)
    return News(events, reached, ended, more=not complete)


def told(
    row: JobRow,
    moves: Sequence[JobTransitionRow],
    place: Place,
    records: NDArray[np.float64],
    *,
    complete: bool,
) -> Iterator[Event]:
    """The moves, with the history before the last of them if that is the end."""
    behind = list(moves[place.moves :])
    last = behind.pop() if behind and is_terminal(JobState(behind[-1].state)) else None
    for move in behind:
        place = place._replace(moves=place.moves + 1)
        yield Event(place, "state", move_data(row, move))
    if len(records):
        place = place._replace(epoch=int(records[-1, 0]))
        yield Event(place, "history", history_data(records))
    if last is not None and complete:
        place = place._replace(moves=place.moves + 1)
        yield Event(place, "state", move_data(row, last))
    elif row.progress is not None and not is_terminal(JobState(row.state)):
        yield Event(place, "progress", dict(row.progress))


def move_data(row: JobRow, move: JobTransitionRow) -> dict[str, Any]:
    ended = is_terminal(JobState(move.state))
    return {
        "state": move.state,
        "terminal": ended,
        "at": move.at.isoformat(),
        "reason": move.reason,
        "attempt": move.attempt,
        "stop_reason": row.stop_reason if ended else None,
        "model_id": row.model_id if ended else None,
        "error": row.error if ended else None,
    }


def history_data(records: NDArray[np.float64]) -> dict[str, Any]:
    epoch, cost, validation_cost, step_norm = records.T
    return {
        "epoch": epoch.astype(int).tolist(),
        "cost": finite_or_none(cost),
        "validation_cost": finite_or_none(validation_cost),
        "step_norm": finite_or_none(step_norm),
    }
