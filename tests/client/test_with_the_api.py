"""The client and the real API understand each other."""

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.client import Backsolve, Conflict, Invalid, Job, JobCancelled, Model, NotFound, TooLarge
from app.settings import Settings
from tests.builders import Api
from tests.servers import ROOT, serving

X = np.random.default_rng(7).normal(size=(60, 2))
Y = X @ [2.0, -1.0] + 3.0


@pytest.fixture
def job(api: Api, backsolve: Backsolve) -> Job:
    """A finished job on y = 2 x1 - x2 + 3."""
    dataset = backsolve.upload_table(x=X, y=Y, name="plane")
    job = backsolve.train(dataset.id, "y", validation={"fraction": 0.0})
    api.run(job.id, 1)
    return job.wait(30)


@pytest.fixture
def model(job: Job) -> Model:
    return job.model()


def test_a_csv_file_becomes_a_dataset(backsolve: Backsolve, tmp_path: Path) -> None:
    path = tmp_path / "mixes.csv"
    path.write_text("age,kind\n1,a\n3,b\n3,b\n")

    for source in (path, str(path)):
        dataset = backsolve.upload(source)

        assert (dataset.name, dataset.row_count) == ("mixes", 3)
        assert dataset.columns["age"].maximum == 3.0
        assert [(level.value, level.count) for level in dataset.columns["kind"].levels] == [
            ("b", 2),
            ("a", 1),
        ]
    assert backsolve.dataset(dataset.id) == dataset


def test_bytes_and_json_become_datasets(backsolve: Backsolve, tmp_path: Path) -> None:
    path = tmp_path / "rows.JSON"
    path.write_text('{"rows": [{"a": 1}, {"a": 2}]}')

    from_bytes = backsolve.upload(b"a\n1\n2\n", name="two")
    from_json = backsolve.upload(path)

    assert from_bytes.name == "two"
    assert from_bytes.columns == from_json.columns
    assert list(backsolve.rows(from_bytes.id)) == [{"a": 1.0}, {"a": 2.0}]


def test_a_table_in_memory_becomes_a_dataset(backsolve: Backsolve) -> None:
    by_column = backsolve.upload_table(columns={"a": np.array([1.0, np.nan]), "b": ["u", "v"]})
    by_row = backsolve.upload_table(rows=[{"a": 1, "b": "u"}, {"a": None, "b": "v"}])
    by_matrix = backsolve.upload_table(x=np.eye(3), y=np.ones((3, 2)), y_names=["u", "v"])

    assert by_column.columns == by_row.columns
    assert by_column.columns["a"].missing == 1
    assert list(by_matrix.columns) == ["x1", "x2", "x3", "u", "v"]


def test_lists_are_walked_newest_first(backsolve: Backsolve) -> None:
    ids = [backsolve.upload(b"a\n1\n").id for _ in range(103)]

    assert [dataset.id for dataset in backsolve.datasets()] == ids[::-1]


def test_a_deleted_dataset_is_gone(backsolve: Backsolve) -> None:
    dataset = backsolve.upload(b"a\n1\n")

    backsolve.delete_dataset(dataset.id)

    with pytest.raises(NotFound) as caught:
        backsolve.dataset(dataset.id)
    assert caught.value.code == "dataset_not_found"
    assert caught.value.request_id


def test_training_finds_the_plane(backsolve: Backsolve, job: Job, model: Model) -> None:
    parameters = backsolve.parameters(model.id)

    assert parameters.w == pytest.approx(np.array([[2.0, -1.0]]))
    assert parameters.b == pytest.approx([3.0])
    assert parameters.inputs == ("x1", "x2")
    assert job.scores == model.scores
    assert job.ended_at is not None
    assert job.ended_at >= job.created_at
    assert [known.id for known in backsolve.models()] == [model.id]
    assert [known.id for known in backsolve.jobs(state="succeeded")] == [job.id]


def test_scaled_parameters_are_those_of_scaled_inputs(backsolve: Backsolve, model: Model) -> None:
    scaled = backsolve.parameters(model.id, space="scaled")

    scale = np.array([column.scale for column in model.inputs.values()])
    assert scaled.w == pytest.approx(np.array([[2.0, -1.0]]) * scale)


def test_the_loss_history_comes_as_arrays(job: Job) -> None:
    history = job.history()

    assert history.epoch[-1] == history.epoch_count - 1
    assert history.cost[-1] < history.cost[0]
    assert np.isnan(history.validation_cost).all()


def test_prediction_takes_rows_and_matrices(backsolve: Backsolve, model: Model) -> None:
    by_row = backsolve.predict(model.id, rows=[{"x1": 1.0, "x2": 1.0}, {"x1": 0.0, "x2": 0.0}])
    by_matrix = backsolve.predict(model.id, x=X)

    assert by_row.y["y"] == pytest.approx([4.0, 3.0])
    assert [row.y["y"] for row in by_row] == by_row.y["y"].tolist()
    assert by_matrix.y["y"] == pytest.approx(Y)
    assert len(by_matrix) == len(X)


