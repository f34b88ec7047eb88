"""What the processes of a storm run. Each is forked from a parent that has imported everything."""

import json
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, cast

import uvicorn
from sqlalchemy import select

from app.dispatcher import dispatch_to
from app.jobs import lease
from app.jobs.delivery import Cluster, SchedulerState
from app.jobs.training_run import run_on
from app.jobs.worker import this_worker
from app.main import create_app
from app.settings import Settings
from app.storage.database import UNAVAILABLE, Database, database_of
from app.storage.tables import JobRow
from tests.storm.breakages import BREAKAGES
from tests.storm.client import Client, prelude
from tests.storm.failpoints import Failpoints

MESSAGE_BYTES_MAX = 4096
LOCKED_SECONDS = 0.7


class Plan(NamedTuple):
    """What every process of a storm knows."""

    folder: Path
    settings: Settings
    seed: int
    breakage: str | None


def send(channel: socket.socket, message: Any) -> None:
    channel.send(json.dumps(message).encode())


def receive(channel: socket.socket) -> Any:
    """The next message, or None once the other side is gone."""
    data = channel.recv(MESSAGE_BYTES_MAX)
    return json.loads(data) if data else None


def work(plan: Plan, number: int, channel: socket.socket) -> None:
    """A worker: carries out one delivery after another, until it is told to stop."""
    worker = this_worker()
    Failpoints(plan.folder, plan.seed + number).install()
    if plan.breakage is not None:
        BREAKAGES[plan.breakage]()
    if number % 2:
        # Every other worker goes on whatever its own clock says: only the fence holds it off.
        lease.LEAVES_SHARE = lease.ABANDONS_SHARE = 1e6

    def stop(*_: object) -> None:
        worker.stopping.set()
        channel.shutdown(socket.SHUT_RD)

    signal.signal(signal.SIGTERM, stop)
    while (message := receive(channel)) is not None:
        run_on(worker, *message)
        if worker.stopping.is_set():
            return
        send(channel, message)


class ClusterOfForks:
    """The dispatcher's end of the storm's scheduler."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel

    def state(self) -> SchedulerState:
        send(self.channel, "state")
        found = receive(self.channel)
        if found is None:
            raise ConnectionError("the storm is over")
        return SchedulerState(*found)

    def deliver(self, job_id: str, delivery: int) -> None:
        send(self.channel, [job_id, delivery])


def dispatch(plan: Plan, number: int, channel: socket.socket) -> None:
    del number
    settings = plan.settings
    database = database_of(settings)
    cluster = cast("Cluster", ClusterOfForks(channel))
    dispatch_to(cluster, settings, database, threading.Event())


def serve(plan: Plan, number: int, listener: socket.socket) -> None:
    """The API, on a socket that outlives it: who connects while it is dead waits for the next."""
    Failpoints(plan.folder, plan.seed + number).install()
    config = uvicorn.Config(
        create_app(plan.settings), http="h11", log_config=None, access_log=False, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[listener])


def call(plan: Plan, number: int, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    chance = random.Random(plan.seed + number)
    Client(f"http://127.0.0.1:{port}", plan.folder, f"{os.getpid()}", chance).work()


def call_in_peace(plan: Plan, number: int, listener: socket.socket) -> None:
    """Uploads the table and trains each kind of job once: what the storm is compared with."""
    del number
    port = listener.getsockname()[1]
    listener.close()
    prelude(f"http://127.0.0.1:{port}", plan.folder)


def lock(plan: Plan, number: int, listener: socket.socket) -> None:
    """Holds SQLite's only write lock for a while."""
    del number
    listener.close()
    settings = plan.settings
    database = database_of(settings)
    with database.writing() as session:
        session.connection()
        time.sleep(LOCKED_SECONDS)


def watch(plan: Plan, number: int, listener: socket.socket) -> None:
    """Ends when all jobs have. The parent cannot look itself: looking takes threads."""
    del number
    listener.close()
    database = database_of(plan.settings)
    while not all_have_ended(database):
        time.sleep(0.2)


def all_have_ended(database: Database) -> bool:
    """False, too, while the database recovers from the last fault."""
    try:
        with database.reading() as session:
            return session.scalar(select(JobRow.id).where(JobRow.ended_at.is_(None))) is None
    except UNAVAILABLE:
        return False
