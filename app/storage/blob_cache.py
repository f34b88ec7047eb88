"""Copies of blobs on this machine's disk, for all its processes, at most so many bytes of them.

Blobs never change, so a copy is never out of date. Who reads one holds a lock on its file, and the
least recently used of the others are dropped.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from app.storage.whole_files import ASIDE, aside_in, remove_unfinished

# Whoever writes a copy writes all the time.
UNFINISHED_HOURS = 1.0


class BlobCache:
    """The copies in one folder. What is in use, or just being made, may exceed `bytes_max`."""

    def __init__(self, folder: Path, *, bytes_max: int) -> None:
        self.folder = folder
        self.bytes_max = bytes_max

    def path(self, key: str) -> Path:
        return self.folder / key

    @contextmanager
    def held(self, key: str, fetch: Callable[[Path], None]) -> Iterator[Path]:
        """The copy, which nobody drops before the block ends; `fetch` makes one if there is none.

        Processes that miss the same blob at once all fetch it, and the last copy stays.
        """
        file = locked(self.path(key)) or self.fetched(key, fetch)
        with file:
            os.utime(file.fileno())
            yield self.path(key)

    def fetched(self, key: str, fetch: Callable[[Path], None]) -> IO[bytes]:
        """A new copy, opened and locked."""
        with aside_in(self.folder) as file:
            fetch(Path(file.name))
            copy = Path(file.name).open("rb")  # noqa: SIM115 - the caller closes it
            try:
                # Before it has its name, so that nobody drops it in between.
                fcntl.flock(copy, fcntl.LOCK_SH)
                self.keep(key, Path(file.name))
            except BaseException:
                copy.close()
                raise
        return copy

    def keep(self, key: str, file: Path) -> None:
        """Makes the file, which is in the folder already, the copy."""
        file.replace(self.path(key))
        self.trim()

    def trim(self) -> None:
        """Drops copies until the others have room enough."""
        remove_unfinished(self.folder, hours=UNFINISHED_HOURS)
        copies = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if not path.name.startswith(ASIDE):
                    copies.append((path.stat().st_mtime, path.stat().st_size, path))
        excess = sum(size for _, size, _ in copies) - self.bytes_max
        for _, size, path in sorted(copies):
            if excess <= 0:
                return
            if self.drop(path.name):
                excess -= size

    def drop(self, key: str) -> bool:
        """Removes the copy, unless somebody reads it."""
        with suppress(FileNotFoundError), self.path(key).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.path(key).unlink()
        return True


def locked(path: Path) -> IO[bytes] | None:
    """The file, locked against being dropped; None if there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if os.fstat(file.fileno()).st_nlink:
        return file
    file.close()  # dropped between the two
    return None
