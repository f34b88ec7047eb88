"""Files that appear whole or not at all: written aside, then renamed."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path

ASIDE = ".writing-"


@contextmanager
def aside_in(folder: Path) -> Iterator[BufferedRandom]:
    """A new file in the folder, gone when the block ends unless it was renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=ASIDE, dir=folder)
    os.close(handle)
    try:
        with Path(name).open("r+b") as file:
            yield file
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


@contextmanager
def written_whole(path: Path) -> Iterator[BufferedRandom]:
    """A file to write into. It appears at `path`, synced to disk, when the block ends."""
    with aside_in(path.parent) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).replace(path)
        sync_folder(path.parent)


def remove_unfinished(folder: Path, *, hours: float) -> int:
    """Removes what killed processes left half written, and says how much that was."""
    removed = 0
    for path in folder.rglob(f"{ASIDE}*"):
        # It may have been renamed, or removed by another process, since it was listed.
        with suppress(FileNotFoundError):
            if age_hours(path) > hours:
                path.unlink()
                removed += 1
    return removed


def age_hours(path: Path) -> float:
    """How long ago the file was last written to, or marked as used."""
    return (time.time() - path.stat().st_mtime) / 3600


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder survive a power cut, where the platform can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
