"""Rows that are read from their file in every pass train what rows in memory train."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from app.datasets import stored_table
from app.jobs import part_scores
from app.jobs.training_run import run_on
from app.jobs.worker import Worker
from app.numeric import rows as numeric_rows
from app.settings import Settings
from tests.builders import Api, Json, plane
from tests.jobs.flowers import flowers
from tests.servers import ROOT, serving


@pytest.fixture
def streaming(settings: Settings, worker: Worker) -> Iterator[Api]:
    """Another API on the same rows and files, whose jobs may hold next to nothing in memory."""
    tight = settings.model_copy(update={"training_bytes_max": 1})
    with serving(tight) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield Api(client, lambda job_id, delivery: run_on(worker, job_id, delivery))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many batches in the file, and several blocks in a batch."""
    monkeypatch.setattr(stored_table, "BATCH_BYTES", 1)
    monkeypatch.setattr(stored_table, "BATCH_ROWS_MIN", 41)
    monkeypatch.setattr(numeric_rows, "BLOCK_BYTES", 1)


CASES: dict[str, tuple[list[str], Json]] = {
    "numbers": (["sepal_width"], {"inputs": ["petal_length", "island", "weight"]}),
    "two targets": (["petal_width", "weight"], {"preprocessing": {"target_scaling": "standard"}}),
    "labels": (["species"], {"regularization": {"l2": 0.01}}),
    "balanced labels": (
        ["species"],
        {
            "class_weight": "balanced",
            "sample_weight": "weight",
            "regularization": {"l2": 0.01},
        },
    ),
    "two labels": (
        ["species"],
        {"regularization": {"l2": 0.01}, "activation": "sigmoid", "cost": "cross_entropy"},
    ),
    "by groups": (["sepal_width"], {"validation": {"method": "group", "column": "island"}}),
    "nothing held out": (["sepal_width"], {"validation": {"fraction": 0.0}}),
}


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("case", CASES)
def test_streamed_rows_train_the_same_layer_as_rows_in_memory(
    api: Api, streaming: Api, case: str
) -> None:
    targets, options = CASES[case]
    data = flowers(2 if case == "two labels" else 3, gaps=0.0)
    gap = np.where(np.arange(len(data.species)) % 9 == 1, "", data.table["petal_length"])
    weight = np.random.default_rng(8).uniform(0.5, 2, len(data.species))
    dataset_id = api.upload({**data.table, "petal_length": gap, "weight": weight})
    options = {"solver": {"tolerance": 0.0}, "early_stopping": None, **options}
    options["preprocessing"] = {"missing": "mean", **options.get("preprocessing", {})}

    held, read = (server.train(dataset_id, targets, **options) for server in (api, streaming))

    assert (held["state"], read["state"]) == ("succeeded", "succeeded"), (held, read)
    assert (held["spec"]["in_memory"], read["spec"]["in_memory"]) == (True, False)
    near = 1e-10 if targets != ["species"] else 1e-8  # half the digits of its cost
    assert_near(parameters(api, read), parameters(api, held), near)
    assert_near(read["scores"], held["scores"], near)


def parameters(api: Api, job: Json) -> Json:
    return api.get(f"/v1/models/{job['model_id']}/parameters", space="scaled")


def assert_near(found: Any, expected: Any, near: float) -> None:
    """Equal, numbers to `near`, all the way down."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_near(found[name], value, near)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other, near)
    else:
        numeric = isinstance(expected, float) and expected != 0.0
        assert found == (pytest.approx(expected, rel=near, abs=near) if numeric else expected)


@pytest.mark.usefixtures("small_pieces")
def test_streamed_rows_are_scored_by_a_sample_that_says_how_large_it_is(
    streaming: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_scores, "PREDICTIONS_MAX", 100)
    table = plane(1000, noise=1.0)
    held_out = np.arange(1000) % 5 == 0
    validation = {"method": "column", "column": "late"}

    job = streaming.train(
        streaming.upload(table | {"late": held_out.astype(int)}), ["y"], validation=validation
    )

    x, y = np.column_stack([table["a"], table["c"]]), table["y"]
    sample = np.flatnonzero(~held_out)[::8]
    peer = Ridge(alpha=0.0).fit(x[~held_out], y[~held_out])
    scores = job["scores"]["training"]
    assert (scores["rows"], job["scores"]["validation"]["rows"]) == (len(sample), 100)
    assert scores["mse"] == pytest.approx(np.mean((peer.predict(x[sample]) - y[sample]) ** 2))
    everything = np.mean((peer.predict(x[~held_out]) - y[~held_out]) ** 2)
    assert scores["cost"] == pytest.approx(everything / 2)


MEMORY = """
import sys, tracemalloc, types
from pathlib import Path
import numpy as np, pyarrow as pa
from app.datasets import columns, stored_table
from app.jobs import prepared_data
from app.jobs.prepared_data import Source
from app.jobs.training_run import plan_of
from app.jobs.part_scores import part_scores
from app.jobs.training_spec import ResolvedSpec
from app.numeric.training import train
from app.storage.blobs import FolderBlobs

blobs, rows, inputs = FolderBlobs(Path(sys.argv[1])), 100_000, 60
random = np.random.default_rng(0)
table = {f"x{index}": random.normal(size=rows) for index in range(inputs)}
table["y"] = table["x1"] - 2 * table["x7"] + random.normal(size=rows)
described = columns.to_json(columns.describe(pa.table(table), levels_max=10))
stored_table.write(blobs, "ds_1", pa.table(table))
del table
row = types.SimpleNamespace(columns=described, blob_key="ds_1", row_count=rows)
prepared_data.datasets.get = lambda *_: row

class NoDatabase:
    def reading(self):
        import contextlib
        return contextlib.nullcontext()

spec = ResolvedSpec.model_validate({
    "dataset_id": "ds_1", "targets": ["y"], "name": "y", "activation": "identity",
    "inputs": [f"x{index}" for index in range(inputs)], "cost": "half_squared_error",
    "solver": {"name": "closed_form", "reason": ""}, "task": "regression",
    "regularization": {"l2": 0.0},
    "in_memory": sys.argv[2] == "True",
})
pa_before = pa.default_memory_pool().bytes_allocated()
tracemalloc.start()
data = prepared_data.prepare(NoDatabase(), blobs, "owner", spec)
*_, last = train(data.training_data, plan_of(spec))
scores = part_scores(spec, data, last)
assert abs(last.layer.w[0, 1] - 1) < 0.1, last.layer.w
print(tracemalloc.get_traced_memory()[1], pa.default_memory_pool().max_memory() - pa_before)
"""


def test_a_streamed_closed_form_never_holds_the_table(tmp_path: Path) -> None:
    """Beside numpy's and Arrow's own memory there is none: nothing is mapped."""
    table_bytes = 100_000 * 61 * 8
    folder = tmp_path / "blobs"

    streamed, in_memory = (
        subprocess.run(
            [sys.executable, "-c", MEMORY, str(folder), str(held)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        for held in (False, True)
    )

    assert (streamed.returncode, in_memory.returncode) == (0, 0), streamed.stderr + in_memory.stderr
    numpy_bytes, arrow_bytes = map(int, streamed.stdout.split())
    assert arrow_bytes < 3 * stored_table.BATCH_BYTES
    assert numpy_bytes < 0.5 * table_bytes
    assert int(in_memory.stdout.split()[0]) > table_bytes
