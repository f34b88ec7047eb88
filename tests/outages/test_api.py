"""The API in front of a database that is slow, silent, or hangs up."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.settings import Settings
from tests.api.problems import problem_of
from tests.api.test_transactions import before_each_commit
from tests.builders import Api, plane
from tests.outages.conftest import CALL_SECONDS, in_time
from tests.servers import serving
from tests.toxic import Mode, Proxy

# A request waits for one call at most; the rest is for a busy machine.
ANSWER_SECONDS = CALL_SECONDS + 1.5
RECOVERY_SECONDS = 2.0
AWAY = (Mode.BLACK_HOLE, Mode.RESET)


@pytest.fixture
def client(through: Settings) -> Iterator[httpx.Client]:
    with serving(through) as url, httpx.Client(base_url=url, timeout=30) as client:
        assert client.get("/v1/jobs").status_code == 200
        yield client


@pytest.mark.parametrize("mode", AWAY)
def test_a_database_that_is_away_is_a_503_in_time_and_is_back_without_a_restart(
    client: httpx.Client, between: Proxy, mode: Mode
) -> None:
    between.set(mode)
    started = time.monotonic()
    refused = client.get("/v1/jobs")
    seconds = time.monotonic() - started
    alive, ready = client.get("/livez"), client.get("/readyz")
    between.set(Mode.PASS)

    assert (refused.status_code, problem_of(refused)["code"]) == (503, "database_unavailable")
    assert refused.headers["Retry-After"]
    assert seconds < ANSWER_SECONDS
    assert (alive.status_code, ready.status_code) == (200, 503)
    assert recovered_after(client) < RECOVERY_SECONDS
    assert client.get("/readyz").status_code == 200


def test_after_the_first_has_waited_in_vain_nobody_else_does(
    client: httpx.Client, between: Proxy
) -> None:
    """However long it lasts: finding out whether it is back is no caller's burden."""
    between.set(Mode.BLACK_HOLE)
    client.get("/v1/jobs")

    times = []
    until = time.monotonic() + 4 * CALL_SECONDS
    while time.monotonic() < until:
        started = time.monotonic()
        assert client.get("/v1/jobs").status_code == 503
        times.append(time.monotonic() - started)
        time.sleep(0.05)

    assert in_time(times, CALL_SECONDS / 2)


@pytest.mark.slow
def test_many_who_ask_at_once_all_get_their_answer(through: Settings, between: Proxy) -> None:
    # Long enough for forty connections to be made at once on a busy machine.
    patient = through.model_copy(update={"database_seconds": 4.0})
    with serving(patient) as url:
        usual, served = asked_at_once(url, callers=200)
        between.set(Mode.BLACK_HOLE)
        seconds, refused = asked_at_once(url, callers=200)
        between.set(Mode.PASS)

    assert (served, refused) == ({200: 200}, {503: 200})
    # Forty are asked at a time: the first of them wait for the database, and that is all.
    assert seconds < usual + 1.5 * patient.database_seconds


def asked_at_once(url: str, *, callers: int) -> tuple[float, Counter[int]]:
    """The seconds that it took to answer all, and their statuses."""
    limits = httpx.Limits(max_connections=callers)
    with (
        httpx.Client(base_url=url, timeout=60, limits=limits) as many,
        ThreadPoolExecutor(callers) as threads,
    ):
        started = time.monotonic()
        answers = threads.map(lambda _: many.get("/v1/jobs").status_code, range(callers))
        statuses = Counter(answers)
        return time.monotonic() - started, statuses


def test_a_request_whose_commit_was_not_answered_is_carried_out_once_under_its_key(
    client: httpx.Client, between: Proxy
) -> None:
    """The commit gets through when the way is clear, long after its caller was told of the 503."""
    dataset_id = Api(client, lambda *_: None).upload(plane())
    body = {"dataset_id": dataset_id, "targets": ["y"]}
    headers = {"Idempotency-Key": "once"}

    with before_each_commit(lambda: between.set(Mode.BLACK_HOLE)):
        refused = client.post("/v1/jobs", json=body, headers=headers)
    between.set(Mode.PASS)
    recovered_after(client)
    again = client.post("/v1/jobs", json=body, headers=headers)

    assert (refused.status_code, again.status_code) == (503, 202)
    assert "once" in problem_of(refused)["detail"]
    assert [job["id"] for job in client.get("/v1/jobs").json()["items"]] == [again.json()["id"]]


def test_a_slow_database_is_slow_and_no_fault(client: httpx.Client, between: Proxy) -> None:
    between.set(Mode.SLOW)

    assert client.get("/v1/jobs").status_code == 200


def test_a_database_that_hung_up_while_nobody_asked_is_not_noticed(
    client: httpx.Client, between: Proxy
) -> None:
    between.set(Mode.RESET)
    time.sleep(0.1)
    between.set(Mode.PASS)

    assert client.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize("toggles", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_however_often_it_goes_and_comes_no_answer_is_a_500(
    client: httpx.Client, between: Proxy, toggles: int
) -> None:
    statuses: Counter[int] = Counter()
    waits, recoveries = [], []
    for toggle in range(toggles):
        between.set(AWAY[toggle % 2])
        for _ in range(3):
            started = time.monotonic()
            statuses[client.get("/v1/datasets").status_code] += 1
            waits.append(time.monotonic() - started)
        between.set(Mode.PASS)
        recoveries.append(recovered_after(client))

    print(f"longest wait {max(waits):.2f} s, longest recovery {max(recoveries):.2f} s")
    assert set(statuses) == {503}
    assert in_time(waits, ANSWER_SECONDS)
    assert in_time(recoveries, RECOVERY_SECONDS)


def recovered_after(client: httpx.Client) -> float:
    started = time.monotonic()
    while client.get("/v1/jobs").status_code != 200:
        assert time.monotonic() - started < 10 * RECOVERY_SECONDS
        time.sleep(0.02)
    return time.monotonic() - started
