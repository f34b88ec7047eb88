"""Gaps, unknown levels, scaled targets, float32, and the ways to hold rows out, over the API."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from app.numeric.activations import Array
from app.numeric.split import split_by
from tests.builders import Api, Json, plane
from tests.jobs.flowers import NUMBERS, encoded, flowers, random_parts

L2 = 0.01
PENALTY: Json = {"regularization": {"l2": L2}}


def test_a_table_with_gaps_is_learned_as_by_ridge_on_its_plain_encoding(api: Api) -> None:
    data = flowers(3)
    length = np.nan_to_num(data.numbers[:, 0], nan=5.0)
    training, validation = random_parts(150)
    x = encoded(data, training)
    peer = Ridge(alpha=L2 * len(training)).fit(x[training], length[training])

    job = api.train(
        api.upload(data.table | {"length": length}),
        ["length"],
        inputs=[*NUMBERS, "island"],
        preprocessing={"missing": "median"},
        **PENALTY,
    )

    for part, rows in (("training", training), ("validation", validation)):
        truth, expected = length[rows], peer.predict(x[rows])
        scores = job["scores"][part]
        assert scores["rows"] == len(rows)
        assert scores["r2"] == pytest.approx(r2_score(truth, expected), rel=1e-9)
        assert scores["mse"] == pytest.approx(mean_squared_error(truth, expected), rel=1e-9)
        assert scores["mae"] == pytest.approx(mean_absolute_error(truth, expected), rel=1e-9)
        assert scores["confusion"] is None
    assert predicted(api, job, data.rows(validation)) == pytest.approx(peer.predict(x[validation]))


def test_the_cost_of_the_scores_is_what_training_lowered(api: Api) -> None:
    job = api.train(api.upload(plane(noise=1.0)), ["y"], **PENALTY)

    parameters = api.get(f"/v1/models/{job['model_id']}/parameters", space="scaled")
    scores = job["scores"]
    penalty = L2 / 2 * np.square(parameters["w"]).sum()
    assert scores["training"]["cost"] == pytest.approx(scores["training"]["mse"] / 2 + penalty)
    assert scores["validation"]["cost"] == pytest.approx(scores["validation"]["mse"] / 2)


def test_scores_after_early_stopping_are_those_of_the_layer_that_was_kept(api: Api) -> None:
    data, random = plane(40), np.random.default_rng(0)
    noise = {f"n{index}": random.normal(size=40) for index in range(25)}

    job = api.train(
        api.upload({**data, **noise, "y": data["y"] + random.normal(size=40)}),
        ["y"],
        solver={"name": "momentum", "learning_rate": 0.02},
        early_stopping={"patience": 3},
        validation={"fraction": 0.4},
    )

    assert job["stop_reason"] == "early_stopping"
    scores = job["scores"]
    assert scores["training"]["cost"] == pytest.approx(scores["training"]["mse"] / 2)
    assert scores["validation"]["cost"] == pytest.approx(scores["validation"]["mse"] / 2)
    assert scores["validation"]["cost"] < job["progress"]["validation_cost"]


@pytest.mark.parametrize("scaling", ["standard", "min_max"])
def test_scaled_targets_of_a_linear_layer_change_no_prediction(api: Api, scaling: str) -> None:
    table = plane(80, noise=1.0)
    table["y"] = 1e4 * table["y"] + 3e6
    dataset_id = api.upload(table)
    rows = [{"a": a, "c": c} for a, c in zip(table["a"], table["c"], strict=True)]

    plain = api.train(dataset_id, ["y"], **PENALTY)
    scaled = api.train(dataset_id, ["y"], preprocessing={"target_scaling": scaling}, **PENALTY)

    assert predicted(api, scaled, rows) == pytest.approx(predicted(api, plain, rows), rel=1e-9)
    for name in ("mse", "mae", "r2"):
        of_scaled, of_plain = (job["scores"]["validation"][name] for job in (scaled, plain))
        assert of_scaled == pytest.approx(of_plain, rel=1e-9)


def test_raw_parameters_of_a_scaled_linear_layer_are_in_raw_units(api: Api) -> None:
    model = api.model_id(api.upload(plane()), ["y"], preprocessing={"target_scaling": "standard"})

    raw = api.get(f"/v1/models/{model}/parameters", space="raw")
    scaled = api.get(f"/v1/models/{model}/parameters", space="scaled")
    output = api.get(f"/v1/models/{model}")["outputs"][0]

    assert raw["w"][0] == pytest.approx([2.0, -3.0], rel=1e-9)
    assert raw["b"] == pytest.approx([5.0], rel=1e-9)
    assert (raw["offset"], raw["scale"]) == ([0.0], [1.0])
    assert (scaled["offset"], scaled["scale"]) == ([output["offset"]], [output["scale"]])
    assert output["offset"] != 0.0


def test_a_curved_layer_with_a_scaled_target_predicts_in_units_of_the_target(api: Api) -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = 300 + 50 / (1 + np.exp(-(x @ [1.5, -0.7])))
    dataset_id = api.upload({"a": x[:, 0], "c": x[:, 1], "y": y})

    job = api.train(
        dataset_id, ["y"], activation="sigmoid", preprocessing={"target_scaling": "min_max"}
    )
    told = predicted(api, job, [{"a": a, "c": c} for a, c in x.tolist()])
    parameters = api.get(f"/v1/models/{job['model_id']}/parameters")

    assert job["scores"]["validation"]["r2"] > 0.99
    z = x @ np.array(parameters["w"])[0] + parameters["b"][0]
    by_hand = parameters["offset"][0] + parameters["scale"][0] / (1 + np.exp(-z))
    assert told == pytest.approx(by_hand, rel=1e-12)
    assert np.sqrt(np.mean((told - y) ** 2)) < 2.0


def test_float32_rows_give_nearly_the_layer_of_float64_rows(api: Api) -> None:
    dataset_id = api.upload(flowers(3).table)
    options: Json = {"preprocessing": {"missing": "mean"}, **PENALTY}

    jobs = [
        api.train(dataset_id, ["species"], dtype=dtype, **options)
        for dtype in ("float64", "float32")
    ]

    w = [
        np.array(api.get(f"/v1/models/{job['model_id']}/parameters", space="scaled")["w"])
        for job in jobs
    ]
    assert w[1] == pytest.approx(w[0], abs=1e-3)
    assert not (w[1] == w[0]).all()
    losses = [job["scores"]["validation"]["log_loss"] for job in jobs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_groups_are_held_out_whole_and_as_documented(api: Api) -> None:
    table = plane(60, noise=1.0)
    groups = np.array([f"g{index}" for index in np.random.default_rng(1).integers(0, 12, 60)])
    codes = np.unique(groups, return_inverse=True)[1]
    parts = split_by("group", 60, fraction=0.3, seed=4, column=codes)

    job = api.train(
        api.upload(table | {"who": groups}),
        ["y"],
        validation={"method": "group", "column": "who", "fraction": 0.3},
        seed=4,
    )

    assert job["spec"]["inputs"] == ["a", "c"]
    assert_trained_on(job, table, parts.training, parts.validation)


def test_the_last_rows_by_a_key_are_held_out(api: Api) -> None:
    table = plane(50, noise=1.0)
    moment = np.random.default_rng(2).permutation(50) * 0.5
    order = np.argsort(moment)

    by_key = api.train(
        api.upload(table | {"moment": moment}),
        ["y"],
        validation={"method": "chronological", "column": "moment", "fraction": 0.1},
    )
    by_row = api.train(
        api.upload(table), ["y"], validation={"method": "chronological", "fraction": 0.1}
    )

    assert_trained_on(by_key, table, order[:45], order[45:])
    assert_trained_on(by_row, table, np.arange(45), np.arange(45, 50))


@pytest.mark.parametrize(
    ("held_out", "trains"),
    [("1", "0"), ("true", "false"), ("Test", "train"), ("validation", "False")],
)
def test_a_column_may_mark_the_rows_to_hold_out(api: Api, held_out: str, trains: str) -> None:
    table = plane(30, noise=1.0)
    marked = np.random.default_rng(3).random(30) < 0.3

    job = api.train(
        api.upload(table | {"part": np.where(marked, held_out, trains)}),
        ["y"],
        validation={"method": "column", "column": "part"},
    )

    assert_trained_on(job, table, np.flatnonzero(~marked), np.flatnonzero(marked))


@pytest.mark.parametrize(("cell", "told"), [("perhaps", "'perhaps'"), ("2", "2")])
def test_a_mark_that_says_nothing_fails_the_job_with_its_row(
    api: Api, cell: str, told: str
) -> None:
    others = "0" if cell == "2" else "test"
    part = [others, cell, *[others] * 28]

    job = api.train(
        api.upload(plane(30) | {"part": part}),
        ["y"],
        validation={"method": "column", "column": "part"},
    )

    assert (job["state"], job["error"]["code"]) == ("failed", "unsuitable_data")
    assert f"'part' says {told} in row 2" in job["error"]["detail"]


def test_weights_that_are_all_on_rows_held_out_fail_the_job(api: Api) -> None:
    job = api.train(
        api.upload(plane(30) | {"weight": (np.arange(30) >= 20).astype(int)}),
        ["y"],
        validation={"method": "chronological", "fraction": 1 / 3},
        sample_weight="weight",
    )

    assert (job["state"], job["error"]["code"]) == ("failed", "unsuitable_data")


def test_rows_held_out_without_a_weight_have_scores_and_no_cost(api: Api) -> None:
    job = api.train(
        api.upload(plane(30) | {"weight": (np.arange(30) < 20).astype(int)}),
        ["y"],
        validation={"method": "chronological", "fraction": 1 / 3},
        sample_weight="weight",
    )

    assert job["scores"]["validation"]["cost"] is None
    assert job["scores"]["validation"]["r2"] == pytest.approx(1.0)
    assert job["progress"]["validation_cost"] is None


def test_a_scaled_target_has_no_log_loss(api: Api) -> None:
    table = plane(30, noise=1.0)
    dataset_id = api.upload(table | {"y": table["y"] - table["y"].min() + 100})

    job = api.train(
        dataset_id,
        ["y"],
        activation="sigmoid",
        cost="cross_entropy",
        preprocessing={"target_scaling": "min_max"},
    )

    assert job["state"] == "succeeded", job["error"]
    assert job["spec"]["task"] == "regression"
    assert job["scores"]["validation"]["log_loss"] is None


def test_a_job_tells_what_its_bits_depend_on(api: Api) -> None:
    job = api.queue(api.upload(plane()), ["y"])
    api.run(job["id"], 1)

    environment = api.get(f"/v1/jobs/{job['id']}")["environment"]

    assert job["environment"] is None
    assert (environment["blas_threads"], environment["numpy"]) == (1, np.__version__)
    assert environment["blas"][0].keys() == {"name", "version", "architecture"}


def assert_trained_on(job: Json, table: Json, training: Any, validation: Any) -> None:
    """By the scores of ordinary least squares on exactly these rows."""
    assert job["state"] == "succeeded", job["error"]
    x, y = np.column_stack([table["a"], table["c"]]), table["y"]
    peer = Ridge(alpha=0.0).fit(x[training], y[training])
    for part, rows in (("training", training), ("validation", validation)):
        assert job["scores"][part]["rows"] == len(rows)
        expected = mean_squared_error(y[rows], peer.predict(x[rows]))
        assert job["scores"][part]["mse"] == pytest.approx(expected, rel=1e-9)


def predicted(api: Api, job: Json, rows: list[Json]) -> Array:
    assert job["state"] == "succeeded", job["error"]
    told = api.post(f"/v1/models/{job['model_id']}/predict", {"rows": rows})["predictions"]
    return np.array([next(iter(row["y"].values())) for row in told])
