"""Machines that share a database, an object store and certificates, and not one folder."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.jobs.credentials import Credentials, files_in, make_credentials
from tests.builders import plane
from tests.conftest import migrated_url
from tests.journeys.caller import Caller
from tests.journeys.machines import Machines
from tests.object_store import CREDENTIALS, ObjectStore


@pytest.fixture(scope="module")
def machines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    make_credentials(folder / "tls")
    with (
        ObjectStore(folder / "objects.log") as store,
        Machines(
            folder,
            BACKSOLVE_DATABASE_URL=migrated_url(request, "postgresql", folder),
            BACKSOLVE_STORAGE_URL=store.url("bucket"),
            BACKSOLVE_TLS_DIR=str(folder / "tls"),
            BACKSOLVE_HEARTBEAT_SECONDS="0.2",
            BACKSOLVE_LEASE_SECONDS="5",
            **CREDENTIALS,
        ) as machines,
    ):
        store.make_bucket("bucket")
        machines.start_all()
        yield machines


@pytest.fixture
def caller(machines: Machines) -> Iterator[Caller]:
    with Caller(machines.url) as caller:
        yield caller


def test_a_table_is_uploaded_trained_on_and_predicted_from(
    machines: Machines, caller: Caller
) -> None:
    table = plane(200)

    dataset_id = caller.upload(table)
    job = caller.wait(caller.queue(dataset_id, ["y"]))
    predicted = caller.predict(job["model_id"], np.column_stack([table["a"], table["c"]]))

    assert job["state"] == "succeeded", machines.logs()
    assert predicted[:, 0] == pytest.approx(table["y"])
    copies = {
        path.parent.parent.name for path in machines.folder.glob(f"*/blob-cache/{dataset_id}")
    }
    assert "api" in copies
    assert len(copies & {"worker0", "worker1"}) == 1


LONG_SPEC = {
    "solver": {"name": "gradient_descent", "epochs": 10**6, "tolerance": 0.0, "batch_size": 9},
    "early_stopping": None,
    "limits": {"max_seconds": 2.0},
}


def test_workers_stop_in_good_order_and_their_jobs_go_on_elsewhere(
    machines: Machines, caller: Caller
) -> None:
    dataset_id = caller.upload(plane(2000))
    job_id = caller.queue(dataset_id, ["y"], **LONG_SPEC)
    caller.wait(job_id, "running")
    name = next(
        name
        for name in ("worker0", "worker1")
        if machines.processes[name].pid == worker_pid(caller.job(job_id))
    )

    code = machines.stop(name)
    ended = caller.wait(job_id)
    machines.start(name, "worker")

    assert code == 0, machines.logs()
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
    assert ended["transitions"][2]["reason"] == "worker_stopped"


def test_of_two_dispatchers_one_may_be_killed_and_every_job_is_done_once(
    machines: Machines, caller: Caller
) -> None:
    machines.start("dispatcher1", "dispatch")
    machines.until(lambda: "dispatching to" in machines.log("dispatcher1").read_text())
    dataset_id = caller.upload(plane())

    jobs = [caller.queue(dataset_id, ["y"]) for _ in range(60)]
    machines.kill("dispatcher")
    ended = [caller.wait(job_id) for job_id in jobs]
    machines.start("dispatcher", "dispatch")

    told = {tuple(move["reason"] for move in job["transitions"]) for job in ended}
    assert told == {("created", "claimed", "finished")}
    assert {job["attempt"] for job in ended} == {1}


@pytest.mark.slow
def test_a_new_scheduler_gets_everything_again(machines: Machines, caller: Caller) -> None:
    dataset_id = caller.upload(plane(2000))
    jobs = [caller.queue(dataset_id, ["y"], **LONG_SPEC) for _ in range(4)]
    caller.wait(jobs[0], "running")

    # Workers leave a dead scheduler after half a minute; a supervisor starts them again.
    for name in ("scheduler", "worker0", "worker1"):
        machines.kill(name)
    machines.start_scheduler()
    for name in ("worker0", "worker1"):
        machines.start(name, "worker")
    ended = [caller.wait(job_id) for job_id in jobs]

    assert {job["state"] for job in ended} == {"succeeded"}


def worker_pid(job: dict[str, object]) -> int:
    transitions = job["transitions"]
    assert isinstance(transitions, list)
    return int(transitions[-1]["worker"].rpartition(":")[2])


ASK = """
import sys
from distributed import Client, Security

address, *files = sys.argv[1:]
names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
security = Security(require_encryption=True, **dict(zip(names, files))) if files else None
with Client(address, timeout=5, security=security) as client:
    print(client.submit(sum, [1, 2]).result())
"""


def ask(machines: Machines, scheme: str, credentials: Credentials | None) -> bool:
    """Whether a client with these can run something there."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ASK,
            f"{scheme}://127.0.0.1:{machines.scheduler_port}",
            *map(str, credentials or ()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout == "3\n"


def test_only_who_has_the_certificate_runs_anything(machines: Machines, tmp_path: Path) -> None:
    make_credentials(tmp_path)
    ours, another = files_in(machines.folder / "tls"), files_in(tmp_path)

    assert ask(machines, "tls", ours)
    assert not ask(machines, "tcp", None)
    assert not ask(machines, "tls", another._replace(ca=ours.ca))


def test_a_connection_without_a_certificate_is_closed_at_once(machines: Machines) -> None:
    context = ssl.create_default_context(cafile=str(machines.folder / "tls" / "ca.pem"))
    context.check_hostname = False
    address = ("127.0.0.1", machines.scheduler_port)

    with (
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain) as connection,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        connection.recv(1)
