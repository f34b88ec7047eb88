"""An object store that speaks S3, in a process of its own, which can be taken away."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from pyarrow.fs import S3FileSystem

from app.settings import Settings
from tests.servers import free_port

START_SECONDS_MAX = 60
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}


class ObjectStore:
    """Its buckets are in its memory, and gone when it ends."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "--host=127.0.0.1", f"--port={self.port}"],
                stdout=file,
                stderr=file,
                env=os.environ | CREDENTIALS,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.answers():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def url(self, bucket: str, prefix: str = "tables") -> str:
        """The setting that names a place in it."""
        options = f"scheme=http&endpoint_override=127.0.0.1:{self.port}&region=us-east-1"
        return f"s3://{bucket}/{prefix}?{options}"

    def make_bucket(self, name: str) -> None:
        self.filesystem().create_dir(name)

    def filesystem(self) -> S3FileSystem:
        return S3FileSystem(
            access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            scheme="http",
            endpoint_override=f"127.0.0.1:{self.port}",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def settings_on(store: ObjectStore, folder: Path, bucket: str, **values: object) -> Settings:
    """Those of a machine whose own folder is `folder`."""
    store.make_bucket(bucket)
    settings: Settings = Settings.model_validate(
        {"data_dir": folder, "storage_url": store.url(bucket), **values}
    )
    return settings


@contextmanager
def credentials_in_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield
