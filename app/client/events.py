"""A job's events as they happen, over a connection that may break."""

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TimedOut, Unavailable, UnexpectedAnswer
from .results import (
    FloatArray,
    JobFault,
    Progress,
    known,
    read_fault,
    read_series,
)
from .transport import (
    MISUNDERSTOOD,
    RETRY_AFTER_SECONDS_MAX,
    Transport,
    path_of,
    pause_seconds,
)

RECONNECTS_MAX = 5
# A connection that lasted so long was a good one, even if nothing happened meanwhile.
STEADY_SECONDS = 10.0


@dataclass(frozen=True)
class StateEvent:
    """The job has come into `state`. The last three are there once that is `terminal`."""

    id: str
    state: str
    terminal: bool
    at: datetime
    reason: str
    attempt: int
    stop_reason: str | None = None
    model_id: str | None = None
    error: JobFault | None = None


@dataclass(frozen=True)
class HistoryEvent:
    """The epochs behind those that were told before, as parallel arrays."""

    id: str
    epoch: NDArray[np.int64]
    cost: FloatArray
    validation_cost: FloatArray
    step_norm: FloatArray


@dataclass(frozen=True)
class ProgressEvent:
    """How far the job is just now; told when there is time for it."""

    progress: Progress


Event = StateEvent | HistoryEvent | ProgressEvent


def follow(transport: Transport, job_id: str, after: str | None) -> Generator[Event, None, None]:
    """Every state and epoch behind the event `after` once, in order, until the job has ended.

    Raises Unavailable after RECONNECTS_MAX vain attempts in a row to go on.
    """
    path, vain = path_of("jobs", job_id, "events"), 0
    while True:
        began = time.monotonic()
        try:
            with transport.streamed(path, last_event_id=after) as lines:
                for event in events_of(lines):
                    if not isinstance(event, ProgressEvent):
                        after, vain = event.id, 0
                    yield event
                    if isinstance(event, StateEvent) and event.terminal:
                        return
            if lines is None:
                return
            raise Unavailable(f"The events of job {job_id} broke off.")
        except Unavailable as error:
            was_steady = time.monotonic() - began > STEADY_SECONDS
            if was_steady and not isinstance(error, TimedOut):
                vain = 0
            pause = pause_seconds(vain, error.retry_after_seconds)
            if vain >= RECONNECTS_MAX or pause > RETRY_AFTER_SECONDS_MAX:
                raise
            vain += 1
        time.sleep(pause)


def events_of(lines: Iterable[str] | None) -> Iterator[Event]:
    """An event that was cut off is none, and neither is one of a kind not known here."""
    told: dict[str, str] = {}
    for line in lines or ():
        if line:
            name, _, value = line.partition(":")
            told[name] = value.removeprefix(" ")
            continue
        if "data" in told and told.get("event") in READERS:
            yield understood_event(told)
        told = {}


def understood_event(told: Mapping[str, str]) -> Event:
    """Raises UnexpectedAnswer."""
    try:
        return READERS[told["event"]](told.get("id"), json.loads(told["data"]))
    except MISUNDERSTOOD as error:
        raise UnexpectedAnswer(f"An event is not understood: {error!r}") from error


def read_state(event_id: str | None, data: Any) -> StateEvent:
    at, error = datetime.fromisoformat(data["at"]), read_fault(data.get("error"))
    return known(StateEvent, data, **named(event_id), at=at, error=error)


def read_epochs(event_id: str | None, data: Any) -> HistoryEvent:
    return known(HistoryEvent, data, **named(event_id), **read_series(data))


def read_progress(_: str | None, data: Any) -> ProgressEvent:
    return ProgressEvent(known(Progress, data))


def named(event_id: str | None) -> dict[str, str]:
    return {} if event_id is None else {"id": event_id}


READERS: Mapping[str, Callable[[str | None, Any], Event]] = {
    "state": read_state,
    "history": read_epochs,
    "progress": read_progress,
}
