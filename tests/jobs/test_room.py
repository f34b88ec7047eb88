"""How many jobs there may be, of one owner and in all."""

import httpx
import pytest

from app.jobs.training_run import run_on
from app.jobs.worker import Worker
from app.settings import Settings
from tests.builders import Api, plane
from tests.servers import serving


@pytest.mark.parametrize(
    ("limits", "status", "code"),
    [
        ({"owner_jobs_max": 2}, 429, "too_many_jobs"),
        ({"queued_jobs_max": 2}, 503, "queue_full"),
        # 48 of 60 rows are trained on, with two inputs, one output and 500 epochs.
        ({"owner_budget": 2 * 48 * 2 * 500}, 429, "owner_budget_spent"),
    ],
)
def test_a_job_too_many_is_refused_until_one_has_ended(
    api: Api, settings: Settings, worker: Worker, limits: dict[str, int], status: int, code: str
) -> None:
    body = {"dataset_id": api.upload(plane()), "targets": ["y"]}
    with serving(settings.model_copy(update=limits)) as url:
        jobs = [httpx.post(f"{url}/v1/jobs", json=body).json()["id"] for _ in range(2)]

        refused = httpx.post(f"{url}/v1/jobs", json=body)
        run_on(worker, jobs[0], 1)
        taken = httpx.post(f"{url}/v1/jobs", json=body)

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.headers["Retry-After"] == "10"
    assert taken.status_code == 202
