"""Reading is tried again, and so is what has a key; everything else is sent once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from app.client import Backsolve, TimedOut, Unavailable
from tests.client.stubs import DATASET, JOB, MODEL, Stub, client, ok, problem

FAILURES = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("far away"),
    httpx.RemoteProtocolError("cut off"),
    httpx.ReadError("reset"),
    problem(502),
    problem(503),
    problem(504),
]


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_reading_is_tried_three_times(failure: httpx.Response, pauses: list[float]) -> None:
    stub = Stub(failure, failure, ok(MODEL))

    with client(stub) as backsolve:
        model = backsolve.model("mdl_1")

    assert model.id == "mdl_1"
    assert len(stub.requests) == 3
    assert 0.5 <= pauses[0] <= 0.75
    assert 1.0 <= pauses[1] <= 1.5


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_the_third_failure_is_told(failure: httpx.Response, pauses: list[float]) -> None:
    stub = Stub(failure)

    with client(stub) as backsolve, pytest.raises(Unavailable):
        backsolve.model("mdl_1")

    assert len(stub.requests) == 3
    assert len(pauses) == 2


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_nothing_else_is_ever_sent_twice(failure: httpx.Response, pauses: list[float]) -> None:
    def asked(backsolve: Backsolve) -> None:
        for send in (
            lambda: backsolve.resolve("ds_1", "strength"),
            lambda: backsolve.predict("mdl_1", x=[[1]]),
            lambda: backsolve.invert("mdl_1", {"strength": 1}),
            lambda: backsolve.delete_dataset("ds_1"),
        ):
            with pytest.raises(Unavailable):
                send()

    stub = Stub(failure)

    with client(stub) as backsolve:
        asked(backsolve)

    assert len(stub.requests) == 4
    assert pauses == []


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_a_job_and_a_table_are_sent_again_under_the_key_of_the_first_time(
    failure: httpx.Response, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\n1\n")
    sends: list[Callable[[Backsolve], object]] = [
        lambda backsolve: backsolve.train("ds_1", "strength"),
        lambda backsolve: backsolve.upload(path),
        lambda backsolve: backsolve.upload_table(columns={"a": [1]}),
    ]
    keys = set[str]()

    for send, answer in zip(sends, (JOB, DATASET, DATASET), strict=True):
        stub = Stub(failure, failure, ok(answer))
        with client(stub) as backsolve:
            send(backsolve)

        named = [request.headers["Idempotency-Key"] for request in stub.requests]
        assert len(named) == 3
        assert len(set(named)) == 1
        assert len({request.content for request in stub.requests}) == 1
        assert stub.requests[0].content
        keys |= set(named)

    assert len(keys) == 3


def test_a_job_that_is_not_answered_in_time_is_not_sent_again(pauses: list[float]) -> None:
    stub = Stub(httpx.ReadTimeout("slow"))

    with client(stub) as backsolve, pytest.raises(TimedOut):
        backsolve.train("ds_1", "strength")

    assert len(stub.requests) == 1
    assert pauses == []


@pytest.mark.parametrize("answer", [problem(404), problem(500), problem(422)], ids=str)
def test_an_answer_is_final(answer: httpx.Response, pauses: list[float]) -> None:
    stub = Stub(answer)

    with client(stub) as backsolve, pytest.raises(Exception, match="It is so"):
        backsolve.model("mdl_1")

    assert len(stub.requests) == 1
    assert pauses == []


def test_a_timeout_is_not_tried_again(pauses: list[float]) -> None:
    stub = Stub(httpx.ReadTimeout("slow"))

    with client(stub) as backsolve, pytest.raises(TimedOut):
        backsolve.model("mdl_1")

    assert len(stub.requests) == 1
    assert pauses == []


def test_retry_after_is_waited_for(pauses: list[float]) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=10))
    busy = [
        httpx.Response(503, headers={"Retry-After": "3"}),
        httpx.Response(503, headers={"Retry-After": at}),
    ]

    with client(Stub(*busy, ok(MODEL))) as backsolve:
        backsolve.model("mdl_1")

    assert 3.0 <= pauses[0] <= 4.5
    assert 8.0 <= pauses[1] <= 15.0


@pytest.mark.parametrize("value", ["soon", "", "-3", "Fri, 99 Foo 2026"])
def test_a_retry_after_that_means_nothing_is_ignored(value: str, pauses: list[float]) -> None:
    busy = httpx.Response(503, headers={"Retry-After": value})

    with client(Stub(busy, ok(MODEL))) as backsolve:
        backsolve.model("mdl_1")

    assert 0.5 <= pauses[0] <= 0.75


def test_a_service_that_asks_for_minutes_is_reported_instead(pauses: list[float]) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "600"})

    with client(Stub(busy)) as backsolve, pytest.raises(Unavailable) as caught:
        backsolve.model("mdl_1")

    assert caught.value.retry_after_seconds == 600
    assert pauses == []


def test_readiness_is_asked_once(pauses: list[float]) -> None:
    stub = Stub(problem(503), ok({"status": "ok"}))

    with client(stub) as backsolve:
        answers = [backsolve.is_ready(), backsolve.is_ready()]

    assert answers == [False, True]
    assert pauses == []
