"""What a caller can do wrong, as exceptions with stable codes.

    ServiceError
      Malformed         MalformedJson
      NotFound          DatasetNotFound  JobNotFound  ModelNotFound
      Conflict          DatasetInUse  JobEnded
      Unacceptable      MalformedTable  InvalidSpec  InvalidInput  InvalidBody
      TooLarge          BodyTooLarge  TableTooLarge
      UnsupportedMediaType

The `code` of each is part of the API: clients branch on it, so it never changes. Nothing here knows
HTTP; `api/problems.py` gives each branch of the tree its status.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """A caller's mistake, told to the caller as it is."""

    code: ClassVar[str]
    title: ClassVar[str]

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


class UnsupportedMediaType(ServiceError):
    code = "unsupported_media_type"
    title = "This content type is not understood"
