"""Blobs: immutable files under one folder, written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path


class Blobs:
    """Files named by keys that the service makes; no caller's text ever becomes a path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[-2:] / key

    @contextmanager
    def create(self, key: str) -> Iterator[BufferedWriter]:
        """A file to write into. It appears under its key, synced to disk, when the block ends."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(aside).replace(path)
            sync_folder(path.parent)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(aside).unlink()
            raise

    def delete(self, key: str) -> None:
        """Removes the blob; one that is already gone is fine."""
        self.path(key).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder survive a power cut, where the platform can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
