"""The dispatcher: makes run what the rows say should be running.

It is level-triggered: every look compares rows and deliveries afresh, so that nothing is lost
when a message is. Several dispatchers may look at one PostgreSQL; an SQLite file has one, which
a lock sees to.
"""

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from app.jobs import lifecycle, queries
from app.jobs.delivery import Cluster, local_cluster, remote_cluster
from app.jobs.states import JobState
from app.settings import Settings
from app.storage.database import Database, DatabaseError
from app.storage.wakeups import wakeups

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
# A delivery that its worker could not claim, because the database was away, is sent again.
RESEND_SECONDS = 10.0


class AlreadyRunning(RuntimeError):
    """Another dispatcher works on this data folder."""


class Dispatcher:
    """Sends queued jobs to a cluster, and takes back those whose worker fell silent."""

    def __init__(self, database: Database, cluster: Cluster, settings: Settings) -> None:
        self.database = database
        self.cluster = cluster
        self.settings = settings
        # When each was sent. Same again later is no harm: Dask ignores a key that it still has.
        self.sent: dict[tuple[str, int], float] = {}
        self.generation = ""

    def look(self) -> None:
        """One comparison of rows and deliveries."""
        generation, slots = self.cluster.state()
        if generation != self.generation:
            self.generation = generation
            self.sent.clear()  # a new scheduler knows nothing of what was sent to the old one
        self.take_back_lost()
        with self.database.reading() as session:
            running = queries.count_in_state(session, JobState.RUNNING)
            queued = queries.in_state(session, JobState.QUEUED, limit=2 * slots + len(self.sent))
        now = time.monotonic()
        recent = now - RESEND_SECONDS
        self.sent = {job: self.sent[job] for job in queued if self.sent.get(job, recent) > recent}
        free = slots - running - len(self.sent)
        for job in [job for job in queued if job not in self.sent][: max(0, free)]:
            self.cluster.deliver(*job)
            self.sent[job] = now

    def take_back_lost(self) -> None:
        with self.database.reading() as session:
            lost = queries.any_lease_ended(session, JobState.RUNNING)
        if lost:
            with self.database.writing() as session:
                count = lifecycle.take_back_lost(session, attempts_max=self.settings.attempts_max)
            logger.warning("took back %d jobs from silent workers", count)


def dispatch(settings: Settings, stopping: threading.Event) -> None:
    """Works until `stopping` is set. Raises AlreadyRunning if the data folder has a dispatcher."""
    database = Database(settings.resolved_database_url, busy_seconds=settings.database_busy_seconds)
    embedded = database.engine.dialect.name == "sqlite" and not settings.scheduler_address
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if not embedded:
        keep_dispatching(settings, database, stopping)
        return
    with alone(settings.data_dir / "dispatcher.lock"):
        # Nobody else starts workers on this file, and those of a killed dispatcher die with it.
        with database.writing() as session:
            lifecycle.take_back_lost(session, attempts_max=settings.attempts_max, everything=True)
        keep_dispatching(settings, database, stopping)
        with database.writing() as session:
            lifecycle.give_back_all(session)


def keep_dispatching(settings: Settings, database: Database, stopping: threading.Event) -> None:
    """Starts again after a database or a scheduler was away."""
    while not stopping.is_set():
        try:
            with cluster_of(settings) as cluster:
                dispatch_to(cluster, settings, database, stopping)
        except (OSError, DatabaseError) as error:
            logger.warning("will try again: %r", error)
            stopping.wait(RETRY_SECONDS)


def cluster_of(settings: Settings) -> AbstractContextManager[Cluster]:
    if settings.scheduler_address:
        return remote_cluster(settings.scheduler_address)
    return local_cluster(settings.workers, settings.data_dir.resolve() / "workers")


def dispatch_to(
    cluster: Cluster, settings: Settings, database: Database, stopping: threading.Event
) -> None:
    dispatcher = Dispatcher(database, cluster, settings)
    alive = settings.data_dir / "dispatcher.alive"
    with wakeups(database, stopping) as wait:
        logger.info("dispatching to %d workers", cluster.state().slots)
        while not stopping.is_set():
            dispatcher.look()
            alive.touch()
            wait(settings.dispatch_seconds)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds the lock file; the system lets go of it when the process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"Another dispatcher already works on {path.parent}. Stop it, or set "
                "BACKSOLVE_DATA_DIR to another folder."
            ) from None
        yield
