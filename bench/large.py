"""A table larger than the memory that training may take: its peak, and its speed beside the disk.

Writes a stored table of 4 GB (5,000,000 rows, 99 inputs), trains least squares on it in a process
of its own under a 500 MB setting, and compares a pass of training with reading the file. Both are
repeated in turn with the page cache dropped before, as it is with a table that does not fit in it,
and the medians count. One BLAS thread.

A virtual machine may have lent the dropped pages to its host, and takes seconds to have them back:
whichever of the two met that would look half as fast. So they are taken back before each.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow as pa
from threadpoolctl import threadpool_limits

from app.datasets import columns, stored_table
from app.datasets.columns import NumericColumn
from app.jobs.prepared_data import PreparedData, prepare
from app.jobs.resolution import resolve
from app.jobs.training_run import plan_of
from app.jobs.training_spec import TrainingSpec
from app.numeric.closed_form import least_squares
from app.numeric.objective import Objective
from app.numeric.training import train
from app.settings import Settings
from app.storage import migrations
from app.storage.blobs import FolderBlobs
from app.storage.database import Database, clock
from app.storage.tables import DatasetRow

KEY, DATASET, OWNER = "large", "ds_large", "bench"
INPUTS, CHUNK_ROWS, READ_BYTES = 99, 100_000, 8 << 20
MEMORY_BYTES = 500_000_000
REPEATS, GOAL = 7, 0.7
NAMES = [f"x{k}" for k in range(INPUTS)] + ["y"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the 4 GB go")
    parser.add_argument("--train", type=Path, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train is not None:
        with threadpool_limits(1):
            measure(asked.train)
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        make(Path(folder), asked.rows)
        subprocess.run([sys.executable, "-m", "bench.large", "--train", folder], check=True)


def settings_of(folder: Path) -> Settings:
    return Settings(
        data_dir=folder, training_bytes_max=MEMORY_BYTES, rows_max=10**9, cells_max=10**12
    )


def make(folder: Path, rows: int) -> None:
    """The file, batch by batch, and its row in a database."""
    settings = settings_of(folder)
    schema = pa.schema([(name, pa.float64()) for name in NAMES])
    random, slope = np.random.default_rng(0), np.linspace(-1.0, 1.0, INPUTS)
    with (
        FolderBlobs(settings.resolved_storage_folder).create(KEY) as file,
        pa.ipc.new_file(file, schema) as writer,
    ):
        for _ in range(0, rows, CHUNK_ROWS):
            x = random.normal(size=(INPUTS, CHUNK_ROWS))
            y = slope @ x + random.normal(size=CHUNK_ROWS)
            table = pa.Table.from_arrays([pa.array(column) for column in (*x, y)], schema=schema)
            writer.write_table(table, max_chunksize=stored_table.batch_rows(schema))
    database = Database(settings.resolved_database_url, busy_seconds=5)
    migrations.upgrade(database)
    described = [NumericColumn(name, 0, -40.0, 40.0, 0.0, 1.0, rows) for name in NAMES]
    with database.writing() as session:
        session.add(
            DatasetRow(
                id=DATASET,
                owner=OWNER,
                name=KEY,
                columns=columns.to_json(described),
                warnings=[],
                row_count=rows,
                byte_count=0,
                content_sha256="",
                blob_key=KEY,
                created_at=clock(session),
            )
        )


def measure(folder: Path) -> None:
    settings = settings_of(folder)
    database = Database(settings.resolved_database_url, busy_seconds=5)
    blobs = FolderBlobs(settings.resolved_storage_folder)
    path = blobs.path(KEY)
    size = path.stat().st_size
    with database.reading() as session:
        row = session.get(DatasetRow, DATASET)
        if row is None:
            raise RuntimeError("the table was not written")
        described, total = columns.from_json(row.columns), row.row_count
    asked = TrainingSpec(dataset_id=DATASET, targets=["y"])
    spec = resolve(asked, described, total, settings)
    print(f"{size / 1e9:.2f} GB, {total:,} rows, in memory: {spec.in_memory}, {spec.solver.name}")

    started = time.perf_counter()
    data = prepare(database, blobs, OWNER, spec)
    prepared = time.perf_counter() - started
    last = list(train(data.training_data, plan_of(spec)))[-1]
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"trained in {seconds:.1f} s, {prepared:.1f} s of it preparing; cost {last.cost:.9g}")
    print(f"peak memory of the process {peak / 1e6:.0f} MB, setting {MEMORY_BYTES / 1e6:.0f} MB")
    for name, race in races(data, path).items():
        seconds = statistics.median(race.seconds)
        read = statistics.median(race.read_seconds)
        print(
            f"{name:32s} {size / seconds / 1e9:5.2f} GB/s, plain read {size / read / 1e9:5.2f}"
            f" GB/s, ratio {read / seconds:.2f} ({GOAL} wanted)"
        )


class Race(NamedTuple):
    seconds: list[float]
    read_seconds: list[float]


def races(data: PreparedData, path: Path) -> dict[str, Race]:
    """Each kind of pass with a plain read before it; the disk changes its speed between runs."""
    found: dict[str, Race] = {}
    for _ in range(REPEATS):
        for name, (work, passes) in works(data).items():
            race = found.setdefault(name, Race([], []))
            leave_cache(path)
            own_memory(path)
            race.read_seconds.append(timed(lambda: plain_read(path)))
            leave_cache(path)
            own_memory(path)
            race.seconds.append(timed(work) / passes)
    return found


def works(data: PreparedData) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, and how many passes over the file it makes."""
    rows = data.training
    objective = Objective("identity", "half_squared_error", rows)
    parameters = objective.start() + 0.1
    return {
        "read and encode": (lambda: sum(block.x.shape[1] for block in rows.blocks()), 1),
        "cost and slope": (lambda: objective.value_and_slope(parameters), 1),
        "least squares, each of two passes": (lambda: least_squares(rows, l2=0.0), 2),
    }


def plain_read(path: Path) -> None:
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def leave_cache(path: Path) -> None:
    """Drops the file from the page cache."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def own_memory(path: Path) -> None:
    """Writes to as many bytes as the file's pages will take, and frees them."""
    wanted, free = path.stat().st_size * 3 // 2, psutil.virtual_memory().available
    np.ones(min(wanted, free // 2), np.uint8)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
