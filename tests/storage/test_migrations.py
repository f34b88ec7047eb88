import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.jobs import history, queries
from app.storage import migrations
from app.storage.arrays import pack
from app.storage.database import Database, clock
from app.storage.readiness import unready_reason
from app.storage.tables import Base, HistoryBlockRow, JobRow
from tests.servers import ROOT
from tests.storage.test_database import dataset_row


def test_the_schema_goes_up_down_and_up_again(empty_url: str) -> None:
    database = Database(empty_url, busy_seconds=10)

    migrations.upgrade(database)
    with database.writing() as session:
        session.add(dataset_row())
    migrations.downgrade(database, "base")
    left = set(sa.inspect(database.engine).get_table_names())
    migrations.upgrade(database)

    assert left <= {"alembic_version"}
    assert set(Base.metadata.tables) <= set(sa.inspect(database.engine).get_table_names())
    database.dispose()


def test_every_revision_can_be_left_and_entered_with_rows_in_the_tables(empty_url: str) -> None:
    database = Database(empty_url, busy_seconds=10)
    revisions = [script.revision for script in scripts().walk_revisions()][::-1]

    for earlier, revision in zip(["base", *revisions], revisions, strict=False):
        migrations.upgrade(database, revision)
        with database.writing() as session:
            session.merge(dataset_row())
        migrations.downgrade(database, earlier)
        migrations.upgrade(database, revision)

    migrations.check(database)
    database.dispose()


def test_the_tables_on_the_page_are_those_of_the_migrations(url: str) -> None:
    database = Database(url, busy_seconds=10)

    migrations.check(database)  # raises if alembic finds a difference

    database.dispose()


def test_remaking_a_table_keeps_the_rows_that_hang_on_it(url: str) -> None:
    """As a later migration does on SQLite, which cannot change a table in place."""
    database = Database(url, busy_seconds=10)
    with database.writing() as session:
        values = job_values(clock(session))
        del values["cancel_wanted"]
        session.add(JobRow(**values))
        session.flush()
        session.add(HistoryBlockRow(job_id="job_1", first_epoch=0, last_epoch=0, records=b"kept"))

    with migrations.migrating(database) as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("jobs", recreate="auto") as batch:
            batch.alter_column("name", type_=sa.String(300), existing_type=sa.String(200))

    with database.reading() as session:
        assert session.scalars(sa.select(HistoryBlockRow.records)).all() == [b"kept"]
    database.dispose()


def test_a_job_of_before_is_told_apart_by_what_it_did_and_survives_the_way_back(
    empty_url: str,
) -> None:
    database = Database(empty_url, busy_seconds=10)
    migrations.upgrade(database, "0001")
    with database.writing() as session:
        jobs = sa.Table("jobs", sa.MetaData(), autoload_with=session.connection())
        spec = {"targets": ["y"]}
        values = job_values(clock(session)) | {"resolved_spec": spec}
        session.execute(sa.insert(jobs).values(values))

    migrations.upgrade(database)
    with database.reading() as session:
        job = session.scalars(sa.select(JobRow)).one()
    with database.writing() as session:
        later = job.resolved_spec | {"multiply_adds": 7}
        session.execute(sa.update(JobRow).values(resolved_spec=later))
    migrations.downgrade(database, "0001")
    with database.reading() as session:
        left = session.execute(sa.select(jobs.c.resolved_spec)).scalar_one()

    assert job.resolved_spec == spec | {"task": "regression", "in_memory": True}
    assert (job.warnings, job.environment, job.multiply_adds) == ([], None, 0)
    assert left == spec
    database.dispose()


def test_a_block_of_history_of_before_says_where_it_ends_and_is_read_as_it_was(
    empty_url: str,
) -> None:
    database = Database(empty_url, busy_seconds=10)
    migrations.upgrade(database, "0003")
    records = np.arange(28.0).reshape(7, 4)
    records[:, 0] = np.arange(7)
    with database.writing() as session:
        tables = sa.MetaData()
        tables.reflect(session.connection(), only=["jobs", "history_blocks"])
        values = job_values(clock(session))
        del values["cancel_wanted"]
        session.execute(sa.insert(tables.tables["jobs"]).values(values))
        for part in (records[:3], records[3:]):
            block = {"job_id": "job_1", "first_epoch": int(part[0, 0]), "records": pack(part)}
            session.execute(sa.insert(tables.tables["history_blocks"]).values(block))

    migrations.upgrade(database)
    with database.reading() as session:
        spans = queries.history_spans(session, "job_1")
        found, length = history.read(session, "job_1", points_max=10)
    migrations.downgrade(database, "0003")
    with database.reading() as session:
        left = session.scalars(sa.text("SELECT records FROM history_blocks ORDER BY first_epoch"))
        packed = [bytes(block) for block in left]

    assert sorted(spans) == [(0, 2), (3, 6)]
    assert (found.tolist(), length) == (records.tolist(), 7)
    assert packed == [pack(records[:3]), pack(records[3:])]
    database.dispose()


def job_values(now: datetime) -> dict[str, object]:
    values: dict[str, object] = dict.fromkeys(("id", "owner", "name", "state"), "job_1")
    return values | {
        "spec": {},
        "resolved_spec": {},
        "cancel_wanted": False,
        "delivery": 1,
        "attempt": 0,
        "deaths": 0,
        "created_at": now,
    }


def test_several_processes_may_migrate_at_once(empty_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "BACKSOLVE_DATABASE_URL": empty_url,
        "BACKSOLVE_DATA_DIR": str(tmp_path),
    }

    processes = [
        subprocess.Popen([sys.executable, "-m", "app", "migrate"], cwd=ROOT, env=environment)
        for _ in range(4)
    ]

    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    database = Database(empty_url, busy_seconds=10)
    migrations.check(database)
    database.dispose()


def test_a_revision_can_be_gone_back_to_with_the_command_that_operators_are_told(
    url: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "downgrade", "base"],
        cwd=ROOT,
        env=os.environ | {"BACKSOLVE_DATABASE_URL": url, "BACKSOLVE_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    database = Database(url, busy_seconds=10)
    left = set(sa.inspect(database.engine).get_table_names())
    database.dispose()
    assert done.returncode == 0, done.stderr
    assert left == {"alembic_version"}


def scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(migrations.ALEMBIC_INI).parent / "alembic"))


def test_a_database_is_ready_once_it_is_migrated(empty_url: str) -> None:
    database = Database(empty_url, busy_seconds=10)

    found = []
    for revision in ("0001", "0005", "head"):
        migrations.upgrade(database, revision)
        found.append(unready_reason(database))
    with database.writing() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = 'of a later version'"))
    during_an_upgrade = unready_reason(database)
    database.dispose()

    assert ["migrate" in (reason or "") for reason in found] == [True, True, False]
    assert found[-1] is during_an_upgrade is None
