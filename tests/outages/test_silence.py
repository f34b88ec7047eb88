"""What becomes of connections, and of what they hold, when one side falls silent."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from app.settings import Settings
from app.storage import wakeups
from app.storage.database import UNAVAILABLE, Database, DatabaseError, database_of
from app.storage.migrations import migrating
from app.storage.patience import IDLE_SHARE
from app.storage.sole import AlreadyHeld, sole_holder
from tests.outages.conftest import CALL_SECONDS
from tests.toxic import Mode, Proxy

# What a busy machine may add to a bound.
LEEWAY_SECONDS = 1.0
BACKEND = sa.text("SELECT pg_backend_pid()")


@pytest.fixture
def behind(through: Settings, between: Proxy) -> Iterator[Database]:
    """The database, reached through the proxy."""
    database = database_of(through)
    yield database
    between.set(Mode.PASS)
    database.dispose()


@pytest.fixture
def table(direct_url: str) -> Iterator[psycopg.Connection]:
    """A connection past the proxy, in a database that has a table `numbers` with one row."""
    with psycopg.connect(direct_url.replace("+psycopg", ""), autocommit=True) as direct:
        direct.execute("CREATE TABLE numbers AS SELECT 1 AS number")
        yield direct


def test_a_connection_that_is_never_made_is_given_up_in_time(
    behind: Database, between: Proxy
) -> None:
    between.set(Mode.BLACK_HOLE)
    asked_at = time.monotonic()

    with pytest.raises(UNAVAILABLE), behind.reading() as session:
        session.execute(BACKEND)

    assert time.monotonic() - asked_at < CALL_SECONDS + LEEWAY_SECONDS


def test_a_large_value_may_take_longer_than_a_call_that_nothing_comes_of(
    behind: Database, between: Proxy
) -> None:
    with behind.reading() as session:
        session.execute(BACKEND)
        between.slow_seconds = 0.02
        between.set(Mode.SLOW)
        asked_at = time.monotonic()
        value = session.scalar(sa.text("SELECT repeat('x', 4000000)"))

    assert len(value) == 4_000_000
    assert time.monotonic() - asked_at > CALL_SECONDS


def test_a_wait_for_a_lock_ends_and_says_nothing_about_the_database(
    behind: Database, table: psycopg.Connection
) -> None:
    with table.transaction(), behind.reading() as session:
        table.execute("LOCK TABLE numbers")
        backend = session.scalar(BACKEND)
        with pytest.raises(UNAVAILABLE):
            session.execute(sa.text("SELECT * FROM numbers"))
        session.rollback()
        with behind.reading() as another:  # on a connection of its own, that nobody refuses
            another.execute(BACKEND)

        assert session.scalar(BACKEND) == backend


def test_what_a_vanished_client_had_locked_is_free_again(
    behind: Database, between: Proxy, table: psycopg.Connection
) -> None:
    with pytest.raises(UNAVAILABLE), behind.writing() as session:
        session.execute(sa.text("SELECT * FROM numbers FOR UPDATE"))
        between.set(Mode.BLACK_HOLE)
        session.execute(sa.text("UPDATE numbers SET number = 2"))

    table.execute("SET lock_timeout = '10s'")
    row = table.execute("SELECT * FROM numbers FOR UPDATE").fetchone()

    assert row == (1,)


def test_a_transaction_that_slept_too_long_is_lost_and_says_nothing_of_the_next(
    behind: Database, table: psycopg.Connection
) -> None:
    """As when the machine was suspended in the middle of it."""
    del table
    with pytest.raises(UNAVAILABLE), behind.writing() as session:
        session.execute(sa.text("UPDATE numbers SET number = 2"))
        time.sleep(IDLE_SHARE * CALL_SECONDS + 0.5)
        session.execute(sa.text("UPDATE numbers SET number = 3"))
    with behind.reading() as session:
        found = session.scalar(sa.text("SELECT number FROM numbers"))

    assert found == 1


def test_a_database_that_takes_no_writes_just_now_is_unavailable(
    behind: Database, table: psycopg.Connection
) -> None:
    """A standby, or one that is short of room."""
    name = table.info.dbname
    table.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')

    with pytest.raises(UNAVAILABLE), behind.writing() as session:
        session.execute(sa.text("UPDATE numbers SET number = 2"))


def test_a_migration_waits_for_a_lock_however_long_and_only_its_connection_does(
    behind: Database, table: psycopg.Connection
) -> None:
    release = threading.Timer(3 * CALL_SECONDS, lambda: table.execute("COMMIT"))
    table.execute("BEGIN")
    table.execute("LOCK TABLE numbers")
    release.start()

    with migrating(behind) as connection:
        found = connection.scalar(sa.text("SELECT number FROM numbers"))
    release.join()
    with behind.reading() as session:
        limit = session.scalar(sa.text("SHOW lock_timeout"))

    assert (found, limit) == (1, "400ms")


def test_a_listener_that_hears_nothing_asks_whether_anybody_is_there(
    behind: Database, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "SILENCE_SECONDS", 0.1)

    with pytest.raises(DatabaseError), wakeups.wakeups(behind, threading.Event()) as wait:
        between.set(Mode.BLACK_HOLE)
        wait(20)
        pytest.fail("nobody was there, and it was not noticed")


def test_a_lock_whose_connection_broke_is_taken_again(
    behind: Database, table: psycopg.Connection, tmp_path: Path
) -> None:
    with sole_holder(behind, tmp_path / "lock") as make_sure:
        table.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        make_sure()
        with pytest.raises(AlreadyHeld), sole_holder(behind, tmp_path / "lock"):
            pytest.fail("two hold it")


def test_a_lock_that_another_has_taken_meanwhile_is_lost(
    behind: Database, table: psycopg.Connection, tmp_path: Path
) -> None:
    with pytest.raises(AlreadyHeld), sole_holder(behind, tmp_path / "lock") as make_sure:
        table.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        with sole_holder(behind, tmp_path / "lock"):
            make_sure()


def test_a_lock_that_a_lost_connection_of_ours_still_holds_is_taken_from_it(
    behind: Database, between: Proxy, tmp_path: Path
) -> None:
    """The server has not noticed that the connection is lost."""
    with sole_holder(behind, tmp_path / "lock") as make_sure:
        between.set(Mode.LOST)

        with pytest.raises(DatabaseError):
            make_sure()
        until_sure(make_sure)

        with pytest.raises(AlreadyHeld), sole_holder(behind, tmp_path / "lock"):
            pytest.fail("two hold it")


def until_sure(make_sure: Callable[[], None]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            return make_sure()
        except DatabaseError:
            time.sleep(0.02)
    pytest.fail("the lock was not to be had")
