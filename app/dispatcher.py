"""The dispatcher: makes run what the rows say should be running.

It is level-triggered: every look compares rows and deliveries afresh, so that nothing is lost
when a message is. Workers of its own belong to one dispatcher per database, which a lock sees to;
any number of dispatchers may share a scheduler that runs elsewhere.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from app.jobs import lifecycle, queries
from app.jobs.credentials import credentials_of
from app.jobs.delivery import Cluster, local_cluster, remote_cluster
from app.jobs.states import JobState
from app.settings import Settings
from app.storage.database import Database, DatabaseError, clock, database_of
from app.storage.open_blobs import open_blobs
from app.storage.sole import AlreadyHeld, sole_holder
from app.storage.sweeping import sweeping
from app.storage.wakeups import Wait, wakeups

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
# Whole looks are at least so far apart: jobs of milliseconds wake a dispatcher hundreds of times.
LOOK_SECONDS = 0.25
# Nothing is sent that could not start at once, so a delivery that nobody claims has gone astray.
UNCLAIMED_SECONDS = 10.0
# A worker of our own that died is there again in seconds; one that is not will not come by itself.
MISSING_SECONDS = 60.0
# Of the lease: a dispatcher that did not look for so long knows nothing about the time between.
GAP_SHARE = 0.25


class Dispatcher:
    """Sends queued jobs to a cluster, and takes back those whose worker fell silent."""

    def __init__(self, database: Database, cluster: Cluster, settings: Settings) -> None:
        self.database = database
        self.cluster = cluster
        self.settings = settings
        self.sent: dict[tuple[str, int], float] = {}
        self.generation = ""
        self.slots = 0
        self.complete_at = time.monotonic()
        # By the database's clock, which goes on while a machine sleeps.
        self.looked_at: datetime | None = None
        self.sees_since: datetime | None = None

    def look(self) -> None:
        """One comparison of rows and deliveries, and of what has become of both."""
        generation, self.slots = self.cluster.state()
        self.require_workers()
        if generation != self.generation:
            self.generation = generation
            self.sent.clear()  # a new scheduler knows nothing of what was sent to the old one
        self.take_back_lost()
        self.send_anew_unclaimed()
        self.send()

    def send(self) -> None:
        """Delivers what can start at once, by the last look at the workers."""
        for job in self.next_jobs():
            self.cluster.deliver(*job)
            self.sent[job] = time.monotonic()

    def require_workers(self) -> None:
        """Raises ConnectionError if a worker of our own is gone for good: what started it anew
        whenever it died has given up, for example because it could not write a file."""
        if self.settings.scheduler_address or self.slots >= self.settings.workers:
            self.complete_at = time.monotonic()
        elif time.monotonic() - self.complete_at > MISSING_SECONDS:
            raise ConnectionError(f"only {self.slots} of {self.settings.workers} workers are there")

    def next_jobs(self) -> Sequence[tuple[str, int]]:
        """The jobs, with their delivery, that are to be sent: no more than can start at once."""
        with self.database.reading() as session:
            # In this order, a job that is claimed in between is counted twice, not left out.
            unclaimed = queries.queued_deliveries(session, [job_id for job_id, _ in self.sent])
            self.sent = {job: at for job, at in self.sent.items() if job in unclaimed}
            running = queries.count_in_state(session, JobState.RUNNING)
            free = self.slots - running - len(self.sent)
            if free <= 0:
                return []
            return queries.next_deliveries(
                session,
                sent=[job_id for job_id, _ in self.sent],
                owner_running_max=self.settings.owner_running_max,
                limit=free,
            )

    def take_back_lost(self) -> None:
        """A lease that could not be renewed says nothing about its worker, nor about its job."""
        with self.database.reading() as session:
            self.take_note(clock(session))
            lost = queries.any_lease_ended(session, JobState.RUNNING)
        if not lost:
            return
        with self.database.writing() as session:
            count = lifecycle.take_back_lost(
                session,
                attempts_max=self.settings.attempts_max,
                renewable_since=self.sees_since,
            )
        if count:
            logger.warning("took back %d jobs from silent workers", count)

    def take_note(self, now: datetime) -> None:
        """Where this process could not look, or did not, workers may have been no better off."""
        gap_seconds = max(
            GAP_SHARE * self.settings.lease_seconds, 3 * self.settings.dispatch_seconds
        )
        if self.looked_at is None or not 0 <= (now - self.looked_at).total_seconds() <= gap_seconds:
            self.sees_since = now
        self.looked_at = now

    def lose_sight(self) -> None:
        self.looked_at = None

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
    database = database_of(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    blobs = open_blobs(settings)
    with sweeping(database, blobs, settings):
        while not stopping.is_set():
            try:
                with cluster_of(settings, database) as (cluster, make_sure):
                    dispatch_to(cluster, settings, database, stopping, make_sure)
            except (OSError, DatabaseError) as error:
                logger.warning("will try again: %r", error)
                stopping.wait(RETRY_SECONDS)


@contextmanager
def cluster_of(
    settings: Settings, database: Database
) -> Iterator[tuple[Cluster, Callable[[], None]]]:
    """The cluster, and what makes sure that it may be used: that raises AlreadyHeld if not."""
    if settings.scheduler_address:
        address = settings.resolved_scheduler_address
        with remote_cluster(address, credentials_of(settings)) as cluster:
            yield cluster, lambda: None
        return
    with sole_holder(database, settings.data_dir / "dispatcher.lock") as make_sure:
        # Nobody else has workers on this database, and those of a dispatcher that was killed
        # ended with it: what runs by the rows runs no more.
        with database.writing() as session:
            lifecycle.take_back_lost(session, attempts_max=settings.attempts_max, everything=True)
        ours = True
        try:
            with local_cluster(
                settings.workers, settings.data_dir.resolve() / "workers"
            ) as cluster:
                yield cluster, make_sure
        except AlreadyHeld:
            ours = False
            raise
        finally:
            if ours:
                with database.writing() as session:
                    lifecycle.give_back_all(session)


def dispatch_to(
    cluster: Cluster,
    settings: Settings,
    database: Database,
    stopping: threading.Event,
    make_sure: Callable[[], None] = lambda: None,
) -> None:
    """Looks until `stopping` is set. A database that is away is no reason to stop the workers."""
    dispatcher = Dispatcher(database, cluster, settings)
    alive = settings.data_dir / "dispatcher.alive"
    logger.info("dispatching to %d workers", cluster.state().slots)
    while not stopping.is_set():
        try:
            with wakeups(database, stopping) as wait:
                keep_looking(dispatcher, wait, alive, stopping, make_sure)
        except DatabaseError as error:
            logger.warning("the database is away: %s", type(error).__name__)
            dispatcher.lose_sight()
            stopping.wait(RETRY_SECONDS)


def keep_looking(
    dispatcher: Dispatcher,
    wait: Wait,
    alive: Path,
    stopping: threading.Event,
    make_sure: Callable[[], None],
) -> None:
    """A whole look now and then; when rows change in between, only what can start is sent."""
    next_look_at = 0.0
    while not stopping.is_set():
        if time.monotonic() >= next_look_at:
            make_sure()
            dispatcher.look()
            alive.touch()
            next_look_at = time.monotonic() + LOOK_SECONDS
        else:
            dispatcher.send()
        wait(dispatcher.settings.dispatch_seconds)
