"""Rows of jobs that nobody asked for over HTTP: of other owners, or by the thousand."""

from datetime import datetime
from typing import Any

from app.jobs.states import JobState
from app.storage.tables import JobRow

OWNER = "default"


def job_row(now: datetime, job_id: str = "job_1", **columns: Any) -> JobRow:
    """A queued job of the default owner, unless `columns` say otherwise."""
    values: dict[str, Any] = {
        "id": job_id,
        "owner": OWNER,
        "name": "a job",
        "dataset_id": None,
        "spec": {},
        "resolved_spec": {},
        "state": JobState.QUEUED,
        "delivery": 1,
        "attempt": 0,
        "deaths": 0,
        "created_at": now,
    }
    return JobRow(**values | columns)
