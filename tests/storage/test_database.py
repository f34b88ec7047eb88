import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.storage import database as database_module
from app.storage.database import Database, log_is_safe
from app.storage.tables import DatasetRow, HistoryBlockRow
from app.storage.wakeups import announce, wakeups


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 4), True),
    ],
)
def test_the_log_is_used_only_on_versions_that_carry_the_fix(
    version: tuple[int, ...], safe: bool
) -> None:
    assert log_is_safe(version) is safe


@pytest.mark.parametrize(("version", "journal"), [((3, 40, 1), "delete"), ((3, 53, 4), "wal")])
def test_a_version_without_the_fix_falls_back_to_the_rollback_journal(
    version: tuple[int, ...], journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = database_module.sqlite_driver()
    monkeypatch.setattr(driver, "sqlite_version_info", version)
    monkeypatch.setattr(database_module, "sqlite_driver", lambda: driver)

    database = Database(f"sqlite:///{tmp_path / 'a.db'}", busy_seconds=1)

    assert pragma(database, "journal_mode") == journal
    database.dispose()


def test_sqlite_syncs_every_commit_and_holds_foreign_keys(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", busy_seconds=7)

    settings = {name: pragma(database, name) for name in ("synchronous", "foreign_keys")}

    assert settings == {"synchronous": 2, "foreign_keys": 1}
    assert pragma(database, "busy_timeout") == 7000
    database.dispose()


def pragma(database: Database, name: str) -> object:
    with database.engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def test_a_row_that_points_at_no_job_is_refused(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError), database.writing() as session:
        session.add(HistoryBlockRow(job_id="job_none", first_epoch=0, last_epoch=0, records=b""))


def test_a_block_that_raises_writes_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.writing() as session:
        session.execute(sa.text("DELETE FROM datasets"))
        session.add(dataset_row())
        session.flush()
        _ = 1 / 0

    with database.reading() as session:
        assert session.scalars(sa.select(DatasetRow)).all() == []


def test_two_writers_wait_for_each_other(database: Database) -> None:
    """Each reads and then writes what it read plus one; no update may be lost."""
    with database.writing() as session:
        session.add(dataset_row())

    def add_fifty() -> None:
        for _ in range(50):
            with database.writing() as session:
                row = session.scalar(sa.select(DatasetRow).with_for_update())
                assert row is not None
                row.row_count += 1

    threads = [threading.Thread(target=add_fifty) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.reading() as session:
        assert session.scalar(sa.select(DatasetRow.row_count)) == 200


def test_a_writer_that_waited_in_vain_does_not_keep_the_next_one_waiting(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database(f"sqlite:///{path}", busy_seconds=0.1)
    another_process = database_module.sqlite_driver().connect(str(path), isolation_level=None)
    another_process.execute("CREATE TABLE numbers (number)")
    another_process.execute("BEGIN IMMEDIATE")

    with pytest.raises(database_module.UNAVAILABLE):
        write_number(database)
    another_process.execute("COMMIT")
    write_number(database)

    assert another_process.execute("SELECT count(*) FROM numbers").fetchone() == (1,)
    another_process.close()
    database.dispose()


def test_a_process_that_writes_all_the_time_leaves_the_lock_to_another(tmp_path: Path) -> None:
    """Each database stands for a process: the turns of its threads are its own."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    greedy, modest = (Database(url, busy_seconds=10) for _ in range(2))
    with greedy.writing() as session:
        session.execute(sa.text("CREATE TABLE numbers (number)"))
    over = threading.Event()
    written = 0

    def write_all_the_time() -> None:
        nonlocal written
        while not over.is_set():
            with greedy.writing() as session:
                session.execute(sa.text("INSERT INTO numbers VALUES (1)"))
                time.sleep(0.008)
            written += 1

    threads = [threading.Thread(target=write_all_the_time) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        write_number(modest)
        time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join()

    # About six while the other pauses and waits once; at SQLite's own pace more than a hundred.
    assert written < 20 * 30
    greedy.dispose()
    modest.dispose()


def write_number(database: Database) -> None:
    with database.writing() as session:
        session.execute(sa.text("INSERT INTO numbers VALUES (1)"))


def test_a_waiter_wakes_when_another_connection_announces_a_change(database: Database) -> None:
    stopping = threading.Event()
    seen = threading.Event()
    waiting = threading.Event()

    def wait_once() -> None:
        with wakeups(database, stopping) as wait:
            waiting.set()
            wait(60)
            seen.set()

    thread = threading.Thread(target=wait_once)
    thread.start()
    waiting.wait(10)
    with database.writing() as session:
        session.add(dataset_row())
        announce(session)

    assert seen.wait(10)
    thread.join()


def test_a_waiter_returns_when_it_is_told_to_stop(database: Database) -> None:
    stopping = threading.Event()
    stopping.set()

    with wakeups(database, stopping) as wait:
        wait(60)  # would run into the suite's patience


def dataset_row() -> DatasetRow:
    return DatasetRow(
        id="ds_1",
        owner="default",
        name="table",
        columns=[],
        warnings=[],
        row_count=0,
        byte_count=0,
        content_sha256="",
        blob_key="ds_1",
        created_at=sa.func.now(),
    )
