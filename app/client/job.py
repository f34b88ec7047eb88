"""A training job as seen from outside."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from .errors import BacksolveError, JobCancelled, JobFailed, WaitTimeout
from .results import History, Model, Scores, known, read_history, read_model
from .transport import Transport, path_of

POLL_SECONDS_MIN = 0.05
POLL_SECONDS_MAX = 1.0
POLL_GROWTH = 1.5


@dataclass(frozen=True)
class Progress:
    """`epochs` is the most there will be; a cost is None once it is no longer finite."""

    epoch: int
    epochs: int
    fraction: float
    cost: float | None = None
    validation_cost: float | None = None


@dataclass(frozen=True)
class JobFault:
    code: str
    detail: str


@dataclass
class Job:
    """One request to train. Its fields are as of the last `refresh`, `wait` or `cancel`.

    `spec` is what was asked for with every default decided. `scores` and `model_id` are there once
    `state` is succeeded, `error` once it is failed; `terminal` says that nothing will change.
    """

    id: str
    name: str
    state: str
    terminal: bool
    allowed_actions: list[str]
    dataset_id: str
    spec: dict[str, Any] = field(repr=False)
    progress: Progress | None
    stop_reason: str | None
    scores: Scores | None
    model_id: str | None
    error: JobFault | None
    attempt: int
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

        Raises JobFailed, JobCancelled, WaitTimeout, and Unavailable if the service goes away. The
        job goes on in the last two cases: wait for it again.
        """
        started, pause, seen = time.monotonic(), POLL_SECONDS_MIN, None
        while True:
            if on_progress is not None and seen != (self.state, self.progress):
                seen = (self.state, self.progress)
                on_progress(self)
            if self.terminal:
                return self._succeeded()
            if timeout_seconds is not None:
                left = timeout_seconds - (time.monotonic() - started)
                if left <= 0:
                    raise WaitTimeout(self.id, self.state, timeout_seconds)
                pause = min(pause, left)
            time.sleep(pause)
            pause = min(pause * POLL_GROWTH, POLL_SECONDS_MAX)
            self.refresh()

    def cancel(self) -> "Job":
        """Drops the work; a running job ends within about a second. Conflict if it has ended."""
        path = path_of("jobs", self.id, "cancel")
        return self._take(self._transport.post(path, read=self._read))

    def history(self, points_max: int = 1000) -> History:
        """The loss history, also while the job runs; thinned to `points_max`, extremes kept."""
        path, params = path_of("jobs", self.id, "history"), {"max_points": points_max}
        return self._transport.get(path, read=read_history, params=params)

    def model(self) -> Model:
        """What was trained. Raises BacksolveError while there is none."""
        if self.model_id is None:
            raise BacksolveError(f"Job {self.id} is {self.state}: there is no model yet.")
        return self._transport.get(path_of("models", self.model_id), read=read_model)

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
    progress, error = answer.get("progress"), answer.get("error")
    return known(
        Job,
        answer,
        progress=None if progress is None else known(Progress, progress),
        error=None if error is None else known(JobFault, error),
        created_at=datetime.fromisoformat(answer["created_at"]),
        started_at=moment(answer.get("started_at")),
        ended_at=moment(answer.get("ended_at")),
        _transport=transport,
    )


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
