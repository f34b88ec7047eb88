"""What one worker process works with."""

import os
import socket
import threading
from functools import cache
from typing import NamedTuple

from app.settings import Settings
from app.storage.blobs import Blobs
from app.storage.database import Database


class Worker(NamedTuple):
    """`stopping` is set when the process was told to end: its job is then given back."""

    name: str
    settings: Settings
    database: Database
    blobs: Blobs
    stopping: threading.Event


@cache
def this_worker() -> Worker:
    """The worker that this process is, by the settings in its environment."""
    return worker_of(Settings())


def worker_of(settings: Settings) -> Worker:
    return Worker(
        name=f"{socket.gethostname()}:{os.getpid()}",
        settings=settings,
        database=Database(
            settings.resolved_database_url, busy_seconds=settings.database_busy_seconds
        ),
        blobs=Blobs(settings.resolved_storage_folder),
        stopping=threading.Event(),
    )
