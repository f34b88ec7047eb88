"""A training job as seen from outside."""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from .errors import BacksolveError, JobCancelled, JobFailed, WaitTimeout
from .events import Event, follow
from .results import (
    History,
    JobFault,
    Model,
    Progress,
    QueuePlace,
    Scores,
    known,
    read_fault,
    read_history,
    read_model,
)
from .transport import Transport, path_of

POLL_SECONDS_MIN = 0.05
POLL_SECONDS_MAX = 1.0
POLL_GROWTH = 1.5
# A connection that is silent for longer may be closed on the way.
WAIT_SECONDS_MAX = 10.0


@dataclass
class Job:
    """One request to train. Its fields are as of the last `refresh`, `wait` or action.

    `spec` is what was asked for with every default decided. `scores` and `model_id` are there once
    `state` is succeeded, `error` once it is failed; `terminal` says that nothing will change.
    `wanted` is an action that was asked for and has not happened yet, `queue` where it waits.
    """

    id: str
    name: str
    state: str
    terminal: bool
    allowed_actions: list[str]
    dataset_id: str
    spec: dict[str, Any] = field(repr=False)
    queue: QueuePlace | None
    progress: Progress | None
    stop_reason: str | None
    scores: Scores | None
    model_id: str | None
    error: JobFault | None
    attempt: int
    wanted: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    _transport: Transport = field(repr=False, compare=False)

    def refresh(self) -> "Job":
        return self._take(self._transport.get(path_of("jobs", self.id), read=self._read))

    def wait(
        self,
        timeout_seconds: float | None = None,
        *,
        on_progress: Callable[["Job"], None] | None = None,
    ) -> "Job":
        """This job once it has succeeded; `on_progress` is called with it whenever it has moved.

        A paused job is waited for until somebody resumes it. Raises JobFailed, JobCancelled,
        WaitTimeout, and Unavailable if the service goes away. The job goes on in the last two
        cases: wait for it again.
        """
        started, pause, seen = time.monotonic(), POLL_SECONDS_MIN, None
        patience_seconds = 0.0 if on_progress else self._transport.timeout_seconds / 2
        while True:
            if on_progress is not None and seen != (self.state, self.progress):
                seen = (self.state, self.progress)
                on_progress(self)
            if self.terminal:
                return self._succeeded()
            asked_at = time.monotonic()
            left = math.inf if timeout_seconds is None else timeout_seconds - (asked_at - started)
            if timeout_seconds is not None and left <= 0:
                raise WaitTimeout(self.id, self.state, timeout_seconds)
            self._refresh_at_end(min(left, patience_seconds, WAIT_SECONDS_MAX))
            # A service that waits has done so by now; what others answer at once is asked again.
            if not self.terminal and time.monotonic() - asked_at < pause:
                time.sleep(min(pause, left))
                pause = min(pause * POLL_GROWTH, POLL_SECONDS_MAX)

    def events(self, *, after: str | None = None) -> Generator[Event, None, None]:
        """What happens to this job, from its beginning to its end: every state and epoch once.

        A connection that breaks is made anew, and goes on where it was; so does one that is asked
        for with the id of the last event, `after`. The fields of this job are left as they are.
        Raises Unavailable if the service stays away, UnexpectedAnswer.
        """
        return follow(self._transport, self.id, after)

    def cancel(self) -> "Job":
        """Drops the work; a running job ends within about a second. Conflict if it has ended."""
        return self._act("cancel")

    def stop(self) -> "Job":
        """Ends training and keeps the model of what is done; Conflict if nothing is."""
        return self._act("stop")

    def pause(self) -> "Job":
        """Lets go of the worker within about a second; nothing is lost."""
        return self._act("pause")

    def resume(self) -> "Job":
        """Goes on where it was paused, to the same bits as if it had not been."""
        return self._act("resume")

    def history(self, points_max: int = 1000) -> History:
        """The loss history, also while the job runs; thinned to `points_max`, extremes kept."""
        path, params = path_of("jobs", self.id, "history"), {"max_points": points_max}
        return self._transport.get(path, read=read_history, params=params)

    def model(self) -> Model:
        """What was trained. Raises BacksolveError while there is none."""
        if self.model_id is None:
            raise BacksolveError(f"Job {self.id} is {self.state}: there is no model yet.")
        return self._transport.get(path_of("models", self.model_id), read=read_model)

    def _act(self, action: str) -> "Job":
        path = path_of("jobs", self.id, action)
        return self._take(self._transport.post(path, read=self._read))

    def _refresh_at_end(self, wait_seconds: float) -> None:
        """As `refresh`, but the service may wait so long for the end before it answers."""
        headers = {"Prefer": f"wait={int(wait_seconds)}"} if wait_seconds >= 1 else None
        path = path_of("jobs", self.id)
        self._take(self._transport.get(path, read=self._read, headers=headers))

    def _read(self, answer: Any) -> "Job":
        return read_job(answer, self._transport)

    def _take(self, fresh: "Job") -> "Job":
        for part in fields(self):
            setattr(self, part.name, getattr(fresh, part.name))
        return self

    def _succeeded(self) -> "Job":
        if self.state == "succeeded":
            return self
        if self.error is not None:
            raise JobFailed(self.id, self.error.code, self.error.detail)
        raise JobCancelled(self.id, self.state, f"it was {self.state}.")


def read_job(answer: Any, transport: Transport) -> Job:
    progress = answer.get("progress")
    return known(
        Job,
        answer,
        queue=read_place(answer.get("queue")),
        progress=None if progress is None else known(Progress, progress),
        error=read_fault(answer.get("error")),
        created_at=datetime.fromisoformat(answer["created_at"]),
        started_at=moment(answer.get("started_at")),
        ended_at=moment(answer.get("ended_at")),
        _transport=transport,
    )


def read_place(answer: Any) -> QueuePlace | None:
    if answer is None:
        return None
    return QueuePlace(answer["position"], moment(answer.get("expected_start_at")))


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
