"""What one worker process works with."""

import os
import socket
import threading
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from app.settings import Settings
from app.storage.blobs import Blobs
from app.storage.database import Database, database_of
from app.storage.open_blobs import open_blobs

# EX_TEMPFAIL of sysexits.h: whoever started the worker may start it again.
ABANDONED = 75


def end_process() -> None:
    """At once, whatever its other threads are in the middle of."""
    os._exit(ABANDONED)


class Worker(NamedTuple):
    """`stopping` is set when the process was told to end: its job is then given back, and `busy`
    is free. `abandon` is called when a run cannot be ended before another worker may have its job.
    """

    name: str
    settings: Settings
    database: Database
    blobs: Blobs
    stopping: threading.Event
    busy: threading.Lock
    abandon: Callable[[], None] = end_process


@cache
def this_worker() -> Worker:
    """The worker that this process is, by the settings in its environment."""
    return worker_of(Settings())


def worker_of(settings: Settings) -> Worker:
    return Worker(
        name=f"{socket.gethostname()}:{os.getpid()}",
        settings=settings,
        database=database_of(settings),
        blobs=open_blobs(settings),
        stopping=threading.Event(),
        busy=threading.Lock(),
    )
