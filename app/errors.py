"""What a caller can do wrong, as exceptions with stable codes.

    ServiceError
      Malformed         MalformedJson
      NotFound          DatasetNotFound  JobNotFound  ModelNotFound
      Conflict          DatasetInUse  JobEnded  ActionNotAllowed
      Unacceptable      MalformedTable  InvalidSpec  InvalidInput  InvalidBody
                        KeyReused
      TooLarge          BodyTooLarge  TableTooLarge
      TryLater
        TooMany         TooManyJobs  BudgetSpent
        Busy            QueueFull  StorageUnavailable
        Full            StorageFull
      UnsupportedMediaType

The `code` of each is part of the API: clients branch on it, so it never changes. Nothing here knows
HTTP; `api/problems.py` gives each branch of the tree its status.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a caller's mistake is, and what to do about it.

    `pointer` is a JSON pointer into the request body; `row` counts data rows from 1.
    """

    detail: str
    pointer: str | None = None
    row: int | None = None
    column: str | None = None


class ServiceError(Exception):
    """A caller's mistake, told to the caller as it is; `members` are told beside the usual ones."""

    code: ClassVar[str]
    title: ClassVar[str]
    members: Mapping[str, object] = MappingProxyType({})
    retry_after_seconds: int | None = None

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class Malformed(ServiceError):
    """The request cannot even be read."""


class MalformedJson(Malformed):
    code = "malformed_json"
    title = "The body is not valid JSON"


class NotFound(ServiceError):
    """The thing asked for does not exist for this caller."""


class DatasetNotFound(NotFound):
    code = "dataset_not_found"
    title = "No such dataset"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"There is no dataset {dataset_id!r}. GET /v1/datasets lists yours.")


class JobNotFound(NotFound):
    code = "job_not_found"
    title = "No such job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}. GET /v1/jobs lists yours.")


class ModelNotFound(NotFound):
    code = "model_not_found"
    title = "No such model"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"There is no model {model_id!r}. GET /v1/models lists yours.")


class Conflict(ServiceError):
    """What was asked for does not fit the state that the thing is in."""


class DatasetInUse(Conflict):
    code = "dataset_in_use"
    title = "A job is using this dataset"


class JobEnded(Conflict):
    code = "job_ended"
    title = "The job has already ended"


class ActionNotAllowed(Conflict):
    """`members` has what is allowed instead."""

    code = "action_not_allowed"
    title = "The job's state does not allow this"

    def __init__(self, detail: str, allowed: Sequence[str]) -> None:
        super().__init__(detail)
        self.members = {"allowed_actions": list(allowed)}


class Unacceptable(ServiceError):
    """The request was understood, and what it says cannot be done."""


class MalformedTable(Unacceptable):
    code = "malformed_table"
    title = "The table cannot be read"


class InvalidSpec(Unacceptable):
    code = "invalid_spec"
    title = "The training spec does not fit"


class InvalidInput(Unacceptable):
    code = "invalid_input"
    title = "The input does not fit the model"


class KeyReused(Unacceptable):
    code = "idempotency_key_reused"
    title = "The key belongs to another request"


class InvalidBody(Unacceptable):
    code = "invalid_request"
    title = "The request is not valid"


class TooLarge(ServiceError):
    """The request is larger than a setting allows."""


class BodyTooLarge(TooLarge):
    code = "body_too_large"
    title = "The request body is too large"


class TableTooLarge(TooLarge):
    code = "table_too_large"
    title = "The table is too large"


class TryLater(ServiceError):
    """Nothing is wrong with the request, only with the moment."""

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class TooMany(TryLater):
    """The caller has as much as is allowed, for now."""


class TooManyJobs(TooMany):
    code = "too_many_jobs"
    title = "Too many jobs of yours have not ended"


class BudgetSpent(TooMany):
    code = "owner_budget_spent"
    title = "Too much work of yours has not ended"


class Busy(TryLater):
    """The service has as much to do as is allowed, for now."""


class QueueFull(Busy):
    code = "queue_full"
    title = "Too many jobs are waiting"


class StorageUnavailable(Busy):
    """The object store is away, slow, or refuses us; the log says which."""

    code = "storage_unavailable"
    title = "The store of the tables does not answer"

    def __init__(self) -> None:
        super().__init__(
            "Nothing of this request was stored. Try again in a moment.", retry_after_seconds=5
        )


class Full(TryLater):
    """There is no room to store what was sent."""


class StorageFull(Full):
    code = "storage_full"
    title = "The storage is full"

    def __init__(self) -> None:
        super().__init__(
            "Nothing of this request was stored: there is no room left. What is stored can be read "
            "and used; once there is room again, so can this request be sent again.",
            retry_after_seconds=30,
        )


class UnsupportedMediaType(ServiceError):
    code = "unsupported_media_type"
    title = "This content type is not understood"
