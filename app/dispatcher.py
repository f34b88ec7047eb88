"""The dispatcher: makes run what the rows say should be running.

It is level-triggered: every look compares rows and deliveries afresh, so that nothing is lost
when a message is. Workers of its own belong to one dispatcher per database, which a lock sees to;
any number of dispatchers may share a scheduler that runs elsewhere.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.jobs import lifecycle, queries
from app.jobs.delivery import Cluster, local_cluster, remote_cluster
from app.jobs.states import JobState
from app.settings import Settings
from app.storage.database import Database, DatabaseError
from app.storage.sole import sole_holder
from app.storage.wakeups import Wait, wakeups

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
# Nothing is sent that could not start at once, so a delivery that nobody claims has gone astray.
UNCLAIMED_SECONDS = 10.0


class Dispatcher:
    """Sends queued jobs to a cluster, and takes back those whose worker fell silent."""

    def __init__(self, database: Database, cluster: Cluster, settings: Settings) -> None:
        self.database = database
        self.cluster = cluster
        self.settings = settings
        self.sent: dict[tuple[str, int], float] = {}
        self.generation = ""

    def look(self) -> None:
        """One comparison of rows and deliveries."""
        generation, slots = self.cluster.state()
        if generation != self.generation:
            self.generation = generation
            self.sent.clear()  # a new scheduler knows nothing of what was sent to the old one
        self.take_back_lost()
        self.send_anew_unclaimed()
        with self.database.reading() as session:
            running = queries.count_in_state(session, JobState.RUNNING)
            queued = queries.deliveries_in_state(
                session, JobState.QUEUED, limit=2 * slots + len(self.sent)
            )
        self.sent = {job: self.sent[job] for job in queued if job in self.sent}
        free = slots - running - len(self.sent)
        for job in [job for job in queued if job not in self.sent][: max(0, free)]:
            self.cluster.deliver(*job)
            self.sent[job] = time.monotonic()

    def take_back_lost(self) -> None:
        with self.database.reading() as session:
            lost = queries.any_lease_ended(session, JobState.RUNNING)
        if lost:
            with self.database.writing() as session:
                count = lifecycle.take_back_lost(session, attempts_max=self.settings.attempts_max)
            logger.warning("took back %d jobs from silent workers", count)

    def send_anew_unclaimed(self) -> None:
        before = time.monotonic() - UNCLAIMED_SECONDS
        unclaimed = [job for job, sent_at in self.sent.items() if sent_at < before]
        if unclaimed:
            with self.database.writing() as session:
                for job_id, delivery in unclaimed:
                    lifecycle.send_anew(session, job_id, delivery)


def dispatch(settings: Settings, stopping: threading.Event) -> None:
    """Works until `stopping` is set, and starts again when a database or a scheduler was away.

    Raises AlreadyHeld if another dispatcher has workers of its own on this database.
    """
    database = Database(settings.resolved_database_url, busy_seconds=settings.database_busy_seconds)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    while not stopping.is_set():
        try:
            with cluster_of(settings, database) as cluster:
                dispatch_to(cluster, settings, database, stopping)
        except (OSError, DatabaseError) as error:
            logger.warning("will try again: %r", error)
            stopping.wait(RETRY_SECONDS)


@contextmanager
def cluster_of(settings: Settings, database: Database) -> Iterator[Cluster]:
    if settings.scheduler_address:
        with remote_cluster(settings.scheduler_address) as cluster:
            yield cluster
        return
    with sole_holder(database, settings.data_dir / "dispatcher.lock"):
        # Nobody else has workers on this database, and those of a dispatcher that was killed
        # ended with it: what runs by the rows runs no more.
        with database.writing() as session:
            lifecycle.take_back_lost(session, attempts_max=settings.attempts_max, everything=True)
        try:
            with local_cluster(
                settings.workers, settings.data_dir.resolve() / "workers"
            ) as cluster:
                yield cluster
        finally:
            with database.writing() as session:
                lifecycle.give_back_all(session)


def dispatch_to(
    cluster: Cluster, settings: Settings, database: Database, stopping: threading.Event
) -> None:
    """Looks until `stopping` is set. A database that is away is no reason to stop the workers."""
    dispatcher = Dispatcher(database, cluster, settings)
    alive = settings.data_dir / "dispatcher.alive"
    logger.info("dispatching to %d workers", cluster.state().slots)
    while not stopping.is_set():
        try:
            with wakeups(database, stopping) as wait:
                keep_looking(dispatcher, wait, alive, stopping)
        except DatabaseError as error:
            logger.warning("the database is away: %s", type(error).__name__)
            stopping.wait(RETRY_SECONDS)


def keep_looking(
    dispatcher: Dispatcher, wait: Wait, alive: Path, stopping: threading.Event
) -> None:
    while not stopping.is_set():
        dispatcher.look()
        alive.touch()
        wait(dispatcher.settings.dispatch_seconds)
