"""What can go wrong, as one tree.

    BacksolveError
      APIError              the service says no: status, code, detail, request_id, errors
        BadRequest            400  the body cannot be read
        NotFound              404
        Conflict              409  it does not fit the state that the thing is in
        TooLarge              413
        UnsupportedMediaType  415
        Invalid               422  understood, and it cannot be done: `errors` says where and why
        ServerError           5xx  a bug of the service, logged there under `request_id`
      Unavailable           nobody answers, or 502, 503 or 504: ask again later
        TimedOut              no answer in time: what was asked may still be done
      UnexpectedAnswer      what answers is not this service, or a version too far from this client
      JobFailed             the job ended without a model: job_id, code, detail
        JobCancelled
      WaitTimeout           the job goes on; wait for it again

All of them can be pickled, so they come back from worker processes as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FAULTS_SHOWN_MAX = 5


@dataclass(frozen=True)
class Fault:
    """One mistake: `pointer` is a JSON pointer into what was sent, `row` counts from 1."""

    detail: str
    pointer: str | None = None
    row: int | None = None
    column: str | None = None


class BacksolveError(Exception):
    """All that this client raises on purpose, but for ValueError where a call makes no sense."""


class APIError(BacksolveError):
    """The service answered no. Branch on `code`, it never changes; `detail` is for people."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        request_id: str = "",
        errors: Sequence[Fault] = (),
    ) -> None:
        # All of them are arguments of Exception, so that the error survives pickling.
        super().__init__(status, code, detail, request_id, errors)
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.errors = tuple(errors)

    def __str__(self) -> str:
        known = f"{self.code}, HTTP {self.status}"
        lines = [f"{self.detail} ({known}{f', request {self.request_id}' * bool(self.request_id)})"]
        told = [fault for fault in self.errors if fault.detail != self.detail]
        lines += [
            f"  {fault.pointer}: {fault.detail}" if fault.pointer else f"  {fault.detail}"
            for fault in told[:FAULTS_SHOWN_MAX]
        ]
        if len(told) > FAULTS_SHOWN_MAX:
            lines.append(f"  and {len(told) - FAULTS_SHOWN_MAX} more, see .errors")
        return "\n".join(lines)


class BadRequest(APIError):
    pass


class NotFound(APIError):
    pass


class Conflict(APIError):
    pass


class TooLarge(APIError):
    pass


class UnsupportedMediaType(APIError):
    pass


class Invalid(APIError):
    pass


class ServerError(APIError):
    pass


class Unavailable(BacksolveError):
    """`retry_after_seconds` is what the service asked for, if it did."""

    def __init__(self, detail: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail, retry_after_seconds)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.detail


class TimedOut(Unavailable):
    pass


class UnexpectedAnswer(BacksolveError):
    pass


class JobFailed(BacksolveError):
    """`code` is stable, `detail` says what to do about it."""

    def __init__(self, job_id: str, code: str, detail: str) -> None:
        super().__init__(job_id, code, detail)
        self.job_id = job_id
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"Job {self.job_id} ended without a model: {self.detail} ({self.code})"


class JobCancelled(JobFailed):
    pass


class WaitTimeout(BacksolveError):
    def __init__(self, job_id: str, state: str, timeout_seconds: float) -> None:
        super().__init__(job_id, state, timeout_seconds)
        self.job_id = job_id
        self.state = state
        self.timeout_seconds = timeout_seconds

    def __str__(self) -> str:
        return (
            f"Job {self.job_id} is still {self.state} after {self.timeout_seconds:g} s; it goes on."
        )
