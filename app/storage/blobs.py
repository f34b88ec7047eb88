"""Blobs: immutable, written whole or not at all, under keys that the service makes.

No caller's text ever becomes a path. They are in a folder that all machines share, or in an object
store (`s3_blobs.py`); both are read as files of this machine.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import NamedTuple, Protocol

from app.storage.whole_files import ASIDE, age_hours, remove_unfinished, written_whole


class StoredBlob(NamedTuple):
    key: str
    age_hours: float


class Blobs(Protocol):
    """Any of these raises StorageUnavailable while an object store is away."""

    def create(self, key: str) -> AbstractContextManager[BufferedRandom]:
        """A file to write into. It is stored under its key when the block ends."""

    def local(self, key: str) -> AbstractContextManager[Path]:
        """The blob as a file of this machine, which stays as long as the block lasts.

        What was opened or mapped from it stays readable after that. Raises FileNotFoundError.
        """

    def delete(self, key: str) -> None:
        """Removes the blob; one that is already gone is fine."""

    def stored(self) -> Iterator[StoredBlob]:
        """Everything that is stored."""

    def remove_unfinished(self, *, hours: float) -> int:
        """Removes what killed processes left half written, once it is that old."""


class FolderBlobs:
    """Blobs as files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[-2:] / key

    def create(self, key: str) -> AbstractContextManager[BufferedRandom]:
        return written_whole(self.path(key))

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        yield self.path(key)

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def stored(self) -> Iterator[StoredBlob]:
        for path in self.folder.glob("*/*"):
            if not path.name.startswith(ASIDE):
                with suppress(FileNotFoundError):
                    yield StoredBlob(path.name, age_hours(path))

    def remove_unfinished(self, *, hours: float) -> int:
        return remove_unfinished(self.folder, hours=hours)
