"""How jobs are sent; the cluster is a fake that keeps what it is asked for."""

import time
from typing import Any, cast

import pytest
from distributed import Client

from app.dispatcher import Dispatcher
from app.jobs import delivery
from app.jobs.delivery import Cluster, SchedulerState
from app.settings import Settings
from app.storage.database import Database
from tests.builders import Api, plane


class FakeClient:
    def __init__(self) -> None:
        self.submitted: list[dict[str, Any]] = []

    def submit(self, *arguments: Any, **options: Any) -> object:
        self.submitted.append({"arguments": arguments[1:], **options})
        return object()


def test_a_delivery_has_a_key_of_its_own_and_leaves_no_future_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgotten: list[object] = []
    monkeypatch.setattr(delivery, "fire_and_forget", forgotten.append)
    client = FakeClient()
    cluster = Cluster(cast("Client", client))

    kept = [cluster.deliver("job_1", number) for number in (1, 2)]

    assert [sent["key"] for sent in client.submitted] == ["job-job_1-1", "job-job_1-2"]
    assert kept == [None, None]
    assert len(forgotten) == 2
    assert all(sent["pure"] is False for sent in client.submitted)
    # Otherwise what is sent within 100 ms may start in another order.
    assert {sent["fifo_timeout"] for sent in client.submitted} == {"0ms"}


class FakeCluster:
    def __init__(self, slots: int) -> None:
        self.generation = "first"
        self.slots = slots
        self.delivered: list[tuple[str, int]] = []

    def state(self) -> SchedulerState:
        return SchedulerState(self.generation, self.slots)

    def deliver(self, job_id: str, number: int) -> None:
        self.delivered.append((job_id, number))


def test_a_new_scheduler_gets_everything_again_and_an_old_one_nothing_twice(
    api: Api, database: Database, settings: Settings
) -> None:
    dataset_id = api.upload(plane())
    jobs = [(api.queue(dataset_id, ["y"])["id"], 1) for _ in range(2)]
    cluster = FakeCluster(slots=4)
    dispatcher = Dispatcher(database, cast("Cluster", cluster), settings)

    dispatcher.look()
    dispatcher.look()
    sent_to_the_first = list(cluster.delivered)
    cluster.generation = "second"
    dispatcher.look()

    assert sorted(sent_to_the_first) == sorted(jobs)
    assert sorted(cluster.delivered) == sorted(jobs * 2)


def test_no_more_is_sent_than_can_start_at_once(
    api: Api, database: Database, settings: Settings
) -> None:
    dataset_id = api.upload(plane())
    for _ in range(5):
        api.queue(dataset_id, ["y"])
    cluster = FakeCluster(slots=2)

    Dispatcher(database, cast("Cluster", cluster), settings).look()

    assert len(cluster.delivered) == 2


def test_a_cluster_of_our_own_that_has_lost_a_worker_for_good_is_started_anew(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.dispatcher.MISSING_SECONDS", 0.05)
    cluster = FakeCluster(slots=1)
    two = settings.model_copy(update={"workers": 2})
    elsewhere = two.model_copy(update={"scheduler_address": "tcp://scheduler:8786"})
    ours, theirs = (
        Dispatcher(database, cast("Cluster", cluster), given) for given in (two, elsewhere)
    )

    ours.look()
    time.sleep(0.1)
    theirs.look()
    with pytest.raises(OSError, match="only 1 of 2 workers"):
        ours.look()
    cluster.slots = 2
    ours.look()
    cluster.slots = 1
    ours.look()