def test_labels_come_with_probabilities_and_scores(api: Api, backsolve: Backsolve) -> None:
    size = np.where(np.arange(60) % 7 == 2, np.nan, X[:, 0])
    kind = np.where(Y + np.sin(np.arange(60)) > 3, "large", "small")
    dataset = backsolve.upload_table(columns={"size": size, "kind": kind})
    job = backsolve.train(
        dataset.id, "kind", preprocessing={"missing": "mean"}, regularization={"l2": 0.01}
    )
    api.run(job.id, 1)
    model = job.wait(30).model()

    told = backsolve.predict(model.id, rows=[{"size": 2.0}, {"size": None}])

    assert model.classes is not None
    assert (model.classes.target, model.classes.levels) == ("kind", ("large", "small"))
    assert list(model.outputs) == ["kind=small"]
    assert model.inputs["size"].fill == pytest.approx(model.inputs["size"].mean)
    assert told.rows[0].label == "large"
    for row in told:
        assert row.probabilities is not None
        assert sum(row.probabilities.values()) == pytest.approx(1.0)
    scores = model.scores["training"]
    assert scores["rows"] == 48
    assert scores["confusion"] is not None
    assert sum(map(sum, scores["confusion"])) == 48


def test_a_scaled_target_has_its_scale_beside_the_parameters(
    api: Api, backsolve: Backsolve
) -> None:
    dataset = backsolve.upload_table(x=X, y=Y)
    job = backsolve.train(dataset.id, "y", preprocessing={"target_scaling": "standard"})
    api.run(job.id, 1)
    model = job.wait(30).model()

    raw = backsolve.parameters(model.id)
    scaled = backsolve.parameters(model.id, space="scaled")

    assert raw.w == pytest.approx(np.array([[2.0, -1.0]]))
    assert (raw.offset.tolist(), raw.scale.tolist()) == ([0.0], [1.0])
    assert scaled.scale == pytest.approx([Y.std()])
    assert model.outputs["y"].offset == scaled.offset[0]


def test_a_mistake_in_a_spec_is_pointed_at(backsolve: Backsolve) -> None:
    dataset = backsolve.upload(b"a,b\n1,2\n2,3\n")

    with pytest.raises(Invalid) as caught:
        backsolve.train(dataset.id, "b", solver={"epochs": 0, "nme": "x"})

    assert {fault.pointer for fault in caught.value.errors} == {"/solver/epochs", "/solver/nme"}


def test_a_spec_is_resolved_without_a_job(backsolve: Backsolve) -> None:
    dataset = backsolve.upload(b"a,b\n1,2\n2,3\n")

    spec = backsolve.resolve(dataset.id, ["b"])

    assert spec["inputs"] == ["a"]
    assert list(backsolve.jobs()) == []


class Losing(httpx.BaseTransport):
    """The network, but for the first answer to each POST: that is lost on its way."""

    def __init__(self) -> None:
        self.network = httpx.HTTPTransport()
        self.lost = set[str]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.network.handle_request(request)
        if request.method == "POST" and request.url.path not in self.lost:
            self.lost.add(request.url.path)
            response.close()
            raise httpx.ReadError("reset", request=request)
        return response

    def close(self) -> None:
        self.network.close()


@pytest.mark.usefixtures("pauses")
def test_a_table_and_a_job_whose_answers_were_lost_are_there_once(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n2,3\n")
    losing = Losing()

    with Backsolve(str(api.client.base_url), transport=losing) as backsolve:
        dataset = backsolve.upload(path)
        job = backsolve.train(dataset.id, "b")

        assert losing.lost == {"/v1/datasets", "/v1/jobs"}
        assert [known.id for known in backsolve.datasets()] == [dataset.id]
        assert [known.id for known in backsolve.jobs()] == [job.id]


def test_a_job_is_cancelled_once(backsolve: Backsolve) -> None:
    dataset = backsolve.upload(b"a,b\n1,2\n2,3\n")

    job = backsolve.train(dataset.id, "b").cancel()

    assert job.state == "cancelled"
    with pytest.raises(JobCancelled):
        job.wait(1)


def test_a_finished_job_cannot_be_cancelled(job: Job) -> None:
    with pytest.raises(Conflict):
        job.cancel()


def test_an_upload_beyond_the_limit_is_told_while_it_is_sent(
    settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"a\n" + b"1\n" * 4_000_000)
    small = settings.model_copy(update={"upload_bytes_max": 1000})

    with serving(small) as url, Backsolve(url) as backsolve, pytest.raises(TooLarge):
        backsolve.upload(path)


def test_the_folder_works_when_it_is_copied(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "app" / "client", tmp_path / "elsewhere")
    script = "import elsewhere, sys; elsewhere.Backsolve().close(); assert 'app' not in sys.modules"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
