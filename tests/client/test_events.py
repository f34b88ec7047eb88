"""Whoever follows a job is told every state and epoch once, however the connection fares."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from app.client import (
    Backsolve,
    Event,
    HistoryEvent,
    Invalid,
    JobFault,
    NotFound,
    ProgressEvent,
    ServerError,
    StateEvent,
    TimedOut,
    Unavailable,
    UnexpectedAnswer,
)
from app.jobs.worker import Worker
from tests.builders import Api, plane
from tests.client.stubs import JOB, MOMENT, Stub, client, ok, problem
from tests.jobs.running import EPOCHS, SPEC, Running, has_begun, table

CUT_OFF = httpx.RemoteProtocolError("cut off")
GONE = httpx.ConnectError("refused")


def state(place: str, name: str, **data: Any) -> str:
    ended = name in ("succeeded", "failed", "cancelled")
    told = {"state": name, "terminal": ended, "at": MOMENT, "reason": "", "attempt": 1, **data}
    return f"id: {place}\nevent: state\ndata: {json.dumps(told)}\n\n"


def epoch(number: int) -> str:
    told = {"epoch": [number], "cost": [1.0], "validation_cost": [None], "step_norm": [0.1]}
    return f"id: {number}.2\nevent: history\ndata: {json.dumps(told)}\n\n"


def progress(number: int) -> str:
    told = {"epoch": number, "epochs": 9, "fraction": 0.5, "cost": 1.0, "eta_seconds": 3.5}
    return f"event: progress\ndata: {json.dumps(told)}\n\n"


QUEUED, RUNNING, ENDED = (
    state("-1.1", "queued"),
    state("-1.2", "running"),
    state("1.3", "succeeded"),
)


class Chunks(httpx.SyncByteStream):
    """A body that comes in pieces, and may break."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def streamed(*parts: str | bytes | Exception) -> httpx.Response:
    chunks = [part.encode() if isinstance(part, str) else part for part in parts]
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    return httpx.Response(200, stream=Chunks(*chunks), headers=headers)


def events_of(stub: Stub, *, after: str | None = None) -> list[Event]:
    stub.answers.insert(0, ok(JOB))
    with client(stub) as backsolve:
        return list(backsolve.job("job_1").events(after=after))


def kinds(events: list[Event]) -> list[Any]:
    """States by name, histories by epoch."""
    return [
        event.state if isinstance(event, StateEvent) else event.epoch.tolist()
        for event in events
        if not isinstance(event, ProgressEvent)
    ]


def test_events_come_with_their_types_and_end_with_the_job() -> None:
    fault = {"code": "diverged", "detail": "Lower it."}
    failed = state("1.3", "failed", stop_reason="diverged", error=fault)

    events = events_of(Stub(streamed("retry: 1000\n\n", QUEUED, progress(1), epoch(1), failed)))

    queued, moving, history, ended = events
    assert isinstance(queued, StateEvent)
    assert (queued.id, queued.state, queued.error) == ("-1.1", "queued", None)
    assert isinstance(moving, ProgressEvent)
    assert (moving.progress.eta_seconds, moving.progress.rows_per_second) == (3.5, None)
    assert isinstance(history, HistoryEvent)
    assert (history.id, history.epoch.tolist(), history.cost.tolist()) == ("1.2", [1], [1.0])
    assert np.isnan(history.validation_cost).all()
    assert isinstance(ended, StateEvent)
    assert (ended.terminal, ended.error) == (True, JobFault("diverged", "Lower it."))


@pytest.mark.parametrize(
    "failure",
    [CUT_OFF, httpx.ReadTimeout("silent"), httpx.ReadError("reset"), "", "id: 1.2\nevent: hist"],
    ids=str,
)
def test_a_stream_that_breaks_goes_on_behind_the_last_event(
    failure: str | Exception, pauses: list[float]
) -> None:
    broken = streamed(QUEUED, RUNNING, epoch(0), progress(1), failure)
    stub = Stub(broken, GONE, problem(503), streamed(epoch(1), ENDED))

    events = events_of(stub)

    assert kinds(events) == ["queued", "running", [0], [1], "succeeded"]
    places = [request.headers.get("Last-Event-ID") for request in stub.requests[1:]]
    assert places == [None, "0.2", "0.2", "0.2"]
    assert len(pauses) == 3


def test_one_begins_where_one_was() -> None:
    stub = Stub(streamed(epoch(8), ENDED))

    events_of(stub, after="7.2")

    assert stub.requests[1].headers["Last-Event-ID"] == "7.2"
    assert stub.requests[1].headers["Accept"] == "text/event-stream"


def test_behind_the_end_there_is_nothing() -> None:
    stub = Stub(httpx.Response(204))

    assert events_of(stub, after="1.3") == []
    assert len(stub.requests) == 2


