"""An object store that is away costs time, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.errors import StorageUnavailable
from app.jobs import recorder
from app.jobs.training_run import run_on
from app.jobs.worker import Worker
from app.settings import Settings
from app.storage.blobs import FolderBlobs
from tests.builders import Api, csv_of, plane
from tests.object_store import CREDENTIALS
from tests.servers import free_port, serving


class AwayBlobs(FolderBlobs):
    """A store that fails so many times before it is back."""

    def __init__(self, folder: Path, failures: float) -> None:
        super().__init__(folder)
        self.failures = failures

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        if self.failures > 0:
            self.failures -= 1
            raise StorageUnavailable
        yield self.path(key)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "RETRY_SECONDS", 0.01)


def test_a_job_waits_for_a_store_that_is_away(api: Api, worker: Worker) -> None:
    job_id = api.queue(api.upload(plane()), ["y"])["id"]
    blobs = AwayBlobs(worker.settings.resolved_storage_folder, failures=3)

    run_on(worker._replace(blobs=blobs), job_id, 1)

    job = api.get(f"/v1/jobs/{job_id}")
    assert (job["state"], job["attempt"], blobs.failures) == ("succeeded", 1, 0)


def test_a_job_whose_store_stays_away_is_given_back_and_counts_no_death(
    api: Api, worker: Worker
) -> None:
    job_id = api.queue(api.upload(plane()), ["y"])["id"]
    settings = worker.settings.model_copy(update={"lease_seconds": 2.0, "attempts_max": 1})
    away = worker._replace(
        blobs=AwayBlobs(settings.resolved_storage_folder, failures=float("inf")), settings=settings
    )

    for delivery in range(1, settings.attempts_max + 2):
        run_on(away, job_id, delivery)
    waiting = api.get(f"/v1/jobs/{job_id}")
    run_on(worker, job_id, settings.attempts_max + 2)

    assert waiting["state"] == "queued"
    assert waiting["transitions"][-1]["reason"] == "storage_unavailable"
    assert api.get(f"/v1/jobs/{job_id}")["state"] == "succeeded"


def test_an_upload_while_the_store_is_away_is_a_503_and_leaves_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    options = f"scheme=http&endpoint_override=127.0.0.1:{free_port()}&region=us-east-1"
    away = settings.model_copy(update={"storage_url": f"s3://bucket?{options}"})

    with serving(away) as url:
        refused = httpx.post(
            f"{url}/v1/datasets",
            content=csv_of(plane()),
            headers={"content-type": "text/csv"},
            timeout=60,
        )
        listed = httpx.get(f"{url}/v1/datasets").json()

    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert refused.headers["Retry-After"] == "5"
    assert listed["items"] == []
    assert [path for path in (tmp_path / "blob-cache").rglob("*") if path.is_file()] == []
