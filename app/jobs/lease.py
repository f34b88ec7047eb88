"""A running job's lease on the worker's side: renewed in time, or left in time.

The database's clock decides when a lease has ended. The worker only knows when it last asked for a
renewal that was granted: by a clock of its own, counted from before it asked, the lease lasts at
least as long after that. A worker that cannot renew it leaves the job before another may have it:
the run is ended first, and then, if it does not end, the process.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.jobs.lifecycle import Replaced
from app.jobs.worker import Worker
from app.storage.database import UNAVAILABLE

logger = logging.getLogger(__name__)

# Of the heartbeat: how often a thread looks after the job, and from when on it beats itself.
LOOKS_SHARE = 0.4
BEATS_SHARE = 1.2
# A thread may hang in a call to a database that is away: the run does not wait for it.
JOIN_SECONDS = 0.5
# Of the lease: when a run that could not renew it is to end, and when its process does.
LEAVES_SHARE = 0.8
ABANDONS_SHARE = 0.95


class Lease:
    """`beat` renews, `hear` asks what is wanted; both may raise Replaced."""

    def __init__(
        self,
        worker: Worker,
        *,
        claimed_at: float,
        beat: Callable[[], None],
        hear: Callable[[], None],
    ) -> None:
        self.worker = worker
        self.renewed_at = self.written_at = claimed_at
        self.beat, self.hear = beat, hear
        self.replaced = False
        # The last try failed: the run need not try too, and computes on.
        self.is_failing = False

    @property
    def is_lost(self) -> bool:
        """Whether the run has to end, because another may soon have the job or has it."""
        return self.replaced or self.seconds_to(LEAVES_SHARE) <= 0.0

    def seconds_to(self, share: float) -> float:
        """Until so much of the lease is over."""
        ends_at = self.renewed_at + share * self.worker.settings.lease_seconds
        return ends_at - time.monotonic()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Threads look after the lease while the block runs, in an epoch that takes long too."""
        done = threading.Event()
        threads = [
            threading.Thread(target=target, args=(done,), daemon=True)
            for target in (self.keep, self.watch)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join(JOIN_SECONDS)

    def keep(self, done: threading.Event) -> None:
        """Hears what is wanted, and beats where the run itself has not for a while."""
        heartbeat = self.worker.settings.heartbeat_seconds
        while not done.wait(LOOKS_SHARE * heartbeat):
            late = time.monotonic() - self.written_at >= BEATS_SHARE * heartbeat
            try:
                (self.beat if late else self.hear)()
                self.is_failing = False
            except Replaced:
                self.replaced = True
                return
            except UNAVAILABLE as error:
                self.is_failing = True
                logger.warning("lease not renewed: %s", type(error).__name__)

    def watch(self, done: threading.Event) -> None:
        """Ends the process if the run does not end although its lease is about to."""
        while not done.wait(max(0.0, self.seconds_to(ABANDONS_SHARE))):
            if self.seconds_to(ABANDONS_SHARE) <= 0.0:
                logger.error("the lease ends and the run does not: the worker does")
                self.worker.abandon()
                return