@pytest.mark.parametrize(
    "failure",
    [lambda: GONE, lambda: problem(503), lambda: streamed(progress(1)), lambda: streamed(CUT_OFF)],
)
def test_a_service_that_stays_away_is_told_after_some_attempts(
    failure: Callable[[], Any], pauses: list[float]
) -> None:
    stub = Stub(streamed(QUEUED, CUT_OFF), *[failure() for _ in range(20)])

    with pytest.raises(Unavailable):
        events_of(stub)

    assert len(stub.requests) == 1 + 1 + 5
    assert len(pauses) == 5
    assert sum(pauses) < 25


def test_a_stream_that_breaks_at_every_event_is_followed_to_its_end(pauses: list[float]) -> None:
    broken = [streamed(epoch(number), CUT_OFF) for number in range(30)]

    events = events_of(Stub(*broken, streamed(ENDED)))

    assert kinds(events) == [[number] for number in range(30)] + ["succeeded"]
    assert max(pauses) <= 0.75


def test_a_quiet_stream_that_is_closed_now_and_then_is_followed_for_ever(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(0, 10_000, 60))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    quiet = [streamed(": still here\n\n") for _ in range(30)]

    events = events_of(Stub(*quiet, streamed(ENDED)))

    assert kinds(events) == ["succeeded"]
    assert len(pauses) == 30


@pytest.mark.usefixtures("pauses")
def test_a_service_that_is_silent_for_ever_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 10_000, 60))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))

    with pytest.raises(TimedOut):
        events_of(Stub(*[streamed(httpx.ReadTimeout("silent")) for _ in range(20)]))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(404), NotFound),
        (problem(422), Invalid),
        (problem(500), ServerError),
        (httpx.Response(200, text="<html>welcome</html>"), UnexpectedAnswer),
        (streamed("event: state\ndata: {\n\n"), UnexpectedAnswer),
        (streamed('id: 1.1\nevent: state\ndata: {"state": "queued"}\n\n'), UnexpectedAnswer),
        (streamed("id: 1.1\nevent: history\ndata: []\n\n"), UnexpectedAnswer),
        (streamed(b"id: 1.1\nevent: state\ndata: \xff\n\n"), UnexpectedAnswer),
    ],
)
def test_another_answer_is_an_error_at_once(
    answer: httpx.Response, kind: type[Exception], pauses: list[float]
) -> None:
    with pytest.raises(kind):
        events_of(Stub(answer))

    assert pauses == []


def test_events_of_a_kind_that_the_client_does_not_know_are_left() -> None:
    strange = "id: -1.2\nevent: weather\ndata: rain\n\n"

    assert kinds(events_of(Stub(streamed(QUEUED, strange, ENDED)))) == ["queued", "succeeded"]


def test_texts_survive_however_the_stream_is_cut_into_pieces() -> None:
    reason = "a\u2028b\x85c\u00e9\U0001f642"
    text = json.dumps({"state": "succeeded", "terminal": True, "at": MOMENT, "reason": reason})
    data = json.loads(text) | {"attempt": 1}
    body = (
        f"id: 1.3\r\nevent: state\r\ndata: {json.dumps(data, ensure_ascii=False)}\r\n\r\n".encode()
    )

    [event] = events_of(Stub(streamed(*[bytes([byte]) for byte in body])))

    assert isinstance(event, StateEvent)
    assert event.reason == reason


def test_a_real_job_is_followed_while_it_is_paused_and_goes_on(
    api: Api, backsolve: Backsolve, worker: Worker
) -> None:
    job = backsolve.train(api.upload(table()), "y", **SPEC)
    running = Running(api, worker, job.id, 1)
    running.until(has_begun)

    job.pause()
    running.ended()
    between = job.refresh().state
    job.resume()
    resumed = Running(api, worker, job.id, 2)
    events = list(job.events())

    resumed.ended()
    assert between == "paused"
    states = [event.state for event in events if isinstance(event, StateEvent)]
    assert states == ["queued", "running", "paused", "queued", "running", "succeeded"]
    epochs = np.concatenate([event.epoch for event in events if isinstance(event, HistoryEvent)])
    assert epochs.tolist() == list(range(EPOCHS + 1))
    assert list(job.events(after=ids_of(events)[-1])) == []
    assert kinds(list(job.events(after=ids_of(events)[1])))[0] == "paused"


def test_a_real_job_that_is_stopped_has_a_model(
    api: Api, backsolve: Backsolve, worker: Worker
) -> None:
    job = backsolve.train(api.upload(table()), "y", **SPEC)
    running = Running(api, worker, job.id, 1)
    running.until(has_begun)

    job.stop()
    model = job.wait(30).model()

    running.ended()
    assert (job.stop_reason, model.id) == ("user", job.model_id)
    assert job.progress is not None
    assert job.progress.rows_per_second is not None
    assert job.progress.rows_per_second > 0


def test_following_may_be_left_in_the_middle(api: Api, backsolve: Backsolve) -> None:
    job = backsolve.train(api.upload(plane()), "y")
    events = job.events()

    first = next(events)
    events.close()

    assert isinstance(first, StateEvent)
    assert job.cancel().state == "cancelled"
    assert kinds(list(job.events(after=first.id))) == ["cancelled"]


def ids_of(events: list[Event]) -> list[str]:
    return [event.id for event in events if not isinstance(event, ProgressEvent)]
