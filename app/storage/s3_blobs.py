"""Blobs in an object store that speaks S3, read from copies on this machine's disk."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from io import BufferedRandom
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSelector, FileType, S3FileSystem

from app.errors import StorageFull, StorageUnavailable
from app.settings import ObjectStore
from app.storage.blob_cache import BlobCache
from app.storage.blobs import StoredBlob
from app.storage.room import needing_room
from app.storage.whole_files import aside_in

logger = logging.getLogger(__name__)

# A store that says nothing is given up after ten seconds by who reads, half a minute by who writes.
CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 5.0
TRIES = 2
CHUNK_BYTES = 8 << 20


class S3Blobs:
    """Objects below bucket/prefix."""

    def __init__(self, store: ObjectStore, cache: BlobCache) -> None:
        self.store = store
        self.cache = cache

    @cached_property
    def filesystem(self) -> S3FileSystem:
        """Made at the first use: it may ask the network for its region and credentials."""
        options: dict[str, Any] = endpoint_of_environment() | self.store.options
        # A small object is sent in one request instead of three.
        options["allow_delayed_open"] = True
        return S3FileSystem(
            **options,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=SILENCE_SECONDS,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=TRIES),
        )

    def path(self, key: str) -> str:
        return f"{self.store.path}/{key}"

    @contextmanager
    def create(self, key: str) -> Iterator[BufferedRandom]:
        """Written here first; who writes is likely to read, so that it stays as a copy."""
        with aside_in(self.cache.folder) as file:
            yield file
            file.flush()
            self.send(Path(file.name), key)
            self.cache.keep(key, Path(file.name))

    def send(self, path: Path, key: str) -> None:
        """In one write: a stream of pyarrow's that is left half-way publishes what it has.

        Not by `pyarrow.fs.copy_files`, which does not notice a close that fails, and closing is
        what stores the object.
        """
        with (
            reaching_store(),
            pa.memory_map(str(path)) as source,
            self.filesystem.open_output_stream(self.path(key)) as target,
        ):
            target.write(source.read_buffer())

    def local(self, key: str) -> AbstractContextManager[Path]:
        return self.cache.held(key, lambda path: self.fetch(key, path))

    def fetch(self, key: str, path: Path) -> None:
        """Raises StorageUnavailable, too, while there is no room for a copy on this machine."""
        with (
            waiting_for_room(),
            reaching_store(),
            self.filesystem.open_input_file(self.path(key)) as source,
            path.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def delete(self, key: str) -> None:
        with reaching_store(), suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(key))
        self.cache.drop(key)

    def stored(self) -> Iterator[StoredBlob]:
        with reaching_store():
            found = self.filesystem.get_file_info(
                FileSelector(self.store.path, allow_not_found=True)
            )
        for info in found:
            if info.type is FileType.File and info.mtime is not None:
                yield StoredBlob(info.base_name, (time.time() - info.mtime.timestamp()) / 3600)

    def remove_unfinished(self, *, hours: float) -> int:
        """What is half written is on this machine's disk, where `trim` looks.

        The parts of a large upload that was cut are not visible through pyarrow; a rule of the
        bucket's removes them (docs/operations.md).
        """
        del hours
        if self.cache.folder.exists():
            self.cache.trim()
        return 0


def endpoint_of_environment() -> dict[str, str]:
    """The endpoint as other tools are told it, which pyarrow does not read."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        return {}
    parts = urlsplit(url)
    return {"scheme": parts.scheme, "endpoint_override": parts.netloc}


@contextmanager
def waiting_for_room() -> Iterator[None]:
    """Who only reads is not told of a full disk: that is for this machine to mend."""
    try:
        with needing_room():
            yield
    except StorageFull as error:
        logger.warning("no room for a copy on this machine's disk: %s", error.__cause__)
        raise StorageUnavailable from error


@contextmanager
def reaching_store() -> Iterator[None]:
    """Raises StorageUnavailable for what is wrong with the store, and nothing else."""
    try:
        yield
    except OSError as error:
        # Those with a number are of this machine's disk, or tell that there is no such object.
        if error.errno is not None:
            raise
        logger.warning("the object store failed: %s", error)
        raise StorageUnavailable from error
