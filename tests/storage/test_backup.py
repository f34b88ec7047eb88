import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from app.settings import Settings
from app.storage.backup import back_up
from app.storage.blobs import FolderBlobs
from app.storage.database import Database
from tests.builders import Api, plane


@pytest.fixture
def url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "backsolve.db"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


def test_every_table_that_a_copied_row_names_is_copied_with_it(
    api: Api, database: Database, settings: Settings, tmp_path: Path
) -> None:
    for _ in range(20):
        api.upload(plane())
    done = threading.Event()

    def keep_uploading() -> None:
        while not done.is_set():
            api.upload(plane())

    thread = threading.Thread(target=keep_uploading)
    thread.start()
    back_up(database, settings.resolved_storage_folder, tmp_path / "copy")
    done.set()
    thread.join()

    with closing(sqlite3.connect(tmp_path / "copy" / "backsolve.db")) as copy:
        named = {key for (key,) in copy.execute("SELECT blob_key FROM datasets")}
        verdict = copy.execute("PRAGMA integrity_check").fetchone()
    assert verdict == ("ok",)
    assert len(named) >= 20
    assert named <= {blob.key for blob in FolderBlobs(tmp_path / "copy" / "blobs").stored()}


def test_a_backup_is_never_written_over(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    back_up(database, settings.resolved_storage_folder, tmp_path / "copy")

    with pytest.raises(FileExistsError):
        back_up(database, settings.resolved_storage_folder, tmp_path / "copy")
