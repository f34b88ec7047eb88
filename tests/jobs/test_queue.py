"""A queued job's place is the one that it is sent by, and tells when it may start."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples

from app.errors import QueueFull, TooManyJobs
from app.jobs import queries, queueing
from app.jobs.queueing import RETRY_SECONDS_MAX, QueuePlace
from app.jobs.states import JobState
from app.settings import Settings
from app.storage.database import Database, Session, clock
from app.storage.tables import JobRow
from tests.builders import Api, plane
from tests.jobs.rows import OWNER, job_row
from tests.jobs.test_fairness import Jobs, add, jobs, one_by_one
from tests.servers import serving

NO_LIMITS = Settings()
CALLERS = 20


@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(found=jobs)
def test_places_are_those_in_the_fair_order(database: Database, found: Jobs) -> None:
    with database.reading() as session:
        add(session, found)
        rows = session.scalars(sa.select(JobRow)).all()

        places = queueing.places(session, NO_LIMITS, rows)

    order = one_by_one(found, sent=(), owner_running_max=1000)
    assert places == {job_id: QueuePlace(place, None) for place, job_id in enumerate(order, 1)}


def ran(session: Session, seconds: Sequence[float], *, ago: float = 1.0, workers: int = 1) -> None:
    """Jobs of somebody's that have ended, having run so long."""
    ended_at = clock(session) - timedelta(seconds=ago)
    for number, run in enumerate(seconds):
        session.add(
            job_row(
                ended_at,
                f"job_ended_{number}",
                owner="somebody",
                state=JobState.SUCCEEDED,
                attempt=1,
                worker=f"host:{number % workers}",
                started_at=ended_at - timedelta(seconds=run),
                ended_at=ended_at,
            )
        )
    session.flush()


def expected_seconds(session: Session, settings: Settings, job_id: str) -> float | None:
    row = queries.find_and_lock(session, job_id)
    assert row is not None
    place = queueing.place(session, settings, row)
    assert place is not None
    if place.expected_start_at is None:
        return None
    return (place.expected_start_at - clock(session)).total_seconds()


@pytest.mark.parametrize(
    ("running", "workers", "cap", "position", "seconds"),
    [
        (2, 1, 1000, 1, 5.0),  # one of two workers is free after half a run, on the whole
        (2, 1, 1000, 4, 20.0),
        (1, 3, 1000, 2, 0.0),  # two of three workers are free
        (1, 3, 1000, 5, 10.0),
        (0, 2, 1000, 3, 5.0),
        (0, 4, 1, 4, 30.0),  # three of one's own come before, one after the other
    ],
)
def test_a_start_is_expected_at_the_pace_of_the_last_jobs(
    database: Database, running: int, workers: int, cap: int, position: int, seconds: float
) -> None:
    settings = Settings(owner_running_max=cap)
    with database.reading() as session:
        add(session, [("a", JobState.RUNNING)] * running + [("b", JobState.QUEUED)] * position)
        ran(session, [8.0, 12.0, 10.0, 10.0], workers=workers)

        expected = expected_seconds(session, settings, f"job_{running + position - 1:03}")

    assert expected == pytest.approx(seconds, abs=0.5)


def test_no_start_is_expected_before_anything_has_run_or_without_a_worker(
    database: Database,
) -> None:
    with database.reading() as session:
        add(session, [("a", JobState.RUNNING), ("b", JobState.QUEUED)])
        nothing_has_run = expected_seconds(session, NO_LIMITS, "job_001")
        session.execute(sa.delete(JobRow).where(JobRow.id == "job_000"))
        ran(session, [10.0], ago=3600.0)
        nobody_is_there = expected_seconds(session, NO_LIMITS, "job_001")

    assert (nothing_has_run, nobody_is_there) == (None, None)


def test_a_job_tells_its_place_while_it_is_queued(api: Api) -> None:
    dataset = api.upload(plane())
    first, second = (api.queue(dataset, ["y"]) for _ in range(2))

    listed = {job["id"]: job["queue"]["position"] for job in api.get("/v1/jobs")["items"]}
    paused = api.post(f"/v1/jobs/{first['id']}/pause", None, 200)
    moved_up = api.get(f"/v1/jobs/{second['id']}")
    api.run(second["id"], 1)
    ended = api.get(f"/v1/jobs/{second['id']}")
    resumed = api.post(f"/v1/jobs/{first['id']}/resume", None, 202)

    assert (first["queue"], second["queue"]["position"]) == (
        {"position": 1, "expected_start_at": None},
        2,
    )
    assert listed == {first["id"]: 1, second["id"]: 2}
    assert (paused["queue"], moved_up["queue"]["position"], ended["queue"]) == (None, 1, None)
    assert resumed["queue"]["position"] == 1
    assert resumed["queue"]["expected_start_at"] is not None


def test_a_list_asks_for_all_places_at_once(database: Database) -> None:
    with database.reading() as session:
        add(session, [("a", JobState.QUEUED)] * 100)
        rows = session.scalars(sa.select(JobRow)).all()
        asked: list[str] = []
        sa.event.listen(
            session.connection(), "before_cursor_execute", lambda *call: asked.append(call[2])
        )

        places = queueing.places(session, NO_LIMITS, rows)

    assert len(places) == 100
    assert len(asked) <= 5


@pytest.mark.parametrize(
    ("seconds", "own_running", "waits"),
    [([], 1, (10, 10)), ([60.0], 2, (30, 30)), ([0.01], 1, (1, 1)), ([1e5], 2, (300, 300))],
)
def test_a_refusal_says_when_a_job_will_have_ended(
    database: Database, seconds: list[float], own_running: int, waits: tuple[int, int]
) -> None:
    with database.reading() as session:
        add(session, [(OWNER, JobState.RUNNING)] * own_running + [(OWNER, JobState.QUEUED)])
        ran(session, seconds)

        with pytest.raises(TooManyJobs) as own:
            queueing.require_room(session, Settings(owner_jobs_max=1), OWNER)
        with pytest.raises(QueueFull) as all_of_them:
            queueing.require_room(session, Settings(queued_jobs_max=1), OWNER)

    told = (own.value.retry_after_seconds, all_of_them.value.retry_after_seconds)
    assert told == waits
    assert RETRY_SECONDS_MAX == 300


def test_requests_at_once_do_not_exceed_what_an_owner_may_have(settings: Settings) -> None:
    with (
        serving(settings.model_copy(update={"owner_jobs_max": 3})) as url,
        httpx.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        dataset_id = Api(client, lambda *_: None).upload(plane())
        body = {"dataset_id": dataset_id, "targets": ["y"]}
        answers = callers.map(lambda _: client.post("/v1/jobs", json=body), range(CALLERS))
        statuses = Counter(answer.status_code for answer in answers)

    assert statuses == {202: 3, 429: CALLERS - 3}
