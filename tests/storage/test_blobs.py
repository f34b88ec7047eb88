"""What every store of blobs promises, kept by a folder and by an object store."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.errors import StorageUnavailable
from app.settings import Settings
from app.storage import s3_blobs
from app.storage.blobs import Blobs
from app.storage.open_blobs import open_blobs
from tests.object_store import CREDENTIALS, ObjectStore, settings_on
from tests.servers import ROOT

PART = b"0123456789abcdef" * 65536
LARGE = 20  # parts of 1 MiB: more than pyarrow sends in one request


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Those of a machine, of which others may share the store."""
    if request.param == "folder":
        return Settings(data_dir=tmp_path / "here", storage_url=str(tmp_path / "shared"))
    store: ObjectStore = request.getfixturevalue("object_store")
    return settings_on(store, tmp_path / "here", request.getfixturevalue("bucket"))


@pytest.fixture
def blobs(settings: Settings) -> Blobs:
    return open_blobs(settings)


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Blobs:
    """The same store as another machine sees it."""
    return open_blobs(settings.model_copy(update={"data_dir": tmp_path / "elsewhere"}))


def write(blobs: Blobs, key: str, *parts: bytes) -> None:
    with blobs.create(key) as file:
        for part in parts:
            file.write(part)


def read(blobs: Blobs, key: str) -> bytes:
    with blobs.local(key) as path:
        return path.read_bytes()


def keys(blobs: Blobs) -> set[str]:
    return {blob.key for blob in blobs.stored()}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("parts", [0, 1, LARGE])
def test_a_blob_is_read_on_another_machine_as_it_was_written(
    blobs: Blobs, elsewhere: Blobs, parts: int
) -> None:
    write(blobs, "ds_ab", *[PART] * parts)

    assert read(elsewhere, "ds_ab") == read(blobs, "ds_ab") == PART * parts
    assert keys(elsewhere) == {"ds_ab"}


def test_a_blob_appears_whole_or_not_at_all(blobs: Blobs, elsewhere: Blobs, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), blobs.create("ds_ab") as file:
        file.write(PART * LARGE)
        _ = 1 / 0
    after_failure = keys(elsewhere), files(tmp_path)
    with blobs.create("ds_ab") as file:
        file.write(b"whole")
        file.flush()
        while_writing = keys(elsewhere)

    assert after_failure == (set(), [])
    assert while_writing == set()
    assert read(elsewhere, "ds_ab") == b"whole"


def test_a_blob_that_is_not_there_is_told_from_a_store_that_is_away(blobs: Blobs) -> None:
    with pytest.raises(FileNotFoundError):
        read(blobs, "ds_ab")


def test_deleting_a_blob_twice_is_fine(blobs: Blobs, elsewhere: Blobs) -> None:
    write(blobs, "ds_ab", b"x")

    blobs.delete("ds_ab")
    blobs.delete("ds_ab")

    assert keys(blobs) == set()
    with pytest.raises(FileNotFoundError):
        read(elsewhere, "ds_ab")


def test_what_was_opened_stays_readable_when_the_blob_is_deleted(blobs: Blobs) -> None:
    write(blobs, "ds_ab", PART)

    with blobs.local("ds_ab") as path, path.open("rb") as file:
        blobs.delete("ds_ab")
        read_after_deletion = file.read()

    assert read_after_deletion == PART


def test_the_age_of_a_blob_is_told(blobs: Blobs) -> None:
    write(blobs, "ds_ab", b"x")

    assert [-0.1 < blob.age_hours < 0.1 for blob in blobs.stored()] == [True]


WRITE_FOR_EVER = """
import sys
from app.settings import Settings
from app.storage.open_blobs import open_blobs

with open_blobs(Settings()).create("ds_ab") as file:
    while True:
        file.write(b"x" * 1_000_000)
        file.flush()
        print("written", flush=True)
"""


def test_what_a_killed_process_leaves_is_no_blob_and_is_swept(
    blobs: Blobs, settings: Settings, tmp_path: Path
) -> None:
    environment = {
        "BACKSOLVE_DATA_DIR": str(settings.data_dir),
        "BACKSOLVE_STORAGE_URL": settings.storage_url,
    }
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER],
        cwd=ROOT,
        env=os.environ | CREDENTIALS | environment,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    left = files(tmp_path)
    blobs.remove_unfinished(hours=24.0)
    while_young = files(tmp_path)
    for path in left:
        os.utime(path, (time.time() - 25 * 3600,) * 2)

    blobs.remove_unfinished(hours=24.0)

    assert keys(blobs) == set()
    assert len(left) == 1
    assert while_young == left
    assert files(tmp_path) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_blobs, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(s3_blobs, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(s3_blobs, "TRIES", 1)


@pytest.mark.usefixtures("impatient")
def test_a_store_that_says_nothing_is_unavailable_and_not_waited_for(
    object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    here, there = (
        open_blobs(settings_on(object_store, tmp_path / name, bucket)) for name in ("here", "there")
    )
    write(here, "ds_ab", PART)

    with object_store.frozen():
        copy = read(here, "ds_ab")
        with pytest.raises(StorageUnavailable):
            read(there, "ds_ab")
        with pytest.raises(StorageUnavailable):
            keys(there)
    afterwards = read(there, "ds_ab")

    assert copy == afterwards == PART


def test_a_copy_for_which_there_is_no_room_is_waited_for(
    object_store: ObjectStore, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose disk is full is no concern of a job's: another machine may have room."""
    here, there = (
        open_blobs(settings_on(object_store, tmp_path / name, bucket)) for name in ("here", "there")
    )
    write(here, "ds_ab", PART)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(StorageUnavailable):
            read(there, "ds_ab")

    assert read(there, "ds_ab") == PART


@pytest.mark.usefixtures("impatient")
def test_a_bucket_that_is_not_there_is_unavailable(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, storage_url=object_store.url("no-such-bucket"))

    with pytest.raises(StorageUnavailable):
        write(open_blobs(settings), "ds_ab", PART)


def test_the_endpoint_may_come_from_the_environment_of_other_tools(
    object_store: ObjectStore, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_store.make_bucket(bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{object_store.port}")
    settings = Settings(data_dir=tmp_path, storage_url=f"s3://{bucket}?region=us-east-1")
    write(open_blobs(settings), "ds_ab", b"x")

    assert keys(open_blobs(settings)) == {"ds_ab"}


USE_AND_EXIT = """
from app.settings import Settings
from app.storage.open_blobs import open_blobs

blobs = open_blobs(Settings())
with blobs.create("ds_ab") as file:
    file.write(b"x" * 20_000_000)
with blobs.local("ds_ab"):
    print(len(list(blobs.stored())))
"""


def test_a_process_that_used_an_object_store_ends_in_good_order(
    object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    settings = settings_on(object_store, tmp_path, bucket)
    environment = {
        "BACKSOLVE_DATA_DIR": str(tmp_path),
        "BACKSOLVE_STORAGE_URL": settings.storage_url,
    }

    done = subprocess.run(
        [sys.executable, "-c", USE_AND_EXIT],
        cwd=ROOT,
        env=os.environ | CREDENTIALS | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
